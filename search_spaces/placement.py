"""Which pool serves which stage, and how prefill and decode pools work together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from search_spaces.alternatives import chosen, name_of
from search_spaces.design import Design
from search_spaces.dimension import Condition, Dimension, Value
from search_spaces.space import Space
from simulator.errors import SpecError
from simulator.spec.deployment import Deployment, Lending, Link, Pool

COLOCATED, DISAGGREGATED = "colocated", "disaggregated"

MAIN, EXTRA, PREFILL, DECODE = "main", "extra", "prefill", "decode"
"""What pools of a stage are called: ``extra`` stands beside ``main``, of another type."""

MOST_LAYOUTS: Final = 1024
"""Layouts of all LLM stages together: both of ten stages."""

GLOBAL: Final = ("global",)
"""Hand-overs reach every decode client in every design: nothing to choose."""

WHOLE: Final = (False,)
"""KV is handed over when the whole prompt is done in every design: nothing to choose."""

ANY_LENGTH: Final = (0,)
"""Both of two types take prompts of any length in every design: nothing to choose."""


@dataclass(frozen=True)
class Places:
    """The pools that designs of one LLM stage may have.

    Attributes
    ----------
    prefix
        What the names of the stage's dimensions begin with: nothing, or the stage's name and a dot if there are
        several LLM stages.
    pools
        By name the condition under which a pool exists, in the order of a design's pools.
    """

    prefix: str
    pools: Mapping[str, Condition]

    def pool(self, kind: str) -> tuple[str, Condition] | None:
        """Return name and condition of ``main``, ``extra``, ``prefill`` or ``decode``; None if no design has it."""
        name = f"{self.prefix}{kind}"
        return (name, self.pools[name]) if name in self.pools else None


def layout_dimension(layouts: Mapping[str, tuple[str, ...]]) -> Dimension:
    """Return the choice between one pool for prefill and decode, and a pool for each, for every LLM stage.

    Parameters
    ----------
    layouts
        By LLM stage the layouts to choose from. With several stages a value names the layout of each, such as
        ``colocated+disaggregated``: what one of them needs can then depend on a single choice.
    """
    count = math.prod(len(each) for each in layouts.values())
    if count > MOST_LAYOUTS:
        raise SpecError(
            f"layouts: {len(layouts)} LLM stages have {count:,} together, at most {MOST_LAYOUTS:,}; "
            "give some one layout"
        )
    values = tuple("+".join(each) for each in product(*layouts.values()))
    return Dimension("layout", values, "prefill and decode on the same clients or on separate pools")


def layout_of_stages(design: Design) -> list[str]:
    """Return the layout of each LLM stage of a design."""
    return design.text("layout").split("+")


def prefix_of(stage: str, stages: int) -> str:
    """Return what the names of a stage's pools and dimensions begin with, if there are so many LLM stages."""
    return f"{stage}." if stages > 1 else ""


def places(layout: Dimension, stages: tuple[str, ...], mixed: Mapping[str, tuple[bool, ...]]) -> dict[str, Places]:
    """Return for every LLM stage the pools that its designs may have, and when.

    Parameters
    ----------
    layout
        The choice of layouts (:func:`layout_dimension`).
    stages
        Names of the LLM stages, in the order of the layouts.
    mixed
        By stage whether a second pool of another type may stand beside ``main``.
    """
    found = {}
    for place, stage in enumerate(stages):
        prefix = prefix_of(stage, len(stages))
        under: dict[str, list[Value]] = {COLOCATED: [], DISAGGREGATED: []}
        for value in layout.values:
            under[str(value).split("+")[place]].append(value)
        pools: dict[str, Condition] = {}
        if under[COLOCATED]:
            pools[f"{prefix}{MAIN}"] = ("layout", tuple(under[COLOCATED]))
            if True in mixed[stage]:
                pools[f"{prefix}{EXTRA}"] = (f"{prefix}mixed", (True,))
        if under[DISAGGREGATED]:
            pools |= {f"{prefix}{kind}": ("layout", tuple(under[DISAGGREGATED])) for kind in (PREFILL, DECODE)}
        found[stage] = Places(prefix, pools)
    return found


