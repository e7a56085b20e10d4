"""What a command does not say, given beside it, and what is noted while it is read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from dse.imports.arguments import Arguments
from simulator.errors import SpecError


@dataclass
class Settings:
    """Beside a command: its hardware, and what overrides it.

    Attributes
    ----------
    accelerator
        Catalogued accelerator that it runs on.
    model, weights
        Instead of what the command says; empty if not given.
    acceptance
        Share of drafted tokens that are accepted.
    notes
        Sentences about what was read.
    tiers
        Memories of the clients behind their prefix caches, 1e9 bytes.
    """

    accelerator: str
    model: str = ""
    weights: str = ""
    acceptance: float | None = None
    notes: list[str] = field(default_factory=list)
    tiers: list[float] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        """Add a sentence, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def layers(self, text: str) -> list[int]:
        """Return the layers of pipeline stages."""
        try:
            return [int(each) for each in text.split(",")]
        except ValueError:
            raise SpecError(f"layers of pipeline stages: must be numbers with commas, given {text!r}") from None

    def accepted(self, flag: str) -> float:
        """Return the share of drafted tokens that are accepted, which no argument tells.

        Raises
        ------
        SpecError
            If it was not given.
        """
        if self.acceptance is None:
            raise SpecError(
                f"{flag}: how many drafted tokens are accepted is not in the command; give --acceptance, e.g. 0.7 "
                "(vLLM counts them: vllm:spec_decode_num_accepted_tokens over vllm:spec_decode_num_draft_tokens)"
            )
        return self.acceptance

    def prefix_cache(self, pool: dict[str, Any], wanted: bool, *, said: bool, engine: str) -> None:
        """Give a pool a prefix cache, where the simulator has one."""
        if not wanted:
            return
        if pool.get("role") == "decode" or "speculation" in pool:
            why = (
                "decode clients read no prompts" if pool.get("role") == "decode" else "it goes without speculation here"
            )
            self.say(f"prefix cache: on in {engine}, left out: {why}.")
            return
        pool["prefix_cache"] = {}
        if not said:
            self.say(f"prefix cache: not mentioned; it is on by default in {engine}.")

    def tier(self, memory_gb: float) -> None:
        """Note a memory of each client behind its prefix cache."""
        self.tiers.append(memory_gb)

    def refuse_variables(self, arguments: Arguments, read: Collection[str]) -> None:
        """Refuse variables of the shell where a value is needed.

        Raises
        ------
        SpecError
            Naming the flag.
        """
        for name in read:
            value = arguments.values.get(name)
            if isinstance(value, str) and "$" in value:
                raise SpecError(f"{name}: {value} is a variable of the shell: put its value in its place")

    def left_out(self, arguments: Arguments, read: Collection[str], engine: str) -> None:
        """Say which arguments have no place in a deployment."""
        rest = [name for name in arguments.values if name not in read]
        if rest:
            self.say(f"no part of a deployment, left out: {', '.join(rest)}.")
        if arguments.unknown:
            self.say(f"not known to {engine}, left out: {', '.join(arguments.unknown)}.")
