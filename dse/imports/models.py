"""The catalogued model of a Hugging Face name."""

from __future__ import annotations

import functools
import re
from typing import Final

from dse.export.names import repository_of
from simulator import catalog
from simulator.errors import SpecError

#: Words of a name that change neither the shape nor the size: tuning, format, date.
_SAYS_NOTHING: Final = re.compile(
    r"^(meta|instruct|chat|it|pt|base|hf|text|fp8|dynamic|quantized|awq|gptq|w8a8|w8a16|w4a16|nvfp4|mxfp4|fp4"
    r"|int8|int4|bf16|fp16|kv|static|\d{4})$"
)


def model_of(name: str) -> str:
    """Return the catalogued model that a name stands for: of a catalogue entry, a repository or a folder.

    Names of fine-tuned and quantised versions lead to the model they are made of.

    Raises
    ------
    SpecError
        If none, or several, are meant.
    """
    if name in catalog.model_names() or name.endswith(".json"):
        return name
    key = _key(name)
    if key in _by_key():
        return _by_key()[key]
    raise SpecError(
        f"model: {name!r} is no catalogued model; say which shape it has: --model NAME (dse list models), or --model "
        "with the path of its config.json"
    )


def precision_of(name: str) -> str | None:
    """Return the precision of weights that a repository's name tells; None if it tells none."""
    text = name.rsplit("/", 1)[-1].lower()
    for pattern, precision in (
        (r"nvfp4|mxfp4|fp4|awq|gptq|int4|w4a", "fp4"),
        (r"fp8", "fp8"),
        (r"w8a8|int8", "int8"),
    ):
        if re.search(pattern, text):
            return precision
    return None


def _key(name: str) -> str:
    words = re.split(r"[-_\s]+", name.rstrip("/").rsplit("/", 1)[-1].lower())
    return "".join(word for word in words if not _SAYS_NOTHING.match(word)).replace(".", "")


@functools.cache
def _by_key() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in catalog.model_names():
        repository = repository_of(name)
        if repository is not None:
            found.setdefault(_key(repository), name)
    return found
