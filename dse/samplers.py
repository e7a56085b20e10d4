"""Optuna samplers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

POPULATION = 20
"""Of NSGA-II: small, because studies of a few hundred trials need many generations."""


def make_sampler(name: str, seed: int) -> BaseSampler:
    """Return a sampler.

    Parameters
    ----------
    name
        ``auto``, ``nsga2``, ``tpe`` or ``random``. At 10-20 ms a simulation the default must ask quickly:
        ``auto`` is NSGA-II (2 ms a design), not TPE (50 ms and more).
    seed
        Of the sampler's random numbers.
    """
    from optuna import samplers

    if name == "random":
        return samplers.RandomSampler(seed=seed)
    if name == "tpe":
        return samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    return samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
