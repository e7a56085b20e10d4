"""NSGA-III for evaluations that finish late."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import NSGAIIISampler, NSGAIISampler

from dse.samplers.genetic import Genetic
from dse.samplers.registry import POPULATION

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

DIVISIONS = 5
"""Parts of an axis between directions: 6 directions for two objectives, 21 for three, 56 for four."""


class FlatNSGAIIISampler(Genetic, NSGAIIISampler):
    """NSGA-III over a space that is known beforehand, with parents from all finished trials.

    As NSGA-II, but within a front parents are taken so that every one of some directions, spread evenly over the
    objectives, has one near it. Until ``POPULATION`` trials have finite objectives, parents are those of NSGA-II:
    without them there is nothing to measure directions by.
    """

    def elite(self, study: Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the best of some trials."""
        known = [trial for trial in trials if all(map(math.isfinite, trial.values))]
        if len(known) < POPULATION:
            return NSGAIISampler(population_size=POPULATION)._elite_population_selection_strategy(study, trials)
        return self._elite_population_selection_strategy(study, known)

    def child(
        self, study: Study, search_space: dict[str, BaseDistribution], parents: list[FrozenTrial]
    ) -> dict[str, Any]:
        """Return values recombined from two parents, without those that are to be random."""
        return self._child_generation_strategy(study, search_space, parents)


def make(distributions: Mapping[str, BaseDistribution], seed: int) -> FlatNSGAIIISampler:
    """Return the sampler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = FlatNSGAIIISampler(population_size=POPULATION, seed=seed, dividing_parameter=DIVISIONS)
    sampler.know(distributions)
    return sampler
