"""Texts of a design, which may be any, where they must not be any: in comments, names of files, names in a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

MOST_CHARACTERS: Final = 50
"""Of a name: it fits a label of Kubernetes, also behind what the cluster adds to it."""


def one_line(text: str) -> str:
    """Return text without what ends a line, and without other characters that cannot be printed: blanks stand there."""
    return "".join(each if each.isprintable() else " " for each in text)


def file_names(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return for each name one that a file may have: of letters, digits, ``.``, ``_`` and ``-``, no two alike.

    Parameters
    ----------
    names
        Names, no two the same. Those that files may have are kept.
    taken
        Names that others have already.
    """
    return _different(names, taken, lambda name: _of("A-Za-z0-9._-", name, ends=".-"))


def dns_names(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return for each name one that Kubernetes takes, also for a Service: see :func:`file_names`."""
    return _different(names, taken, _dns_name)


def _dns_name(name: str) -> str:
    found = _of("a-z0-9-", name.lower(), ends="-")
    # The name of a Service begins with a letter.
    return found if found[0].isalpha() else _of("a-z0-9-", f"x-{found}", ends="-")


def _of(allowed: str, name: str, ends: str) -> str:
    """Return a name of these characters that neither begins nor ends with those."""
    kept = re.sub(f"[^{allowed}]+", "-", name).strip(ends)
    return kept[:MOST_CHARACTERS].strip(ends) or "unnamed"


def _different(names: Iterable[str], taken: Iterable[str], made: Callable[[str], str]) -> dict[str, str]:
    """Return what is made of names; where it is taken, a number makes the difference."""
    # Some file systems hold "A" and "a" for the same.
    gone = {each.lower() for each in taken}
    found = {}
    for name in names:
        first = free = made(name)
        number = 2
        while free.lower() in gone:
            end = f"-{number}"
            free, number = f"{first[: MOST_CHARACTERS - len(end)]}{end}", number + 1
        gone.add(free.lower())
        found[name] = free
    return found
