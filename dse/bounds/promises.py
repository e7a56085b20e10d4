"""Promises that cannot be kept together, though each of them could be kept alone."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from dse.bounds.demand import largest_sum, rounding_s

Floats = npt.NDArray[np.float64]

STARTS: Final = 8
"""Times from which on demand is added up."""


def late_allowed(count: int, percent: float) -> int:
    """Return how many of some values a percentile leaves above itself."""
    return count - 1 - max(0, math.ceil(count * percent / 100 - 1e-9) - 1)


def is_overdue(arrival_s: Floats, deadline_s: Floats, work_s: Floats, late: int) -> bool:
    """Tell whether more than ``late`` requests must miss their deadlines on a machine of one unit.

    What arrives from ``s`` on and is due by ``t`` must, but for the late requests, be done between them.

    Parameters
    ----------
    arrival_s, deadline_s, work_s
        Of each request, in order of arrival, shape (n,).
    late
        Requests that may miss their deadlines.
    """
    allowed = largest_sum(work_s, late) + rounding_s(deadline_s, work_s)
    order = np.argsort(deadline_s, kind="stable")
    arrival, due, work = arrival_s[order], deadline_s[order], work_s[order]
    for start in arrival_s[np.linspace(0, len(arrival_s) - 1, STARTS).astype(np.int64)]:
        counts = arrival >= start
        demand = np.cumsum(work[counts]) - (due[counts] - start)
        if float(demand.max()) > allowed:
            return True
    return False
