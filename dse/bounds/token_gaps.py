"""A bound on percentiles of inter-token latency, over all tokens of all requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dse.bounds.stage_floor import StageFloor
from simulator.kernel.layout import ITL_BITS
from simulator.workload import PS_PER_S

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def least_gap_s(stages: Sequence[tuple[StageFloor, Flags]], percent: float) -> float:
    """Return a bound from below on a percentile of inter-token latency, seconds; NaN if there is no gap.

    Of the ``output - 1`` gaps of a request as many are no shorter than a step as it takes steps at least; with
    speculation the others may be 0.

    Parameters
    ----------
    stages
        Floors of each LLM stage, and which of its requests are served.
    percent
        Which percentile.
    """
    gap, count = _gaps(stages)
    total = int(count.sum())
    if not total:
        return float("nan")
    order = np.argsort(gap, kind="stable")
    wanted = max(np.ceil(total * percent / 100 - 1e-9), 1)
    return upper_edge_s(float(gap[order][np.searchsorted(np.cumsum(count[order]), wanted)]))


def most_gaps_within(stages: Sequence[tuple[StageFloor, Flags]], limit_s: float) -> float:
    """Return the largest share of gaps between tokens that can be within a limit; 1 if there is none."""
    gap, count = _gaps(stages)
    total = int(count.sum())
    # The edge that is reported for a gap is no less than the gap.
    return float(count[gap * (1 - 1e-12) <= limit_s].sum() / total) if total else 1.0


def _gaps(stages: Sequence[tuple[StageFloor, Flags]]) -> tuple[Floats, Integers]:
    """Return gaps and how many of each there are, which those of a simulation exceed when both are sorted."""
    gaps, counts = [np.zeros(1)], [np.zeros(1, dtype=np.int64)]
    for stage, served in stages:
        later = np.where(served, stage.pools[0].lengths.later_tokens, 0)
        steps = np.minimum(stage.least(lambda path: path.iterations.astype(float)), later).astype(np.int64)
        gaps.append(np.where(served, stage.least(lambda path: path.gap_s), 0.0))
        counts.append(steps)
        counts[0] = counts[0] + (later - steps).sum()
    return np.concatenate(gaps), np.concatenate(counts)


def upper_edge_s(gap_s: float) -> float:
    """Return the upper edge of the bin of a gap, which is what is reported, seconds."""
    gap_ps = int(gap_s * PS_PER_S * (1 - 1e-12))
    exponent = max(0, gap_ps.bit_length() - ITL_BITS - 1)
    if exponent == 0:
        return gap_ps / PS_PER_S
    return (((gap_ps >> exponent) + 1) << exponent) / PS_PER_S
