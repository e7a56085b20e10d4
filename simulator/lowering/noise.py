"""Noise of steps' durations as a table of factors for the kernel."""

from __future__ import annotations

from functools import lru_cache
from math import log1p, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from simulator.kernel.layout import NOISE_BITS, NOISE_SHIFT


@lru_cache(maxsize=64)
def noise_factors(cv: float) -> npt.NDArray[np.int64]:
    """Return the means of equally likely parts of a lognormal distribution of mean 1, in fixed point, ascending.

    Their own coefficient of variation is lower by 0.6 % at 1, by less at smaller ones.
    """
    normal, sigma, parts = NormalDist(), sqrt(log1p(cv * cv)), 1 << NOISE_BITS
    # E[X; X < x] of a lognormal X of mean 1 is the normal distribution function, shifted by sigma.
    below = [normal.cdf(normal.inv_cdf(part / parts) - sigma) for part in range(1, parts)]
    means = parts * np.diff([0.0, *below, 1.0])
    factors: npt.NDArray[np.int64] = np.rint(means * (1 << NOISE_SHIFT)).astype(np.int64)
    return factors
