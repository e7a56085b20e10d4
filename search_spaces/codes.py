"""Designs as rows of small integers, so that millions of them can be handled at once.

A row holds, for every dimension of a space, the place of the chosen value among ``dimension.values``; -1 where the
dimension is inactive. As a dimension has at most one condition, a space is a forest: the designs under a dimension
are counted once, whatever else was chosen, and

    designs(d) = sum over values v of d of the product of designs(c) over the dimensions c that v activates,

with the product of all roots the size of the space. Everything below follows from these counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
import numpy.typing as npt

from search_spaces.dimension import Dimension
from simulator.errors import SpecError

Codes = npt.NDArray[np.int16]
"""Rows of codes, shape (designs, dimensions); -1: inactive."""

Keys = npt.NDArray[np.int64]
"""An integer for each design, shape (designs,)."""

Weight = Literal["designs", "choices"]

INACTIVE = -1
MAX_VALUES = 32_767
"""Values of a dimension that a code can tell apart."""

MAX_DESIGNS = 10**300
"""Designs of a space: their number fits a float."""

MAX_RANKED = 2**62
"""Designs whose ranks fit an int64 with room for sums."""


@dataclass(frozen=True)
class _Node:
    """A dimension in the forest.

    Attributes
    ----------
    parent
        Place of the dimension it depends on; None if it is always active.
    allowed
        Whether it is active by the parent's code; the last entry, that of the code -1, is False.
    values
        Number of values.
    weights
        Designs under each value.
    designs
        Sum of ``weights``.
    """

    parent: int | None
    allowed: npt.NDArray[np.bool_]
    values: int
    weights: tuple[int, ...]
    designs: int


def _forest(dimensions: Sequence[Dimension]) -> tuple[_Node, ...]:
    """Return the node of each dimension, counted from the last to the first, as conditions look back."""
    place = {dimension.name: index for index, dimension in enumerate(dimensions)}
    weights = [[1] * len(dimension.values) for dimension in dimensions]
    nodes: list[_Node] = []
    for index in reversed(range(len(dimensions))):
        dimension, parent, allowed = dimensions[index], None, np.zeros(0, np.bool_)
        designs = sum(weights[index])
        if dimension.when:
            name, active_under = dimension.when
            parent = place[name]
            under = set(active_under)
            flags = [value in under for value in dimensions[parent].values]
            allowed = np.array([*flags, False])
            weights[parent] = [
                weight * (designs if flag else 1) for weight, flag in zip(weights[parent], flags, strict=True)
            ]
        nodes.append(_Node(parent, allowed, len(dimension.values), tuple(weights[index]), designs))
    return tuple(reversed(nodes))


class Columns:
    """The codes of a space's designs, by column; what :class:`search_spaces.Space` offers is explained there."""

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        """Count the designs under every value.

        Raises
        ------
        SpecError
            If a dimension has more values than a code can tell apart, or there are too many designs to count.
        """
        for dimension in dimensions:
            if len(dimension.values) > MAX_VALUES:
                raise SpecError(
                    f"{dimension.name}: at most {MAX_VALUES} values can be searched, given {len(dimension.values)}"
                )
        self.nodes = _forest(dimensions)
        self.size = math.prod(node.designs for node in self.nodes if node.parent is None)
        if self.size > MAX_DESIGNS:
            raise SpecError("search space: more than 10^300 designs; at most so many can be counted")
        self.ranked = self.size < MAX_RANKED

    def empty(self, count: int) -> Codes:
        """Return rows without any choice; column by column in memory, as columns are what is worked on."""
        return np.full((count, len(self.nodes)), INACTIVE, np.int16, order="F")

    def active(self, codes: Codes, index: int) -> npt.NDArray[np.bool_] | None:
        """Return in which rows a dimension is active, given the codes before it; None if in all."""
        node = self.nodes[index]
        return None if node.parent is None else node.allowed[codes[:, node.parent]]

    def everything(self) -> Codes:
        """Return all designs in the order of enumeration.

        What can follow a choice depends only on which later dimensions are active: such a block is filled once and
        copied wherever it comes again.
        """
        out = self.empty(self.size)
        children: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            if node.parent is not None:
                children[node.parent].append(index)
        filled: dict[tuple[int, frozenset[int]], tuple[int, int]] = {}

        def fill(index: int, start: int, active: frozenset[int]) -> int:
            """Fill the columns from ``index`` on, from row ``start`` on; return the row after the last."""
            while index < len(self.nodes) and index not in active:
                index += 1
            if index == len(self.nodes):
                return start + 1
            if (index, active) in filled:
                first, last = filled[index, active]
                stop = start + last - first
                out[start:stop, index:] = out[first:last, index:]
                return stop
            row = start
            for code in range(self.nodes[index].values):
                more = (child for child in children[index] if self.nodes[child].allowed[code])
                stop = fill(index + 1, row, (active - {index}).union(more))
                out[row:stop, index] = code
                row = stop
            filled[index, active] = (start, row)
            return row

        fill(0, 0, frozenset(index for index, node in enumerate(self.nodes) if node.parent is None))
        return out

    def sample(self, count: int, rng: np.random.Generator, by: Weight) -> Codes:
        """Return random designs, drawn with replacement."""
        out = self.empty(count)
        for index, node in enumerate(self.nodes):
            if by == "choices":
                chosen = rng.integers(node.values, size=count, dtype=np.int16)
            else:
                shares = np.array([share / node.designs for share in accumulate(node.weights)])
                chosen = np.searchsorted(shares[:-1], rng.random(count), side="right").astype(np.int16)
            active = self.active(out, index)
            out[:, index] = chosen if active is None else np.where(active, chosen, INACTIVE)
        return out

    def mend(self, codes: Codes, fill: Codes | np.random.Generator) -> Codes:
        """Return rows in which exactly the active dimensions have a code."""
        out = np.array(codes, np.int16, order="F")
        if out.ndim != 2 or out.shape[1] != len(self.nodes):
            raise ValueError(f"codes: a column for each of {len(self.nodes)} dimensions is needed, given {out.shape}")
        for index, node in enumerate(self.nodes):
            column = out[:, index]
            if isinstance(fill, np.random.Generator):
                spare = fill.integers(node.values, size=len(out), dtype=np.int16)
            else:
                given = fill[..., index]
                spare = np.where((given >= 0) & (given < node.values), given, np.int16(0))
            column[:] = np.where((column >= 0) & (column < node.values), column, spare)
            active = self.active(out, index)
            if active is not None:
                column[~active] = INACTIVE
        return out

    def keys(self, codes: Codes) -> Keys:
        """Return ranks in the order of enumeration, or a hash where ranks are too large.

        The rank of a design is the number of designs before it: for each choice those under smaller values of the
        same dimension, times what the dimensions that are active but not yet chosen leave open.
        """
        if not self.ranked:
            return _hash(codes)
        ranks = np.zeros(len(codes), np.int64)
        ways = np.full(len(codes), self.size, np.int64)
        for index, node in enumerate(self.nodes):
            column = codes[:, index]
            before, weights = _tables(node)
            if node.parent is None:
                ways //= node.designs
            else:
                np.floor_divide(ways, node.designs, out=ways, where=column >= 0)
            ranks += before[column] * ways
            ways *= weights[column]
        return ranks

    def rows(self, keys: Keys) -> Codes:
        """Return the designs of ranks."""
        if not self.ranked:
            raise SpecError(f"search space: ranks need fewer than 2**62 designs, given {self.size:.3g}")
        keys = np.asarray(keys, np.int64)
        if len(keys) and (keys.min() < 0 or keys.max() >= self.size):
            raise ValueError(f"keys: ranks from 0 to {self.size - 1}, given {keys.min()} to {keys.max()}")
        out, rest = self.empty(len(keys)), keys.copy()
        ways = np.full(len(keys), self.size, np.int64)
        for index, node in enumerate(self.nodes):
            before, weights = _tables(node)
            active = self.active(out, index)
            if active is None:
                ways //= node.designs
            else:
                np.floor_divide(ways, node.designs, out=ways, where=active)
            chosen = np.searchsorted(before[1:-1], rest // ways, side="right").astype(np.int16)
            out[:, index] = chosen if active is None else np.where(active, chosen, INACTIVE)
            column = out[:, index]
            rest -= before[column] * ways
            ways *= weights[column]
        return out


def _tables(node: _Node) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return by code the designs under smaller values and under the value; the last entry is that of the code -1."""
    before = [0, *accumulate(node.weights)][: node.values]
    return np.array([*before, 0]), np.array([*node.weights, 1])


def _hash(codes: Codes) -> Keys:
    """Return a 64-bit hash of each row: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014), column by column."""
    state = np.zeros(len(codes), np.uint64)
    for index in range(codes.shape[1]):
        state += codes[:, index].astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        state ^= state >> np.uint64(30)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(27)
        state *= np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state.view(np.int64)
