"""Whether clients keep the KV of prompts for those that begin alike."""

from __future__ import annotations

from search_spaces.dimension import Dimension
from search_spaces.placement import COLOCATED, DISAGGREGATED
from search_spaces.space import Space

OFF = (False,)
"""No prefix cache anywhere: nothing to choose."""


def prefix_cache(choices: tuple[bool, ...], policies: tuple[str, ...], layouts: tuple[str, ...]) -> Space:
    """Return the choice of a prefix cache on the clients that read prompts; none if it is off in every design.

    Decode clients read no prompts, and static batching reuses none.
    """
    if choices == OFF:
        return Space(())
    meaning, dimensions = "whether prompts that begin alike share KV", []
    reading = tuple(policy for policy in policies if policy != "static")
    if COLOCATED in layouts and reading:
        dimensions.append(Dimension("main.prefix_cache", choices, meaning, ("main.policy", reading)))
    if DISAGGREGATED in layouts:
        dimensions.append(Dimension("prefill.prefix_cache", choices, meaning, ("layout", (DISAGGREGATED,))))
    return Space(tuple(dimensions))
