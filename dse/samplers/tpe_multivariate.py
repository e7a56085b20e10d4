"""Tree-structured Parzen estimators, all dimensions together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning

from dse.samplers.tpe import RestlessTPESampler


def make(_: Mapping[str, BaseDistribution], seed: int) -> RestlessTPESampler:
    """Return TPE over whole designs.

    As TPE, but what is compared is whole designs: a proposal lies near a good one in all dimensions at once. Dimensions
    that always occur together form a group (``group``); where all trials have all dimensions there is one group.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = RestlessTPESampler(seed=seed, constant_liar=True, multivariate=True, group=True)
    sampler.begin(seed)
    return sampler
