"""How requests pick a client."""

from __future__ import annotations

from typing import Any, Final

from search_spaces.design import Design
from search_spaces.dimension import Dimension, Value
from search_spaces.space import Space
from simulator.spec.deployment import Deployment

ONE: Final = (1,)
"""A token to compute weighs as much as an outstanding one in every design: nothing to choose."""


def routing(routers: tuple[str, ...]) -> Space:
    """Return the choice of the rule that routes arrivals (and hand-overs, by the same rule)."""
    return Space((Dimension("router", routers, "rule by which requests pick a client"),))


def prefix_weight(weights: tuple[int, ...], routers: tuple[str, ...]) -> Space:
    """Return the choice of what a cached prefix weighs against a long queue; none if it never varies."""
    if weights == ONE or "prefix_affinity" not in routers:
        return Space(())
    meaning = "outstanding tokens that one token to compute weighs as much as"
    return Space((Dimension("prefix_weight", weights, meaning, ("router", ("prefix_affinity",))),))


def routing_fields(design: Design) -> dict[str, Any]:
    """Return the fields of a deployment that say how requests pick a client."""
    return {
        "router": design["router"],
        "handover_router": design["router"],
        "prefix_weight": design.number("prefix_weight") if "prefix_weight" in design else 1,
    }


def routing_values(deployment: Deployment) -> dict[str, Value]:
    """Return the choices that a deployment makes of how requests pick a client."""
    return {"router": deployment.router, "prefix_weight": deployment.prefix_weight}
