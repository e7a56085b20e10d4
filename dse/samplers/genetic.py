"""What the genetic samplers share: a space known beforehand, and parents from all finished trials."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from dse.samplers.registry import POPULATION

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


class Genetic(BaseSampler):
    """Children of the best of all finished trials, chosen anew whenever ``POPULATION`` more are finished.

    Optuna's own samplers look for the space and for the generation in all trials at every proposal, which takes longer
    than a simulation. And their parents are of the last generation: a trial that finishes after its generation is full
    (the simulated ones, as impossible designs are told at once) would never become one.
    """

    def know(self, distributions: Mapping[str, BaseDistribution]) -> None:
        """Take note of the space."""
        # A single value needs no recombination, and Optuna's transform cannot hold it.
        self._distributions = {name: d for name, d in distributions.items() if not d.single()}
        self._parents: list[FrozenTrial] = []
        self._finished = POPULATION

    @abstractmethod
    def elite(self, study: Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the best of some trials."""

    @abstractmethod
    def child(
        self, study: Study, search_space: dict[str, BaseDistribution], parents: list[FrozenTrial]
    ) -> dict[str, Any]:
        """Return values recombined from two parents, without those that are to be random."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a child; nothing, so that all values are random, until there are ``POPULATION`` finished trials."""
        if self._finished >= POPULATION:
            self._finished = 0
            trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if len(trials) >= POPULATION:
                self._parents = self.elite(study, trials)
        return self.child(study, search_space, self._parents) if self._parents else {}

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Count finished trials."""
        self._finished += state == TrialState.COMPLETE
