"""What an export consists of, and the account of what became of every field of the design."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dse.export.safe_names import one_line
from simulator import Deployment


@dataclass(frozen=True)
class Exported:
    """Files that deploy a design, and what they do not say.

    Attributes
    ----------
    files
        Content by name, relative to a folder.
    notes
        Sentences: what stands for something else, what the target cannot do, what is left to its defaults.
    expressed
        Fields of the deployment that the files determine, such as ``pools.main.tp``.
    noted
        Fields, or what they are part of, that notes account for.
    """

    files: Mapping[str, str]
    notes: tuple[str, ...]
    expressed: frozenset[str] = frozenset()
    noted: frozenset[str] = frozenset()


@dataclass
class Account:
    """Keeps what became of each field, so that none is dropped in silence."""

    deployment: Deployment
    expressed: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def express(self, *names: str) -> None:
        """Note that the files determine these fields."""
        self.expressed.update(names)

    def say(self, sentence: str, *names: str) -> None:
        """Add a sentence, once, as one line; it accounts for these fields and all within them."""
        self.told.update(names)
        sentence = one_line(sentence)
        if sentence not in self.notes:
            self.notes.append(sentence)

    def is_told(self, name: str) -> bool:
        """Return whether the files determine a field, or a note accounts for it or for what it is part of."""
        parts = name.split(".")
        return name in self.expressed or any(".".join(parts[:end]) in self.told for end in range(1, len(parts) + 1))

    def close(self, target: str) -> None:
        """Say of every other field that differs from its default that the target has no counterpart."""
        for name, value in settings_of(self.deployment):
            if not self.is_told(name):
                self.say(f"{name}: {value} has no counterpart in {target}; it is left out.", name)


def settings_of(deployment: Deployment) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a deployment that are not at their default, with their values.

    Pools, services and tiers go by their names: ``pools.main.batching.order``.
    """
    data = deployment.model_dump(mode="json", exclude_defaults=True)
    # The seed of a simulation is no part of what runs.
    data.pop("seed", None)
    yield from _leaves("", data)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        if not value:
            yield name, "given"
        for key, each in value.items():
            yield from _leaves(f"{name}.{key}" if name else key, each)
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        for number, each in enumerate(value):
            # A pool with the default name has none in the dump; its stage is not its name.
            key = each.get("name", "main" if name == "pools" else each.get("stage", number))
            yield from _leaves(f"{name}.{key}", {**each} or "given")
    else:
        yield name, value
