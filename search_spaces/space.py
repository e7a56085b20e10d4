"""A space of designs: dimensions in order, later ones conditional on earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from search_spaces.design import Design
from search_spaces.dimension import Dimension, Value
from simulator.errors import SpecError


@dataclass(frozen=True)
class Space:
    """Dimensions in an order in which conditions look back; spaces compose with ``|``.

    Examples
    --------
    >>> from search_spaces import Dimension, Space
    >>> a = Space((Dimension("split", (False, True), "…"),))
    >>> b = Space((Dimension("link", ("slow", "fast"), "…", when=("split", (True,))),))
    >>> (a | b).size
    3
    """

    dimensions: tuple[Dimension, ...]

    def __post_init__(self) -> None:
        """Refuse a name twice."""
        names = [dimension.name for dimension in self.dimensions]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(f"search space: dimension {name!r} is given twice")

    @cached_property
    def closed(self) -> tuple[Dimension, ...]:
        """The dimensions, once every condition is known to look back; a part of a space need not be closed.

        Raises
        ------
        SpecError
            If a dimension depends on one that does not come before it.
        """
        seen: list[str] = []
        for dimension in self.dimensions:
            if dimension.when and dimension.when[0] not in seen:
                raise SpecError(
                    f"search space: {dimension.name!r} depends on {dimension.when[0]!r}, "
                    f"which does not come before it; known: {', '.join(seen)}"
                )
            seen.append(dimension.name)
        return self.dimensions

    def __or__(self, other: Space) -> Space:
        """Return the space of both, this one's dimensions first."""
        return Space(self.dimensions + other.dimensions)

    def __getitem__(self, name: str) -> Dimension:
        """Return a dimension by name."""
        for dimension in self.dimensions:
            if dimension.name == name:
                return dimension
        raise KeyError(name)

    def design(self, values: Mapping[str, Value]) -> Design:
        """Return the design of some values, inactive ones dropped.

        Raises
        ------
        SpecError
            If an active dimension has no value or one that is not allowed.
        """
        chosen: dict[str, Value] = {}
        for dimension in self.closed:
            if not dimension.is_active(chosen):
                continue
            allowed = ", ".join(map(str, dimension.values))
            if dimension.name not in values:
                raise SpecError(f"{dimension.name}: missing; allowed: {allowed}")
            value = values[dimension.name]
            if value not in dimension.values:
                raise SpecError(f"{dimension.name}: given {value!r}; allowed: {allowed}")
            chosen[dimension.name] = value
        return Design(chosen)

    def validate(self, design: Mapping[str, Value]) -> Design:
        """Return the design if it is a point of this space.

        Raises
        ------
        SpecError
            If a value is missing or not allowed, or a dimension is unknown or inactive.
        """
        known = self.design(design)
        for name in design:
            if name not in known:
                raise SpecError(f"{name}: not active in this design; active: {', '.join(known)}")
        return known

    @property
    def size(self) -> int:
        """Number of designs, counted without enumerating what does not depend on each other."""
        return self._count(0, {})

    def _count(self, index: int, chosen: dict[str, Value]) -> int:
        if index == len(self.closed):
            return 1
        dimension = self.closed[index]
        if not dimension.is_active(chosen):
            return self._count(index + 1, chosen)
        later = self.closed[index + 1 :]
        # Values that no later condition tells apart lead to equally many designs.
        counts: dict[tuple[bool, ...], int] = {}
        total = 0
        for value in dimension.values:
            conditions = [d.when for d in later if d.when and d.when[0] == dimension.name]
            signature = tuple(value in allowed for _, allowed in conditions)
            if signature not in counts:
                counts[signature] = self._count(index + 1, {**chosen, dimension.name: value})
            total += counts[signature]
        return total

    def __iter__(self) -> Iterator[Design]:
        """Enumerate all designs."""
        return self._enumerate(0, {})

    def _enumerate(self, index: int, chosen: dict[str, Value]) -> Iterator[Design]:
        if index == len(self.closed):
            yield Design(chosen)
            return
        dimension = self.closed[index]
        if not dimension.is_active(chosen):
            yield from self._enumerate(index + 1, chosen)
            return
        for value in dimension.values:
            yield from self._enumerate(index + 1, {**chosen, dimension.name: value})
