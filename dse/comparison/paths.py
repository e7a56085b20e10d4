"""Places inside a deployment and workload, written ``deployment.pools.0.tp`` or ``deployment.pools[0].tp``."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any, Final

from simulator.errors import SpecError

Data = dict[str, Any]

#: What a path may start with.
ROOTS: Final = ("deployment", "workload")

_INDEX = re.compile(r"\[(\d+|\*)\]")


def parts_of(path: str) -> list[str]:
    """Return the parts of a path: names of fields, places in lists from 0, and ``*`` for every place of a list.

    Raises
    ------
    SpecError
        If a part is empty or the first one is neither ``deployment`` nor ``workload``.
    """
    parts = _INDEX.sub(r".\1", path).split(".")
    if not all(parts) or parts[0] not in ROOTS or len(parts) < 2:
        raise SpecError(
            f"set: given the path {path!r}; allowed: deployment or workload, then names and places in lists, "
            "such as deployment.pools.0.clients or workload.classes.*.share"
        )
    return parts


def with_changes(data: Data, changes: Data) -> Data:
    """Return a copy of nested data with the values of some paths replaced, one after the other.

    Fields that are missing on the way are made; ``None`` takes a field away.

    Raises
    ------
    SpecError
        If a path leads into a scalar or to a place that a list does not have.
    """
    changed = deepcopy(data)
    for path, value in changes.items():
        _put(changed, parts_of(path), value, path)
    return changed


def _put(here: Any, parts: list[str], value: Any, path: str) -> None:
    """Put a value where the parts of a path lead from here on."""
    first, rest = parts[0], parts[1:]
    for key in _keys(here, first, path):
        if not rest:
            if value is None and isinstance(here, dict):
                here.pop(key, None)
            else:
                here[key] = deepcopy(value)
            continue
        if isinstance(here, dict) and here.get(key) is None:
            here[key] = {}
        _put(here[key], rest, value, path)


def _keys(here: Any, part: str, path: str) -> list[Any]:
    """Return the keys or places of a dictionary or list that a part of a path names."""
    if isinstance(here, list):
        if part == "*":
            return list(range(len(here)))
        if part.isdigit() and int(part) < len(here):
            return [int(part)]
        allowed = f"0 to {len(here) - 1}, or *" if here else "none, as the list is empty"
        raise SpecError(f"set: {path}: no place {part!r} in a list; allowed: {allowed}")
    if isinstance(here, dict):
        return [part]
    raise SpecError(f"set: {path}: {part!r} cannot be set in {here!r}, which has no fields")
