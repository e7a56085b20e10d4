"""Fit of the hand-over model to measured transfers of KV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from dse.measurements.kv_transfer import Transfers
from simulator.performance.engine import Engine
from simulator.performance.kv_transfer import hand_over_bytes

Floats = npt.NDArray[np.float64]

LEAST_TOKENS: Final = 1024
"""Shorter prompts are handed over in the time of the protocol's control messages and are not fitted."""


def fit_hand_over(measured: Sequence[tuple[Transfers, Engine]]) -> tuple[float, float]:
    """Return the share of the network that hand-overs reach, and the start-up of a layer, seconds.

    Parameters
    ----------
    measured
        Runs, each with its model on the sender's accelerators. Prompts from :data:`LEAST_TOKENS` on count alike.
    """
    from scipy.optimize import least_squares

    def errors(x: Floats) -> Floats:
        share, layer_s = np.exp(x)
        return np.concatenate(
            [
                np.log(hand_over_s(run, engine, share, layer_s) / run.seconds)[run.prompt_tokens >= LEAST_TOKENS]
                for run, engine in measured
            ]
        )

    found = least_squares(errors, np.log([0.8, 15e-6]), bounds=(np.log([0.05, 1e-7]), np.log([1.0, 1e-3])))
    share, layer_s = (float(f"{figure:.3g}") for figure in np.exp(found.x))
    return share, layer_s


def hand_over_s(run: Transfers, engine: Engine, share: float, layer_s: float) -> Floats:
    """Return the predicted times of measured hand-overs, seconds."""
    per_token, constant = hand_over_bytes(engine)
    moved = run.prompt_tokens * per_token + constant
    return np.asarray(engine.model.layers * layer_s + moved / (share * run.network_gb_per_s * 1e9))
