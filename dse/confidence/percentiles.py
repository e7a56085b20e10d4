"""Intervals of percentiles from one run, whose latencies are anything but independent.

The requests of one busy period wait together, so a run of n requests says much less than n independent ones: the
interval of independent draws holds the truth in 9 to 60 of 100 runs of a queue (``tests/dse/test_confidence.py``).

The rule (Woodruff, J. Am. Stat. Assoc. 47, 1952, with the variance from batch means: Schmeiser, Operations Research
30, 1982):

1. The run is cut into ``BATCHES`` batches of neighbouring requests. Of each batch we take the share of latencies above
   the run's percentile.
2. The standard error of the whole share is ``s √((1 + r) / (1 - r)) / √BATCHES``: s the standard deviation of the
   batches' shares, r their correlation with the batch before (never below 0), as of an autoregressive process of first
   order. So batches may be shorter than the memory of the queue.
3. The interval of the share is ``p ± t · standard error`` with Student's t. Its degrees of freedom are the number of
   batches that have a latency above the percentile (or below it, if fewer do), less one: a tail that was visited in
   three batches is known from three observations.
4. The limits are the run's own percentiles at the ends of that interval. Where an end lies beyond 100 %, or fewer
   than three batches visited the tail, the run says nothing about that side: the limit is infinite.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from dse.confidence.interval import Floats, Interval, student_factor
from simulator import SLO, Result
from simulator.metrics import percentile
from simulator.spec.slo import LatencyMetric

BATCHES: Final = 20
"""Batches of a run: Schmeiser found that more than 30 gain next to nothing and fewer than 10 lose much."""
LEAST_BATCH: Final = 5
"""Latencies of a batch at least; of shorter runs nothing is said."""
LEAST_VISITS: Final = 3
"""Batches that must have visited the tail."""
STRONGEST: Final = 0.8
"""Largest correlation between batches that is believed: more cannot be told from 20 of them."""


def percentile_interval(values: Floats, percent: float, confidence: float = 0.95) -> Interval:
    """Return a percentile of latencies of one run with its interval, as the module says.

    Parameters
    ----------
    values
        Latencies in the order of arrival, shape (n,), seconds; infinite for rejected requests.
    percent
        The percentile, in (0, 100].
    confidence
        Probability that the interval holds the percentile of an endless run.

    Returns
    -------
    Interval
        Seconds; NaN without limits if there are no values.
    """
    n = len(values)
    estimate = percentile(values, percent)
    if n < BATCHES * LEAST_BATCH:
        return Interval(estimate, 0.0, math.inf)
    above = (values > estimate).astype(np.float64)
    shares = np.array([batch.mean() for batch in np.array_split(above, BATCHES)])
    visits = int(min(np.count_nonzero(shares > 0), np.count_nonzero(shares < 1)))
    if visits < LEAST_VISITS:
        return Interval(estimate, 0.0, math.inf)
    reach = 100 * student_factor(confidence, visits - 1) * _standard_error(shares)
    ordered = np.sort(values)

    def at(share_percent: float) -> float:
        return float(ordered[max(0, math.ceil(n * share_percent / 100 - 1e-9) - 1)])

    low = at(percent - reach) if percent - reach > 0 else 0.0
    high = at(percent + reach) if percent + reach <= 100 else math.inf
    return Interval(estimate, low, high)


def _standard_error(shares: Floats) -> float:
    """Return the standard error of the mean of batches that may depend on the one before."""
    apart = shares - shares.mean()
    spread = float(apart @ apart)
    if spread == 0:
        return 0.0
    # The estimate from few batches is too low by about one in their number (Kendall, Biometrika 41, 1954).
    linked = float(apart[1:] @ apart[:-1]) / spread + 1 / len(shares)
    linked = min(max(linked, 0.0), STRONGEST)
    return math.sqrt(spread / (len(shares) - 1) / len(shares) * (1 + linked) / (1 - linked))


def slo_interval(result: Result, slo: SLO, confidence: float = 0.95) -> Interval:
    """Return what a run reached of an SLO's percentile, with its interval, seconds.

    Parameters
    ----------
    result
        A simulation.
    slo
        Names the latency and the percentile; its limit has no influence.
    confidence
        How often such intervals hold the true value, between 0 and 1.

    Raises
    ------
    ValueError
        For ``itl``, of which a run keeps a histogram without order: only replications can tell.
    """
    return percentile_interval(latencies(result, slo.metric), slo.percentile, confidence)


def latencies(result: Result, metric: LatencyMetric) -> Floats:
    """Return a latency of all requests (sessions) that have it, in the order of arrival, shape (n,), seconds.

    Raises
    ------
    ValueError
        For ``itl``.
    """
    if metric == "itl":
        raise ValueError("itl: a run keeps a histogram of gaps without their order; use replications")
    values: Floats = getattr(result, f"{metric}_s")
    return values


def rows_of(result: Result, metric: LatencyMetric) -> npt.NDArray[np.intp]:
    """Return the row of the request (the number of the session) of each value of :func:`latencies`, shape (n,)."""
    requests = result.lowered.memory.requests
    if metric == "session":
        return np.arange(len(result.session_s))
    if metric == "e2e":
        way = result.lowered.requests.way
        passes = np.array([len(stages) > 0 for stages in result.lowered.plan.ways])
        return np.arange(len(requests)) if way is None else np.flatnonzero(passes[way])
    with_llm = requests["llm_stage"] >= 0
    return np.flatnonzero(with_llm if metric == "ttft" else with_llm & (requests["output_tokens"] > 1))
