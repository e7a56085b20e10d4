"""The one error a person can cause, and how it is worded."""

from __future__ import annotations

from collections.abc import Iterable


class SpecError(ValueError):
    """Input that cannot be used: a wrong field, value, file or combination.

    The message is one line that names the field or file, what was given and what is allowed;
    command lines print it as it is and end with exit code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.replace("\n", "\\n").replace("\r", "\\r"))


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
