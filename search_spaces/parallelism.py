"""How many accelerators share a model, in which way, and in which precision."""

from __future__ import annotations

from typing import Any, Final

from search_spaces.design import Design
from search_spaces.dimension import Dimension, Value
from search_spaces.placement import Places
from search_spaces.space import Space
from simulator.spec.deployment import Pool

ONE: Final = (1,)
"""A degree that is 1 in every design: nothing to choose."""


def parallelism(tp: tuple[int, ...], place: Places) -> Space:
    """Return the choice of tensor parallelism for every pool."""
    return Space(
        tuple(
            Dimension(f"{pool}.tp", tp, f"accelerators per {pool} client", when) for pool, when in place.pools.items()
        )
    )


def pipeline_parallelism(pp: tuple[int, ...], place: Places) -> Space:
    """Return the choice of pipeline parallelism for every pool; none if there never is any."""
    return _degree("pp", pp, "stages that a {pool} client's layers are split into", place)


def data_parallelism(dp: tuple[int, ...], place: Places) -> Space:
    """Return the choice of attention data parallelism for every pool; none if there never is any."""
    return _degree("dp", dp, "ranks of a {pool} client that share a batch, each with its own attention", place)


def expert_parallelism(ep: tuple[int, ...], place: Places) -> Space:
    """Return the choice of expert parallelism for every pool; none if experts are always split over all ranks."""
    return _degree("ep", ep, "groups that a {pool} client's experts are dealt to; 1: every expert is split", place)


def _degree(name: str, values: tuple[int, ...], meaning: str, place: Places) -> Space:
    if values == ONE:
        return Space(())
    return Space(
        tuple(
            Dimension(f"{pool}.{name}", values, meaning.format(pool=pool), when) for pool, when in place.pools.items()
        )
    )


def precision(weights: tuple[str, ...], kv: tuple[str, ...], place: Places) -> Space:
    """Return the choice of the precision of weights and of the KV cache, the same in all pools of a stage."""
    return Space(
        (
            Dimension(f"{place.prefix}weights", weights, "precision of weights"),
            Dimension(f"{place.prefix}kv", kv, "precision of the KV cache"),
        )
    )


def parallel_fields(design: Design, prefix: str, pool: str) -> dict[str, Any]:
    """Return the fields of a pool that degrees of parallelism and precision choose."""
    degrees = {name: design.number(f"{pool}.{name}") if f"{pool}.{name}" in design else 1 for name in ("pp", "dp")}
    ep = design.number(f"{pool}.ep") if f"{pool}.ep" in design else 1
    return {
        "tp": design.number(f"{pool}.tp"),
        **degrees,
        # One group is every expert split over all ranks, which also models without experts allow.
        "ep": ep if ep > 1 else None,
        "weights": design[f"{prefix}weights"],
        "kv": design[f"{prefix}kv"],
    }


def parallel_values(prefix: str, name: str, pool: Pool) -> dict[str, Value]:
    """Return the choices that a pool makes of degrees of parallelism and precision."""
    return {
        f"{name}.tp": pool.tp,
        f"{name}.pp": pool.pp,
        f"{name}.dp": pool.dp,
        f"{name}.ep": pool.ep or 1,
        f"{prefix}weights": pool.weights,
        f"{prefix}kv": pool.kv,
    }
