"""Quasi-random search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler

from dse.samplers.choices import values_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


class QuasiRandomSampler(BaseSampler):
    """Points of a scrambled Sobol sequence, spread more evenly than random ones.

    The unit interval of each dimension is cut into as many equal parts as there are values. (Optuna's own QMC sampler
    leaves categorical dimensions to chance, which here are all of them.)
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], *, seed: int) -> None:
        from scipy.stats.qmc import Sobol

        self._distributions = dict(distributions)
        self._values = {name: values_of(distribution) for name, distribution in distributions.items()}
        # 64 bits: the default sequence ends after 2 ** 30 points.
        self._points = Sobol(len(self._values), scramble=True, bits=64, rng=seed)
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space."""
        return self._distributions

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Return the values that the next point lies in."""
        point = self._points.random(1)[0]
        return {
            name: values[min(int(at * len(values)), len(values) - 1)]
            for at, (name, values) in zip(point, self._values.items(), strict=True)
        }

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value of a dimension that was not known beforehand."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def make(distributions: Mapping[str, BaseDistribution], seed: int) -> QuasiRandomSampler:
    """Return the sampler."""
    return QuasiRandomSampler(distributions, seed=seed)
