"""A way out for samplers that propose the same design again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

STEP = 0.05
"""Share of values that become random with each proposal in a row that was known already."""


class Restless(BaseSampler):
    """Makes values random, the more of the latest proposals in a row were known already.

    A design that is known is not simulated again: its trial fails and teaches nothing, so a sampler that takes the
    best of its model would propose it for ever.
    """

    def begin(self, seed: int) -> None:
        """Set the random numbers, and that no proposal was known."""
        self._dice, self._chance = np.random.default_rng(seed), RandomSampler(seed=seed)
        self._repeats, self._repeated = 0, False

    def _is_random(self) -> bool:
        return bool(self._repeats) and self._dice.random() < STEP * self._repeats

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Count proposals in a row that were known."""
        self._repeats, self._repeated = (self._repeats + 1 if self._repeated else 0), False
        super().before_trial(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the sampler's values, some of them replaced."""
        found = super().sample_relative(study, trial, search_space)  # type: ignore[safe-super]
        return {
            name: self._chance.sample_independent(study, trial, name, search_space[name])
            if self._is_random()
            else value
            for name, value in found.items()
        }

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the sampler's value, or a random one."""
        if self._is_random():
            return self._chance.sample_independent(study, trial, param_name, param_distribution)
        return super().sample_independent(study, trial, param_name, param_distribution)  # type: ignore[safe-super]

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Note whether a proposal was known."""
        self._repeated |= state == TrialState.FAIL
        super().after_trial(study, trial, state, values)
