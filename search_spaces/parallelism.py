"""How many accelerators share a model, and in which precision."""

from __future__ import annotations

from search_spaces.dimension import Dimension
from search_spaces.placement import POOLS
from search_spaces.space import Space

ONE_STAGE = (1,)
"""No pipeline parallelism anywhere: nothing to choose."""


def parallelism(tp: tuple[int, ...], layouts: tuple[str, ...]) -> Space:
    """Return the choice of tensor parallelism for every pool that a layout has."""
    return Space(
        tuple(
            Dimension(f"{pool}.tp", tp, f"accelerators per {pool} client", ("layout", (layout,)))
            for pool, layout in POOLS.items()
            if layout in layouts
        )
    )


def pipeline_parallelism(pp: tuple[int, ...], layouts: tuple[str, ...]) -> Space:
    """Return the choice of pipeline parallelism for every pool that a layout has; none if there never is any."""
    if pp == ONE_STAGE:
        return Space(())
    return Space(
        tuple(
            Dimension(f"{pool}.pp", pp, f"stages that a {pool} client's layers are split into", ("layout", (layout,)))
            for pool, layout in POOLS.items()
            if layout in layouts
        )
    )


def precision(weights: tuple[str, ...], kv: tuple[str, ...]) -> Space:
    """Return the choice of the precision of weights and of the KV cache, the same in all pools."""
    return Space(
        (
            Dimension("weights", weights, "precision of weights"),
            Dimension("kv", kv, "precision of the KV cache"),
        )
    )
