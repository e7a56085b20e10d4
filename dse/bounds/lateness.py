"""The fewest requests that must be late if a machine cannot do all that arrives in time."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from dse.bounds.demand import backlog_s, rounding_s

Floats = npt.NDArray[np.float64]


def least_late(arrival_s: Floats, work_s: Floats, limit_s: float, allowed: int) -> int:
    """Return a bound from below on how many requests are done later than a limit after their arrivals.

    A machine does one second of work in a second, in any order and in pieces. All limits are the same, so those in time
    may as well be done in order of arrival, and request ``i`` is in time if the work before it that is not done yet,
    and its own, takes no longer than the limit. Where it does, somebody has to be late: the one with the most work of
    those since the machine was last idle relieves it most (the rule of Moore and Hodgson, 1968; for arrivals over time
    Kise, Ibaraki and Mine, 1978). Whom it relieves is counted as if all his work were gone at once, which is at most
    what is gained, so that no schedule has fewer late requests.

    Parameters
    ----------
    arrival_s, work_s
        Of each request, in order of arrival, shape (n,).
    limit_s
        Longest time from arrival to end.
    allowed
        The count ends above this number.
    """
    backlog = backlog_s(arrival_s, work_s)
    if int((backlog > limit_s).sum()) <= allowed:
        # To be late, all of these would do.
        return 0
    gaps = np.diff(arrival_s, prepend=arrival_s[:1]).tolist()
    tolerance = rounding_s(arrival_s, work_s)
    left, late = 0.0, 0
    waiting: list[float] = []
    for gap, work in zip(gaps, work_s.tolist(), strict=True):
        left -= gap
        if left <= 0.0:
            left = 0.0
            waiting.clear()
        left += work
        heapq.heappush(waiting, -work)
        while left - tolerance > limit_s and waiting:
            left = max(0.0, left + heapq.heappop(waiting))
            late += 1
            if late > allowed:
                return late
    return late
