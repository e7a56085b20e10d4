"""How requests pick a client."""

from __future__ import annotations

from search_spaces.dimension import Dimension
from search_spaces.space import Space


def routing(routers: tuple[str, ...]) -> Space:
    """Return the choice of the rule that routes arrivals (and hand-overs, by the same rule)."""
    return Space((Dimension("router", routers, "rule by which requests pick a client"),))
