"""Integrals of step functions over equal bins of time, exact: an interval counts in each bin by its overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.workload import PS_PER_S

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Overlaps:
    """How long each of n intervals lies in which bins.

    Attributes
    ----------
    bins
        Number of bins.
    bin_s
        Width of a bin.
    first, last
        First and last bin of each interval, shape (n,).
    head_s, tail_s
        Seconds of it in the first bin, and in the last where that is another one, shape (n,).
    """

    bins: int
    bin_s: float
    first: npt.NDArray[np.intp]
    last: npt.NDArray[np.intp]
    head_s: Floats
    tail_s: Floats

    def integral(self, height: Floats | Integers | None = None) -> Floats:
        """Return the integral over each bin of the sum of all intervals, each as high as given (1), shape (bins,)."""
        heights = np.ones(len(self.first)) if height is None else height.astype(np.float64)
        sums = np.bincount(self.first, heights * self.head_s, self.bins)
        sums += np.bincount(self.last, heights * self.tail_s, self.bins)
        # Bins between the first and the last are covered as a whole.
        rises = np.bincount(self.first + 1, heights, self.bins + 1)
        falls = np.bincount(np.maximum(self.last, self.first + 1), heights, self.bins + 1)
        return np.asarray(sums + np.cumsum(rises - falls)[: self.bins] * self.bin_s)


@dataclass(frozen=True)
class Bins:
    """Equal bins between two times."""

    from_ps: int
    until_ps: int
    count: int

    @property
    def bin_s(self) -> float:
        """Width of a bin."""
        return (self.until_ps - self.from_ps) / PS_PER_S / self.count

    @property
    def start_s(self) -> Floats:
        """Start of each bin, shape (count,)."""
        return np.asarray(self.from_ps / PS_PER_S + np.arange(self.count) * self.bin_s, dtype=np.float64)

    def overlaps(self, begin_ps: npt.NDArray[Any], end_ps: npt.NDArray[Any]) -> Overlaps:
        """Return how long intervals lie in which bins; what lies outside all bins is cut off."""
        span_s = self.count * self.bin_s
        begin, end = (np.clip((time - self.from_ps) / PS_PER_S, 0, span_s) for time in (begin_ps, end_ps))
        edges = np.arange(self.count + 1) * self.bin_s
        edges[-1] = span_s
        first = np.clip(np.searchsorted(edges, begin, "right") - 1, 0, self.count - 1)
        last = np.clip(np.searchsorted(edges, end, "left") - 1, first, self.count - 1)
        head = np.minimum(end, edges[first + 1]) - begin
        tail = np.where(last > first, end - edges[last], 0.0)
        return Overlaps(self.count, self.bin_s, first, last, head, tail)
