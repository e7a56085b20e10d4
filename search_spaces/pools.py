"""Which dimensions of a space a pool depends on, so that what is worked out for a pool is worked out once."""

from __future__ import annotations

from typing import Final

from search_spaces.adapters import MEMORY, SLOTS
from search_spaces.placement import DECODE, EXTRA, MAIN, PREFILL
from search_spaces.space import Space

SUFFIX: Final = ".accelerator"
"""Of the dimension that is active wherever a pool exists."""

OF_STAGE: Final = ("weights", "kv", "order", "memory_utilization", SLOTS, MEMORY)
"""Dimensions of a stage that all its pools share."""

OWN: Final = ("accelerator", "clients", "tp", "pp", "dp", "ep")
"""Dimensions that a pool ``extra`` has beside those of ``main``."""


def pools_of(space: Space) -> tuple[str, ...]:
    """Return the names of the pools that designs of a space may have, in the order of the space."""
    return tuple(d.name.removesuffix(SUFFIX) for d in space.closed if d.name.endswith(SUFFIX))


def dimensions_of_pool(space: Space, pool: str) -> tuple[str, ...]:
    """Return the dimensions that decide what a pool is: designs that agree in them have the same pool.

    Parameters
    ----------
    space
        Of the designs.
    pool
        One of :func:`pools_of`. It exists in a design if its ``accelerator`` is active.

    Returns
    -------
    tuple of str
        In the order of the space. What belongs to the deployment as a whole (router, link, tiers, services) is not
        among them.
    """
    stage, dot, kind = pool.rpartition(".")
    prefix = stage + dot
    shared = {f"{prefix}{name}" for name in OF_STAGE}
    if kind in (PREFILL, DECODE):
        shared.add("groups")
    else:
        shared.add(f"{prefix}prompt_split_tokens")

    def matters(name: str) -> bool:
        owner, _, what = name.rpartition(".")
        if what == "tiers":
            return False
        as_main = kind == EXTRA and owner == f"{prefix}{MAIN}" and what not in OWN
        return owner == pool or as_main or name in shared

    return tuple(dimension.name for dimension in space.closed if matters(dimension.name))
