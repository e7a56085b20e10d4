"""Choices between things that have more than one number, such as links: a person names them, a design has the name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from search_spaces.design import Design
from search_spaces.dimension import Value
from simulator.errors import SpecError

T = TypeVar("T")


def chosen(design: Design, name: str, alternatives: Mapping[str, T]) -> T | None:
    """Return what a design chose by name; None if the dimension is not active.

    Raises
    ------
    SpecError
        If there is no such alternative: the space that the design belongs to was not given.
    """
    if name not in design:
        return None
    if design[name] not in alternatives:
        known = ", ".join(alternatives) or "none"
        raise SpecError(f"{name}: given {design[name]!r}; alternatives of this space: {known}")
    return alternatives[design.text(name)]


def name_of(name: str, given: T, alternatives: Mapping[str, T]) -> dict[str, Value]:
    """Return the choice of a dimension that leads to what is given; nothing if none does."""
    return next(({name: each} for each, alternative in alternatives.items() if alternative == given), {})
