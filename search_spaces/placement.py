"""Which pool serves which stage."""

from __future__ import annotations

from search_spaces.dimension import Dimension
from search_spaces.space import Space

COLOCATED, DISAGGREGATED = "colocated", "disaggregated"

POOLS = {"main": COLOCATED, "prefill": DISAGGREGATED, "decode": DISAGGREGATED}
"""Pools of a design, and the layout in which each exists."""


def placement(layouts: tuple[str, ...]) -> Space:
    """Return the choice between one pool for prefill and decode, and a pool for each."""
    return Space((Dimension("layout", layouts, "prefill and decode on the same clients or on separate pools"),))