def handovers(
    layout: Dimension,
    links: Mapping[str, Link],
    layer_wise: tuple[bool, ...],
    scopes: tuple[str, ...],
    groups: tuple[int, ...],
    lending: Mapping[str, Lending | None],
) -> Space:
    """Return the choices of how prefill and decode pools work together; none of what is the default in all designs.

    Parameters
    ----------
    layout
        The choice of layouts: all of this matters only if some stage is disaggregated.
    links, lending
        Named alternatives.
    layer_wise
        Whether the KV of a layer leaves while later ones are computed.
    scopes, groups
        Whether hand-overs stay within one of so many groups of clients.
    """
    apart = tuple(value for value in layout.values if DISAGGREGATED in str(value).split("+"))
    if not apart:
        return Space(())
    here, dimensions = ("layout", apart), []
    if links:
        dimensions.append(Dimension("link", tuple(links), "what carries KV from prefill to decode clients", here))
    if layer_wise != WHOLE:
        meaning = "whether the KV of a layer leaves while later ones are computed"
        dimensions.append(Dimension("link.layer_wise", layer_wise, meaning, here))
    if scopes != GLOBAL:
        meaning = "whether hand-overs reach every decode client or those of the same group"
        dimensions.append(Dimension("handover_scope", scopes, meaning, here))
        meaning = "groups of neighbouring clients that hand-overs stay within"
        dimensions.append(Dimension("groups", groups, meaning, ("handover_scope", ("local",))))
    if lending:
        meaning = "when prefill and decode clients help each other out"
        dimensions.append(Dimension("lending", tuple(lending), meaning, here))
    return Space(tuple(dimensions))


def handover_fields(design: Design, links: Mapping[str, Link], lending: Mapping[str, Lending | None]) -> dict[str, Any]:
    """Return the fields of a deployment that :func:`handovers` chooses; without a choice the first link."""
    link = chosen(design, "link", links) or next(iter(links.values()), Link())
    if "link.layer_wise" in design:
        link = link.model_copy(update={"layer_wise": design["link.layer_wise"]})
    return {
        "link": link,
        "handover_scope": design.get("handover_scope", "global"),
        "lending": chosen(design, "lending", lending),
    }


def handover_values(
    deployment: Deployment, links: Mapping[str, Link], lending: Mapping[str, Lending | None]
) -> dict[str, Value]:
    """Return the choices that a deployment makes of :func:`handovers`."""
    plain = {name: link.model_copy(update={"layer_wise": deployment.link.layer_wise}) for name, link in links.items()}
    groups = (pool.groups for pool in deployment.pools if pool.role != "both")
    return {
        **name_of("link", deployment.link, plain),
        "link.layer_wise": deployment.link.layer_wise,
        "handover_scope": deployment.handover_scope,
        "groups": next(groups, 1),
        **name_of("lending", deployment.lending, lending),
    }


def prompt_split(values: tuple[int, ...], place: Places) -> Space:
    """Return the choice of the longest prompt of ``main`` where longer ones go to ``extra``; none if never split."""
    extra = place.pool(EXTRA)
    if extra is None or values == ANY_LENGTH:
        return Space(())
    meaning = "prompts up to this length go to main, longer ones to extra; 0: both take any"
    return Space((Dimension(f"{place.prefix}prompt_split_tokens", values, meaning, extra[1]),))


def stage_fields(design: Design, prefix: str, kind: str) -> dict[str, Any]:
    """Return which requests a pool takes: its role, its groups and the prompts it is for."""
    if kind in (PREFILL, DECODE):
        return {"role": kind, "groups": design.number("groups") if "groups" in design else 1}
    split = f"{prefix}prompt_split_tokens"
    longest = design.number(split) if split in design else 0
    if not longest:
        return {"role": "both"}
    return {"role": "both", **({"max_prompt_tokens": longest} if kind == MAIN else {"min_prompt_tokens": longest + 1})}


def stage_values(prefix: str, pools: Mapping[str, Pool]) -> dict[str, Value]:
    """Return the choices that the pools of a stage make, given by what they are called."""
    main = pools.get(MAIN)
    longest = main.max_prompt_tokens if main else None
    return {f"{prefix}mixed": EXTRA in pools, f"{prefix}prompt_split_tokens": longest or 0}
