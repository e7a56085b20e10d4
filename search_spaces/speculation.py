"""Whether tokens are drafted ahead, and by what."""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.alternatives import chosen, name_of
from search_spaces.batching import not_static
from search_spaces.design import Design
from search_spaces.dimension import Condition, Dimension, Value
from search_spaces.kv_cache import OFF
from search_spaces.placement import DECODE, MAIN, Places
from search_spaces.space import Space
from simulator.spec.deployment import Pool
from simulator.spec.speculation import Speculation

Drafts = Mapping[str, Speculation | None]
"""Named alternatives of speculative decoding."""


def speculation(drafts: Drafts, prefix_caches: tuple[bool, ...], policies: tuple[str, ...], place: Places) -> Space:
    """Return the choice of a draft on the clients that decode; none without alternatives.

    A draft goes with neither static batching nor a prefix cache.
    """
    if not drafts:
        return Space(())
    main: Condition | None = not_static(policies, place)
    if main and prefix_caches != OFF:
        main = (f"{place.prefix}{MAIN}.prefix_cache", (False,)) if False in prefix_caches else None
    decode, dimensions = place.pool(DECODE), []
    for kind, when in ((MAIN, main), (DECODE, decode[1] if decode else None)):
        if when:
            meaning = "what drafts tokens ahead of the model"
            dimensions.append(Dimension(f"{place.prefix}{kind}.draft", tuple(drafts), meaning, when))
    return Space(tuple(dimensions))


def draft_of(design: Design, pool: str, drafts: Drafts) -> Speculation | None:
    """Return what drafts for a pool; None: nothing does."""
    return chosen(design, f"{pool}.draft", drafts)


def draft_values(name: str, pool: Pool, drafts: Drafts) -> dict[str, Value]:
    """Return the choice of a draft that a pool makes."""
    return name_of(f"{name}.draft", pool.speculation, drafts)
