"""Random search."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler


def make(_: Mapping[str, BaseDistribution], seed: int) -> RandomSampler:
    """Return a sampler whose values are all equally likely, whatever was found before."""
    return RandomSampler(seed=seed)
