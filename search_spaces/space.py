"""A space of designs: dimensions in order, later ones conditional on earlier ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search_spaces.codes import INACTIVE, Codes, Columns, Keys, Weight
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
        counts = Counter(dimension.name for dimension in self.dimensions)
        for name, count in counts.items():
            if count > 1:
                raise SpecError(f"search space: dimension {name!r} is given twice")

    @cached_property
    def closed(self) -> tuple[Dimension, ...]:
        """The dimensions, once every condition is known to look back; a part of a space need not be closed.

        Raises
        ------
        SpecError
            If a dimension depends on one that does not come before it.
        """
        seen: dict[str, None] = {}
        for dimension in self.dimensions:
            if dimension.when and dimension.when[0] not in seen:
                raise SpecError(
                    f"search space: {dimension.name!r} depends on {dimension.when[0]!r}, "
                    f"which does not come before it; known: {', '.join(seen)}"
                )
            seen[dimension.name] = None
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
            name = dimension.name
            if name not in values or values[name] not in dimension.values:
                given = f"given {values[name]!r}" if name in values else "missing"
                raise SpecError(f"{name}: {given}; allowed: {', '.join(map(str, dimension.values))}")
            chosen[name] = values[name]
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

    @cached_property
    def columns(self) -> Columns:
        """The space as columns of codes, on which the methods below work."""
        return Columns(self.closed)

    @property
    def size(self) -> int:
        """Number of designs, counted without enumerating them."""
        return self.columns.size

    @property
    def ranked(self) -> bool:
        """Whether :meth:`keys` are exact ranks: the space has fewer than 2**62 designs."""
        return self.columns.ranked

    def codes(self, limit: int = 20_000_000) -> Codes:
        """Return all designs as rows of codes, in the order of ``iter(space)``.

        Parameters
        ----------
        limit
            Designs above which this is refused.

        Returns
        -------
        ndarray of int16, shape (size, dimensions)
            Place of the chosen value in each dimension of ``closed``; -1 where the dimension is inactive. Columns
            are contiguous.

        Raises
        ------
        SpecError
            If there are more designs than ``limit``.
        """
        if self.size > limit:
            raise SpecError(
                f"search space: {_count(self.size)} designs are too many to list, at most {_count(limit)} are allowed"
            )
        return self.columns.everything()

    def sample(self, count: int, rng: np.random.Generator, by: Weight = "designs") -> Codes:
        """Return random designs as rows of codes, drawn with replacement.

        Parameters
        ----------
        count
            Number of rows.
        rng
            Source of randomness.
        by
            ``designs``: every design is equally likely, so a value counts as much as there are designs under it.
            ``choices``: every value of an active dimension is equally likely, so a layout with few designs is drawn
            as often as one with many.

        Returns
        -------
        ndarray of int16, shape (count, dimensions)
        """
        return self.columns.sample(count, rng, by)

    def mend(self, codes: Codes, fill: Codes | np.random.Generator) -> Codes:
        """Return designs near rows of codes that need not be any, such as after crossover or mutation.

        A code of an inactive dimension becomes -1. An active dimension without a code, or with one that it does not
        have, takes that of ``fill``.

        Parameters
        ----------
        codes
            Shape (rows, dimensions); left as it is.
        fill
            Codes to take from, a row for each or one for all; the first value where it has none. Or a generator,
            by which each value is equally likely.

        Returns
        -------
        ndarray of int16, shape (rows, dimensions)
        """
        return self.columns.mend(codes, fill)

    def keys(self, codes: Codes) -> Keys:
        """Return an integer for each design, by which sets of designs are compared.

        Exact below 2**62 designs (see :attr:`ranked`): the rank of the design in the order of ``iter(space)``.
        In larger spaces it is a 64-bit hash: among n designs two are confused with a probability of about
        n**2 / 2**65.

        Parameters
        ----------
        codes
            Rows of designs, shape (rows, dimensions).

        Returns
        -------
        ndarray of int64, shape (rows,)
        """
        return self.columns.keys(codes)

    def rows(self, keys: Keys) -> Codes:
        """Return the designs of ranks; the inverse of :meth:`keys`.

        Parameters
        ----------
        keys
            Ranks, shape (rows,).

        Returns
        -------
        ndarray of int16, shape (rows, dimensions)

        Raises
        ------
        SpecError
            If the space is so large that keys are hashes.
        ValueError
            If a rank is not in the space.
        """
        return self.columns.rows(keys)

    def design_of(self, row: Codes) -> Design:
        """Return the design of a row of codes, shape (dimensions,)."""
        codes = row.tolist()
        return Design({d.name: d.values[code] for d, code in zip(self.closed, codes, strict=True) if code >= 0})

    def row_of(self, design: Mapping[str, Value]) -> Codes:
        """Return the row of codes of a design, shape (dimensions,).

        Raises
        ------
        SpecError
            If the design is not in this space.
        """
        known = self.validate(design)
        return np.array([d.values.index(known[d.name]) if d.name in known else INACTIVE for d in self.closed], np.int16)

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


def _count(number: int) -> str:
    """Return a number of designs in words: exact while that can be read."""
    return f"{number:,}" if number < 10**12 else f"{number:.3g}"
