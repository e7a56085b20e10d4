"""Least delays of requests that share a machine: what arrives in some time cannot be served in less than its work.

A machine does one second of work in a second. Requests may be served in any order, at once, in pieces, by somebody who
knows what comes: whatever schedulers do, they do no better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PRICES: Final = 14
"""Steps of the search for the price of room."""

BLOCKS: Final = (4, 16, 64, 256, 1024, 4096)
"""Numbers of neighbouring requests that are looked at together."""


def backlog_s(arrival_s: Floats, work_s: Floats) -> Floats:
    """Return the least time from each arrival until it and all before it are done, shape (n,).

    Lindley's recursion in closed form: ``max over s ≤ i of (arrival_s + Σ work from s to i) − arrival_i``.
    """
    done = np.cumsum(work_s)
    begins = np.maximum.accumulate(arrival_s - done + work_s)
    return np.asarray(begins + done - arrival_s - rounding_s(arrival_s, work_s))


def rounding_s(arrival_s: Floats, work_s: Floats) -> float:
    """Return the most that rounding may add to sums of works and differences of times."""
    most = float(np.abs(arrival_s).max(initial=0.0)) + float(work_s.sum())
    return 4 * len(work_s) * float(np.finfo(np.float64).eps) * most


def largest_sum(values: npt.NDArray[Any], count: int) -> float:
    """Return the sum of the largest values."""
    if count <= 0:
        return 0.0
    if count >= len(values):
        return float(values.sum())
    return float(np.partition(values, len(values) - count)[len(values) - count :].sum())


def fullest_s(values: Floats, sizes: Floats, room: float) -> float:
    """Return a bound on what values can sum up to if their sizes fit into some room.

    For any price of a unit of room the sum is at most that of the whole room and of what values are worth beyond their
    sizes' price (the Lagrangian dual of the knapsack). The best price is looked for by bisection.
    """
    low, high = 0.0, float((values / sizes).max(initial=0.0))
    found = float(values.sum())
    for _ in range(PRICES):
        price = (low + high) / 2
        beyond = values - price * sizes
        worth = beyond > 0
        found = min(found, price * room + float(beyond[worth].sum()))
        if float(sizes[worth].sum()) > room:
            low = price
        else:
            high = price
    return found


@dataclass(frozen=True, eq=False)
class Machine:
    """Requests and the work that they are for a machine of one unit, in order of arrival; arrays of the shape (n,).

    Attributes
    ----------
    arrival_s, work_s
        Of each request.
    place
        Where it stands among all that have the latency in question.
    around_s
        Least part of a latency in which no work is done.
    open_s, most_open_s
        Part of the work of each that may still be open for some of those that are in time, and most of all of them
        together; none if absent.
    """

    arrival_s: Floats
    work_s: Floats
    place: npt.NDArray[np.int64]
    around_s: float
    open_s: Floats | None = None
    most_open_s: float = 0.0

    @cached_property
    def greatest_backlog_s(self) -> float:
        """Most work that has arrived and cannot have been done yet, over all times."""
        return float(backlog_s(self.arrival_s, self.work_s).max(initial=0.0))

    def least_latency_s(self, late: int) -> float:
        """Return the least L for which all requests but ``late`` can be done within L of their arrivals; 0 if any.

        What arrives from ``s`` to ``e``, but for the late requests, must be done from ``s`` to ``e + L``:
        ``L ≥ Σ work − work of the late − (e − s)`` for all ``s ≤ e``; at most the requests with the most work are late
        (the demand bound of real-time scheduling, Baruah et al., 1990).
        """
        left = self.greatest_backlog_s - largest_sum(self.work_s, late) - self.most_open_s
        return left + self.around_s if left > 0 else 0.0

    def latencies_s(self, alone_s: Floats, longer_than_s: float, late: int) -> Iterator[Floats]:
        """Yield values that latencies exceed when both are sorted.

        In each block of neighbouring requests, those within L of their arrivals have no more work than fits between
        its first arrival and L after its last. So j of them or more are late if what is left without the j - 1 with the
        most work does not fit, or if j of them take longer than L alone.

        Parameters
        ----------
        alone_s
            Least latency of each request alone, of all that have one.
        longer_than_s, late
            Only values above this are of interest, and only if there are more of them than so many.
        """
        own = alone_s[self.place]
        longer = int((alone_s > longer_than_s).sum())
        rounding = rounding_s(self.arrival_s, self.work_s)
        for block in BLOCKS:
            if block > len(own):
                continue
            whole = len(own) // block * block
            first, last = self.arrival_s[:whole:block], self.arrival_s[block - 1 : whole : block]
            spare = self.around_s - (last - first) - rounding
            if self.open_s is not None:
                spare = spare - np.minimum(self.open_s[:whole].reshape(-1, block).sum(axis=1), self.most_open_s)
            crowded = self.work_s[:whole].reshape(-1, block).sum(axis=1) + spare > longer_than_s
            if longer + int(crowded.sum()) * block <= late or not crowded.any():
                continue
            rows = np.flatnonzero(np.repeat(crowded, block))
            work = _falling(self.work_s[rows], block)
            left = work.sum(axis=1, keepdims=True) - np.cumsum(work, axis=1) + work + spare[crowded, None]
            found = alone_s.copy()
            found[self.place[rows]] = np.maximum(left, _falling(own[rows], block)).ravel()
            yield found


def _falling(values: Floats, block: int) -> Floats:
    """Return the values of each block in falling order, shape (blocks, block)."""
    return np.asarray(-np.sort(-values.reshape(-1, block), axis=1))


def least_end_s(arrival_s: Floats, work_s: Floats) -> float:
    """Return the least time by which all requests are done: whatever arrives from some time on is done after it.

    Parameters
    ----------
    arrival_s
        When each arrives at the earliest, in order, shape (n,).
    work_s
        For a machine that does one second of work in a second, shape (n,).
    """
    if not len(work_s):
        return 0.0
    return float((arrival_s + np.cumsum(work_s[::-1])[::-1]).max()) - rounding_s(arrival_s, work_s)
