"""A command line, each argument with the field of the design that it comes from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dse.export.exported import Account
from dse.export.safe_names import one_line


@dataclass(frozen=True)
class Argument:
    """A flag, its values, and the fields that it comes from."""

    flag: str
    values: tuple[str, ...]
    fields: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The words that stand on the command line."""
        return (self.flag, *self.values)


@dataclass
class Command:
    """A program and its arguments.

    Attributes
    ----------
    program
        Words before the arguments.
    model
        What is served, and whether it is the first word after the program or the value of a flag.
    environment
        Variables to set, with the field that each comes from.
    """

    account: Account
    program: tuple[str, ...]
    arguments: list[Argument] = field(default_factory=list)
    environment: dict[str, tuple[str, str]] = field(default_factory=dict)
    model: tuple[str, ...] = ()

    def add(self, flag: str, value: object, *fields: str) -> None:
        """Add a flag with its value (None: a switch; a list: several) that comes from these fields."""
        values = value if isinstance(value, list) else [] if value is None else [value]
        self.arguments.append(Argument(flag, tuple(map(_text, values)), fields))
        self.account.express(*fields)

    def set(self, variable: str, value: str, source: str) -> None:
        """Set a variable that comes from a field."""
        self.environment[variable] = (value, source)
        self.account.express(source)

    def words(self, *without: str) -> list[str]:
        """Return flags and values, some flags left out."""
        return [word for each in self.arguments if each.flag not in without for word in each.words]

    def line(self) -> str:
        """Return the command as one line."""
        variables = [f"{name}={shlex.quote(value)}" for name, (value, _) in self.environment.items()]
        return " ".join([*variables, shlex.join([*self.program, *self.model, *self.words()])])

    def keywords(self, *without: str) -> dict[str, Any]:
        """Return the arguments by Python names, as an engine's own configuration file takes them."""
        found: dict[str, Any] = {}
        for each in self.arguments:
            if each.flag in without:
                continue
            name = each.flag.removeprefix("--")
            if not each.values:
                found[name.removeprefix("no-").replace("-", "_")] = not name.startswith("no-")
                continue
            try:
                found[name.replace("-", "_")] = json.loads(each.values[0])
            except ValueError:
                found[name.replace("-", "_")] = each.values[0]
        return found

    def commented(self, indent: str) -> str:
        """Return the arguments of a shell array, one a line, each with its fields."""
        rows = [(" ".join([each.flag, *map(shlex.quote, each.values)]), each.fields) for each in self.arguments]
        width = min(max((len(text) for text, _ in rows), default=0), 60)
        return "\n".join(
            f"{indent}{text:<{width}}  # {one_line(', '.join(names))}" if names else f"{indent}{text}"
            for text, names in rows
        )


def _text(value: object) -> str:
    """Return a value as an argument."""
    if isinstance(value, Mapping):
        return json.dumps(value, separators=(",", ":"))
    return f"{value:.15g}" if isinstance(value, float) else str(value)
