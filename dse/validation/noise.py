"""Noise of steps as it is in the engine: for comparison with what was measured, not for search."""

from __future__ import annotations

from simulator import Deployment, Pool
from simulator.performance.engine import profile_of


def with_engine_noise(deployment: Deployment) -> Deployment:
    """Return a deployment whose pools have the noise of their engine's profile where they say nothing of noise.

    Raises
    ------
    SpecError
        If an engine is unknown.
    """
    return deployment.model_copy(update={"pools": tuple(map(_with_engine_noise, deployment.pools))})


def _with_engine_noise(pool: Pool) -> Pool:
    cv = profile_of(pool).step_noise_cv
    said = "step_noise_cv" in pool.model_fields_set
    return pool if said or not cv else pool.model_copy(update={"step_noise_cv": cv})
