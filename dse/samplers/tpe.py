"""Tree-structured Parzen estimators, each dimension for itself."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler

from dse.samplers.restless import Restless


class RestlessTPESampler(Restless, TPESampler):
    """Optuna's TPE, with random values after proposals that were known.

    Trials are split into good ones (feasible before infeasible, then by fronts) and the rest; each dimension gets the
    value that is most frequent among the good in proportion to the rest. Trials under way count as bad ones
    (``constant_liar``), so that a batch spreads out.
    """


def make(_: Mapping[str, BaseDistribution], seed: int) -> RestlessTPESampler:
    """Return the sampler."""
    sampler = RestlessTPESampler(seed=seed, constant_liar=True)
    sampler.begin(seed)
    return sampler
