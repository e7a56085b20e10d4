"""Gaussian processes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import GPSampler
from optuna.trial import create_trial

from dse.samplers.restless import Restless
from simulator.errors import SpecError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


def aligned(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return trials with one constraint each, all violations together, and finite objectives.

    A Gaussian process models the same constraints for all trials, but what forbids a simulation is not known of the
    simulated. An objective without a finite value gets the worst of the finite ones.
    """
    values = np.array([trial.values for trial in trials], dtype=np.float64)
    for column in values.T:
        finite = column[np.isfinite(column)]
        least, most = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
        np.clip(column, least, most, out=column)
    return [
        create_trial(
            values=list(row),
            params=trial.params,
            distributions=trial.distributions,
            constraints={"violation": sum(max(0.0, violation) for violation in trial.constraints.values())},
        )
        for row, trial in zip(values.tolist(), trials, strict=True)
    ]


class AlignedGPSampler(Restless, GPSampler):
    """Optuna's Gaussian-process sampler for studies in which not every trial has every constraint.

    The proposal is where the hypervolume is expected to grow most, times the chance of being feasible, by a Gaussian
    process for each objective and one for the sum of all violations. After proposals that were known, values
    are random.
    """

    def _sample_relative_impl(
        self,
        study: Study,
        completed_trials: list[FrozenTrial],
        running_trials: list[FrozenTrial],
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        return super()._sample_relative_impl(study, aligned(completed_trials), running_trials, search_space)


def make(_: Mapping[str, BaseDistribution], seed: int) -> AlignedGPSampler:
    """Return the sampler.

    Raises
    ------
    SpecError
        If PyTorch is not installed.
    """
    if find_spec("torch") is None:
        raise SpecError("sampler: 'gp' needs PyTorch, which is not installed; pip install torch, or choose 'tpe'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = AlignedGPSampler(seed=seed, deterministic_objective=True)
    sampler.begin(seed)
    return sampler
