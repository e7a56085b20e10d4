"""What trials teach about predictions: by which factor they miss, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dse.screening.pool_settings import Floats
from search_spaces import Space
from search_spaces.codes import Codes

RIDGE = 1.0
"""Weight of the prior that a factor is 1, in trials, for a feature of unit size."""
UNKNOWN = 0.15
"""Standard error of the logarithm before there are trials, by hand: feasible designs of ``chat`` miss by 4-20 %."""
LEAST = 0.003
"""Smallest standard error of the logarithm that is believed."""

LOGS = ("load", "batch_requests", "wait_s", "token_s", "prompt_s", "usd_per_hour")
"""Figures of a forecast on whose logarithm, and its square, the factors may depend."""
CENTRES = np.log([0.3, 16.0, 0.1, 0.02, 0.2, 30.0])
"""Where these are usually, so that features are of unit size."""


def features(space: Space, codes: Codes, forecast: npt.NDArray[Any]) -> Floats:
    """Return what a factor may depend on: choices, and logarithms of a forecast.

    Parameters
    ----------
    space, codes
        Designs, shape (rows, dimensions).
    forecast
        Records of :data:`dse.screening.screen.FORECAST`, shape (rows,).

    Returns
    -------
    ndarray, shape (rows, features)
    """
    columns = [np.ones(len(codes))]
    for column, dimension in enumerate(space.closed):
        columns += [np.asarray(codes[:, column] == value, np.float64) for value in range(len(dimension.values))]
    for name, centre in zip(LOGS, CENTRES, strict=True):
        log = np.log(np.maximum(forecast[name], 1e-6)) - centre
        columns += [log, log**2]
    columns.append(np.maximum(forecast["load"] - 0.7, 0.0))
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Corrected:
    """Logarithms of predictions after what was learned, and their standard errors, shape (rows, outputs)."""

    log: Floats
    error: Floats


class Factors:
    """Ridge regression of the logarithm of what the simulation says over what was predicted.

    Parameters
    ----------
    known
        Features of simulated designs, shape (trials, features).
    missed
        Logarithm of simulated over predicted, shape (trials, outputs).
    weights
        How much each trial counts, at most 1, shape (trials,).
    """

    def __init__(self, known: Floats, missed: Floats, weights: Floats) -> None:
        self._none = not len(known)
        if self._none:
            return
        counted = known * weights[:, None]
        self._inverse = np.linalg.inv(known.T @ counted + RIDGE * np.eye(known.shape[1]))
        self._weights = self._inverse @ (counted.T @ missed)
        # Leave-one-out residuals: a fit with many features looks better on its own trials than it is.
        leverage = np.minimum(np.einsum("ij,ij->i", counted @ self._inverse, known), 0.95)
        left = (missed - known @ self._weights) / (1.0 - leverage)[:, None]
        self._error = np.sqrt(weights @ left**2 / weights.sum() + LEAST**2)

    def correct(self, everything: Floats, predicted_log: Floats) -> Corrected:
        """Return corrected predictions.

        Parameters
        ----------
        everything, predicted_log
            Features and logarithms of predictions, shapes (rows, features) and (rows, outputs).
        """
        if self._none:
            return Corrected(predicted_log, np.full(predicted_log.shape, UNKNOWN))
        rough = everything.astype(np.float32)
        spread = np.sqrt(1.0 + np.einsum("ij,ij->i", rough @ self._inverse.astype(np.float32), rough))
        return Corrected(predicted_log + everything @ self._weights, self._error * spread[:, None])
