"""The one error a person can cause, and how it is worded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: A message that begins with the name of a field; names of files do, too.
_FIELD_FIRST: Final = re.compile(r"([a-z_][a-z0-9_]*(?:\.[a-z0-9_]+)*): (.+)", re.DOTALL)
_FILES: Final = (".csv", ".gz", ".json", ".jsonl", ".parquet", ".txt", ".yaml", ".yml")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with what a person gave.

    Attributes
    ----------
    field
        Where it stands: names and positions, joined by dots; empty for the whole, or if no one field is at fault.
    message
        What is wrong and what is allowed.
    given
        The value as an error shows it; None if the message shows it, or if it is too long to be shown.
    """

    field: str
    message: str
    given: str | None = None


class SpecError(ValueError):
    """Input that cannot be used: a wrong field, value, file or combination.

    The message is one line that names the field or file, what was given and what is allowed;
    command lines print it as it is and end with exit code 2.

    Parameters
    ----------
    message
        The line.
    problems
        The same in parts; one taken from the message if absent.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message.replace("\n", "\\n").replace("\r", "\\r"))
        self._problems = tuple(problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All that is wrong, one for each field at fault; at least one."""
        if self._problems:
            return self._problems
        found = _FIELD_FIRST.fullmatch(str(self))
        if found and not found[1].endswith(_FILES):
            return (Problem(found[1], found[2]),)
        return (Problem("", str(self)),)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickles: subclasses may ask for more than the message."""
        return _again, (type(self), str(self), vars(self))


def _again(kind: type[SpecError], message: str, state: dict[str, Any]) -> SpecError:
    """Return an unpickled error."""
    error = kind.__new__(kind, message)
    error.args = (message,)
    vars(error).update(state)
    return error


class Overload(SpecError):
    """A load so far beyond a deployment's capacity that serving it takes longer than the clock counts."""


def unknown_name(kind: str, given: str, allowed: Iterable[str]) -> SpecError:
    """Return the error for a name that a catalog or folder does not hold.

    Parameters
    ----------
    kind
        What was looked up, e.g. ``"model"``.
    given
        The name that was not found.
    allowed
        The names that exist; close matches are listed first.
    """
    import difflib

    names = sorted(allowed)
    close = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    return SpecError(f"{kind}: no {given!r}; {hint}known: {', '.join(names)}")
