"""Samplers by name; what a name stands for is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from simulator.errors import unknown_name

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

POPULATION: Final = 20
"""Designs asked for at once, and of a generation: small, because a few hundred trials need many generations."""

AUTO: Final = "auto"
SCREENED: Final = (AUTO, "screened")
"""Samplers that forecast designs, for which a study must be known; the others know nothing but trials."""

SAMPLERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        AUTO: "screened",
        "screened": "by forecast, by what trials taught, and by what designs cannot beat; the only one that knows them",
        "random": "every value equally likely, nothing learned",
        "qmc": "scrambled Sobol points: evenly spread, nothing learned",
        "tpe": "Optuna's TPE, each dimension for itself",
        "tpe-multivariate": "Optuna's TPE, dimensions together, in groups that occur together",
        "nsga2": "genetic: parents by dominance, then by how alone they are on the front",
        "nsga3": "genetic: parents by dominance, then by directions spread over the objectives",
        "tpe+nsga2": "TPE for the first 200 trials, NSGA-II from the best of them on",
        "gp": "Optuna's Gaussian process; needs PyTorch, seconds a proposal",
        "multi_agent": "a learning agent for each subsystem: hardware, parallelism, batching, placement, memory",
        "single_agent": "one learning agent of the same size for all dimensions",
    }
)
"""What each name proposes, in one line."""

_MODULES: Final[Mapping[str, str]] = {
    "tpe-multivariate": "tpe_multivariate",
    "tpe+nsga2": "tpe_then_nsga2",
    "random": "uniform",
}


def make_sampler(name: str, distributions: Mapping[str, BaseDistribution], seed: int) -> BaseSampler:
    """Return a sampler.

    Parameters
    ----------
    name
        One of ``SAMPLERS`` that knows nothing but trials: not ``auto`` or ``screened``, which the study makes itself.
    distributions
        All dimensions of the flat space: categorical or whole numbers.
    seed
        Of the sampler's random numbers.

    Raises
    ------
    SpecError
        If there is no such sampler, or something that it needs is not installed.
    """
    if name not in SAMPLERS or name in SCREENED:
        raise unknown_name("sampler", name, tuple(each for each in SAMPLERS if each not in SCREENED))
    sampler: BaseSampler = import_module(f"dse.samplers.{_MODULES.get(name, name)}").make(distributions, seed)
    return sampler
