"""TPE, then NSGA-II from what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from dse.samplers import nsga2, tpe

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

TPE_TRIALS = 200
"""Proposals of TPE: it learns more from few trials, but each proposal takes longer the more there are."""


class TPEThenNSGAIISampler(BaseSampler):
    """TPE for the first ``TPE_TRIALS`` trials of a study, NSGA-II from then on.

    The parents of NSGA-II are the best of all finished trials, so it goes on from the best of TPE.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], *, seed: int) -> None:
        self._tpe = tpe.make(distributions, seed)
        self._nsga2 = nsga2.make(distributions, seed)

    def _sampler(self, trial: FrozenTrial) -> BaseSampler:
        return self._tpe if trial.number < TPE_TRIALS else self._nsga2

    def reseed_rng(self) -> None:
        """Give both samplers other random numbers."""
        self._tpe.reseed_rng()
        self._nsga2.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the dimensions that are proposed together."""
        return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values of the dimensions that are proposed together."""
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value of one dimension."""
        return self._sampler(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Pass it on."""
        self._sampler(trial).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Pass it on."""
        self._sampler(trial).after_trial(study, trial, state, values)


def make(distributions: Mapping[str, BaseDistribution], seed: int) -> TPEThenNSGAIISampler:
    """Return the sampler."""
    return TPEThenNSGAIISampler(distributions, seed=seed)
