"""Optuna samplers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

POPULATION = 20
"""Of NSGA-II: small, because studies of a few hundred trials need many generations."""


class FlatNSGAIISampler(NSGAIISampler):
    """NSGA-II over a space that is known beforehand, for evaluations that finish late.

    Optuna's own intersects the parameters of all trials at every proposal, which takes longer than a simulation; and it
    selects parents from the last generation, so that a trial that finishes after its generation is full (the simulated
    ones, as impossible designs are told at once) would never become a parent. Here parents are the best of all trials.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], *, population_size: int, seed: int) -> None:
        super().__init__(population_size=population_size, seed=seed)
        # A single value needs no recombination, and Optuna's transform cannot hold it.
        self._distributions = {name: d for name, d in distributions.items() if not d.single()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space."""
        return self._distributions

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the elite of all finished trials."""
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return self._elite_population_selection_strategy(study, finished)


def make_sampler(name: str, distributions: Mapping[str, BaseDistribution], seed: int) -> BaseSampler:
    """Return a sampler.

    Parameters
    ----------
    name
        ``auto``, ``nsga2``, ``tpe`` or ``random``. At 10 ms a simulation the default must propose quickly:
        ``auto`` is NSGA-II (2 ms a design), not TPE (50 ms and more).
    distributions
        All dimensions of the flat space.
    seed
        Of the sampler's random numbers.
    """
    if name == "random":
        return RandomSampler(seed=seed)
    if name == "tpe":
        return TPESampler(seed=seed, constant_liar=True)
    return FlatNSGAIISampler(distributions, population_size=POPULATION, seed=seed)
