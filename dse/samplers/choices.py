"""The values that a dimension can take."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution


def values_of(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Return all values of a dimension, in order.

    Raises
    ------
    TypeError
        If they cannot be counted.
    """
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return tuple(range(distribution.low, distribution.high + 1, distribution.step))
    raise TypeError(f"{distribution}: has no finite number of values")
