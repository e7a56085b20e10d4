"""The flags of one version of a command, read from the lists beside this file."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, NoReturn

from simulator.errors import SpecError

COMMANDS: Final = {
    "vllm": ("vllm serve", "vllm-0.33.0.json"),
    "vllm-bench": ("vllm bench serve", "vllm-bench-0.33.0.json"),
    "vllm-router": ("vllm-router", "vllm-router-0.1.17.json"),
    "sglang": ("python -m sglang.launch_server", "sglang-0.5.23.json"),
    "sglang-router": ("python -m sglang_router.launch_router", "sglang-router-0.3.2.json"),
}
"""Commands by name: how they are started, and the file of their flags."""

_TYPES: Final[Mapping[str, Any]] = {"int": int, "float": float, "json": json.loads, "str": str}


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes
    ----------
    name
        Its spelling, e.g. ``--max-num-seqs``.
    kind
        ``switch`` (no value), ``toggle`` (a switch with a ``--no-`` form), ``int``, ``float``, ``json`` or ``str``.
    several
        Whether it takes several values.
    choices
        Allowed values; empty if any.
    """

    name: str
    kind: str
    several: bool = False
    choices: tuple[str | int, ...] = ()

    @property
    def valued(self) -> bool:
        """Whether a value follows it."""
        return self.kind not in ("switch", "toggle")


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        raise SpecError(f"{self.prog}: {message}")


@dataclass(frozen=True)
class FlagList:
    """The flags of one version of a command.

    Attributes
    ----------
    program
        How it is started, e.g. ``vllm serve``.
    package, version
        The package on PyPI that has it.
    flags
        By spelling; other spellings of the same flag lead to it too.
    """

    program: str
    package: str
    version: str
    flags: Mapping[str, Flag]

    def find(self, spelling: str) -> tuple[Flag, bool] | None:
        """Return the flag of a spelling and whether it is turned on; None if this version does not know it.

        vLLM takes underscores for hyphens, so that both are known here.
        """
        plain = spelling.replace("_", "-") if spelling.startswith("--") else spelling
        if plain in self.flags:
            flag = self.flags[plain]
            opposite = flag.kind == "toggle" and plain.startswith("--disable") != flag.name.startswith("--disable")
            return flag, not opposite
        if plain.startswith("--no-") and (positive := self.find(f"--{plain[5:]}")) and positive[0].kind == "toggle":
            return positive[0], not positive[1]
        # As argparse does: the beginning of one flag alone stands for it.
        begun = {flag for name, flag in self.flags.items() if plain.startswith("--") and name.startswith(plain)}
        return (begun.pop(), True) if len(begun) == 1 else None

    def parse(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Return the values of arguments by flag, parsed as the engine parses them.

        Parameters
        ----------
        arguments
            Flags and values, without the program and without positional arguments.

        Raises
        ------
        SpecError
            If a flag is not known to this version, or a value is none of its kind.
        """
        parser = _Parser(prog=f"{self.program} {self.version}", allow_abbrev=False, add_help=False)
        for flag in dict.fromkeys(self.flags.values()):
            spellings = [
                flag.name,
                *(each for each, is_of in self.flags.items() if is_of == flag and each != flag.name),
            ]
            if flag.kind == "toggle":
                parser.add_argument(*spellings, dest=flag.name, action=argparse.BooleanOptionalAction, default=None)
            elif flag.kind == "switch":
                parser.add_argument(*spellings, dest=flag.name, action="store_true", default=None)
            else:
                kind: dict[str, Any] = {"type": _TYPES[flag.kind], "choices": flag.choices or None}
                if flag.several:
                    # Flags such as --prefill take several values and are given several times.
                    kind |= {"nargs": "+", "action": "extend"}
                parser.add_argument(*spellings, dest=flag.name, default=None, **kind)
        found = vars(parser.parse_args(list(arguments)))
        return {name: value for name, value in found.items() if value is not None}


@functools.cache
def flag_list(command: str) -> FlagList:
    """Return the flags of a command, one of :data:`COMMANDS`."""
    program, file = COMMANDS[command]
    data = json.loads(resources.files("dse.export.parsers").joinpath(file).read_text(encoding="utf-8"))
    own = {name: _flag(name, what) for name, what in data["flags"].items() if isinstance(what, list)}
    others = {name: own[what] for name, what in data["flags"].items() if isinstance(what, str)}
    return FlagList(program, data["package"], data["version"], {**own, **others})


def _flag(name: str, what: list[Any]) -> Flag:
    kind = what[0].removesuffix("+")
    return Flag(name, kind, what[0].endswith("+"), tuple(what[1]) if len(what) > 1 else ())
