"""NSGA-II for evaluations that finish late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.samplers import NSGAIISampler

from dse.samplers.genetic import Genetic
from dse.samplers.registry import POPULATION

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


class FlatNSGAIISampler(Genetic, NSGAIISampler):
    """NSGA-II over a space that is known beforehand, with parents from all finished trials.

    The parents are the best designs so far: feasible before infeasible (the less violated the better), then by fronts,
    and within a front those whose neighbours are far. A child takes each value from one of two parents and now and then
    a random one.
    """

    def elite(self, study: Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the best of some trials."""
        return self._elite_population_selection_strategy(study, trials)

    def child(
        self, study: Study, search_space: dict[str, BaseDistribution], parents: list[FrozenTrial]
    ) -> dict[str, Any]:
        """Return values recombined from two parents, without those that are to be random."""
        return self._child_generation_strategy(study, search_space, parents)


def make(distributions: Mapping[str, BaseDistribution], seed: int) -> FlatNSGAIISampler:
    """Return the sampler."""
    sampler = FlatNSGAIISampler(population_size=POPULATION, seed=seed)
    sampler.know(distributions)
    return sampler
