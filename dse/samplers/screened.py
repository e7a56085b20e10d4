"""Designs that promise most by forecast, by what trials taught, and by what they cannot beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler

from dse.samplers.choices import values_of
from search_spaces import Design

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


class Proposer(Protocol):
    """Whoever knows which designs to simulate next."""

    def propose(self, count: int) -> Sequence[Design]:
        """Return designs that were not proposed before; none if nothing is left."""


class ScreenedSampler(BaseSampler):
    """Proposes what a search proposes, a batch at a time.

    The rule: forecast every candidate by a steady state of its pools, correct the forecasts by what trials taught, and
    choose those that are expected to add most hypervolume to the front, weighted by the probability that they keep
    their promises; if none is expected to add anything worthwhile, those that could add most at best.

    Parameters
    ----------
    search
        Which is told of trials by whoever evaluates them.
    distributions
        All dimensions of the flat space.
    batch
        Designs proposed at once.
    seed
        Of what is returned once nothing is left to propose.

    Attributes
    ----------
    is_done
        Whether nothing was left for the last trial, whose choices mean nothing then.
    """

    def __init__(self, search: Proposer, distributions: Mapping[str, BaseDistribution], batch: int, seed: int) -> None:
        self._search, self._batch = search, batch
        self._distributions = dict(distributions)
        self._waiting: list[Design] = []
        self.is_done = False
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the choices of the next design; inactive dimensions take their first value."""
        if "fixed_params" in trial.system_attrs:
            # Somebody has chosen already: a warm start.
            return {}
        if not self._waiting:
            self._waiting = list(reversed(self._search.propose(self._batch)))
        self.is_done = not self._waiting
        if self.is_done:
            return {}
        design = self._waiting.pop()
        return {name: design.get(name, values_of(distribution)[0]) for name, distribution in search_space.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value, once nothing is left to propose."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)
