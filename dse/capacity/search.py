"""The highest rate that holds: bracket it, halve the bracket, and look whether the answer is alone.

1. From the start the rate is multiplied (or divided) by 2, then 4, then 16 … until one rate holds and a higher one
   does not.
2. The bracket is halved, on a logarithmic scale, until its ends differ by no more than the tolerance.
3. More load nearly always means longer waits, but not always: a router, a batch or a cache may fall into step at some
   rate. So rates below the answer (:data:`BELOW`) are tried, too. If one of them does not hold, the answer moves below
   it and step 2 begins again: **no rate that was tried below the answer failed**. Rates just above (:data:`ABOVE`) are
   tried to be able to say that some of them hold again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dse.capacity.trial import Trial

BELOW: Final = (0.95, 0.8, 0.6)
"""Parts of the answer that are tried below it."""
ABOVE: Final = (1.05, 1.25)
"""Multiples of the lowest failing rate that are tried above it."""
FIRST_STEP: Final = 2.0
LARGEST_STEP: Final = 16.0


@dataclass(frozen=True)
class Search:
    """The highest rate that holds in one draw of the load.

    Attributes
    ----------
    trials
        All rates that were tried, ascending.
    rate_rps
        Highest rate below which every tried rate holds; 0 if none does.
    failing_rps
        Lowest rate above it that was tried; it does not hold.
    """

    trials: tuple[Trial, ...]
    rate_rps: float
    failing_rps: float

    @property
    def limit(self) -> Trial:
        """The lowest rate that does not hold: what breaks first."""
        return next(trial for trial in self.trials if trial.rate_rps == self.failing_rps)

    @property
    def best(self) -> Trial | None:
        """The rate that is the answer; None if nothing holds."""
        return next((trial for trial in self.trials if trial.rate_rps == self.rate_rps), None)

    @property
    def holds_again_rps(self) -> tuple[float, ...]:
        """Rates that hold though a lower one does not."""
        return tuple(trial.rate_rps for trial in self.trials if trial.holds and trial.rate_rps > self.failing_rps)


def search(
    attempt: Callable[[float], Trial],
    start_rps: float,
    *,
    lowest_rps: float = 0.0,
    tolerance: float = 0.01,
    first_step: float = FIRST_STEP,
) -> Search:
    """Return the highest rate that holds, as the module says.

    Parameters
    ----------
    attempt
        Tries a rate; some high rate must fail.
    start_rps
        Rate to try first.
    lowest_rps
        Below this none is tried; 0: down to a millionth of the start.
    tolerance
        Largest ratio, less 1, of the lowest failing and the highest holding rate.
    first_step
        Factor from the first rate to the second.
    """
    tried: dict[float, Trial] = {}

    def holds(rate_rps: float) -> bool:
        if rate_rps not in tried:
            tried[rate_rps] = attempt(rate_rps)
        return tried[rate_rps].holds

    floor = max(lowest_rps, start_rps * 1e-6)
    rate_rps = max(start_rps, floor)
    holds(rate_rps)
    while True:
        low, high = _bracket(tried)
        step = first_step
        while math.isinf(high):
            holds(low * step)
            low, high = _bracket(tried)
            step = min(step * step, LARGEST_STEP)
        while low == 0:
            if high <= floor:
                return _found(tried)
            holds(max(high / step, floor))
            low, high = _bracket(tried)
            step = min(step * step, LARGEST_STEP)
        while high / low > 1 + tolerance:
            holds(math.sqrt(low * high))
            low, high = _bracket(tried)
        if all(holds(max(low * part, floor)) for part in BELOW):
            break
    for part in ABOVE:
        holds(high * part)
    return _found(tried)


def _bracket(tried: dict[float, Trial]) -> tuple[float, float]:
    """Return the highest rate below which all hold (0 if none does), and the lowest that does not (or infinity)."""
    low = 0.0
    for rate_rps in sorted(tried):
        if not tried[rate_rps].holds:
            return low, rate_rps
        low = rate_rps
    return low, math.inf


def _found(tried: dict[float, Trial]) -> Search:
    return Search(tuple(tried[rate_rps] for rate_rps in sorted(tried)), *_bracket(tried))
