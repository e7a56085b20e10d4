"""Changes to nested data by the path of what is changed: ``deployment.pools.0.tp`` or ``deployment.pools[0].tp``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from simulator.errors import SpecError

Data = dict[str, Any]

_INDEX = re.compile(r"\[(\d+|\*)\]")


def parts_of(path: str) -> list[str]:
    """Return the parts of a path: names of fields, places in lists from 0, and ``*`` for every place of a list.

    Raises
    ------
    SpecError
        If a part is empty.
    """
    parts = _INDEX.sub(r".\1", path).split(".")
    if not all(parts):
        raise SpecError(
            f"set: given the path {path!r}; allowed: names of fields and places in lists, with a dot between, such as "
            "workload.classes.*.share"
        )
    return parts


def check_root(path: str, allowed: Sequence[str], example: str) -> None:
    """Check that a path begins where changes are allowed.

    Parameters
    ----------
    path
        To be checked.
    allowed
        Names of fields that it may start with.
    example
        A path that would do.

    Raises
    ------
    SpecError
        If it starts with another field, or is not a path at all.
    """
    if parts_of(path)[0] not in allowed:
        *others, last = allowed
        raise SpecError(f"set: given the path {path!r}; allowed: {', '.join(others)} or {last}, such as {example}")


def with_changes(data: Data, changes: Data) -> Data:
    """Return a copy of nested data with the values of some paths replaced, one after the other.

    Fields that are missing on the way are made; ``None`` takes a field, or a place of a list, away.

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
    # From the last place on: what stands behind one that is taken away moves up.
    for key in reversed(_keys(here, first, path)):
        if not rest:
            if value is not None:
                here[key] = deepcopy(value)
            elif isinstance(here, dict):
                here.pop(key, None)
            else:
                del here[key]
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
