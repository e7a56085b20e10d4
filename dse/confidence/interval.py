"""An estimate with the interval that holds the true value with a given probability."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its limits, all in the unit of what is estimated.

    Attributes
    ----------
    estimate
        The best guess.
    low, high
        Limits; infinite where the data cannot give one.
    """

    estimate: float
    low: float
    high: float

    @property
    def certainly_positive(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0

    @property
    def certainly_not_positive(self) -> bool:
        """Whether no part of the interval lies above 0."""
        return self.high <= 0

    def holds(self, value: float) -> bool:
        """Return whether a value lies in the interval."""
        return self.low <= value <= self.high


def student_factor(confidence: float, freedom: int) -> float:
    """Return the quantile of Student's distribution that a two-sided interval is wide.

    Parameters
    ----------
    confidence
        Probability that the interval holds the true value, in (0, 1).
    freedom
        Degrees of freedom, at least 1.
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def mean_interval(values: Floats, confidence: float = 0.95) -> Interval:
    """Return the mean of independent values with Student's interval: ``mean ± t s / √n``.

    Parameters
    ----------
    values
        One of each replication, shape (n,), any unit; for two designs their paired differences.
    confidence
        Probability that the interval holds the expected value.

    Returns
    -------
    Interval
        Without limits for a single value, or if a value is not finite.
    """
    estimate = float(np.mean(values))
    if len(values) < 2 or not np.isfinite(values).all():
        return Interval(estimate, -math.inf, math.inf)
    reach = student_factor(confidence, len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(estimate, estimate - reach, estimate + reach)
