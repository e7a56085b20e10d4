"""Which stage requests go to from which: read from the ways of a pipeline plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from simulator.spec.pipeline_plan import PipelinePlan

IN: Final = "\0requests"
OUT: Final = "\0answers"
"""Where requests come from and answers go to; no stage is called so."""

Way = tuple[str, ...]


@dataclass(frozen=True)
class Edge:
    """A step from one stage to the next.

    Attributes
    ----------
    source, target
        Names of stages, :data:`IN` or :data:`OUT`.
    fallback
        Whether only what a cascade refused takes it.
    """

    source: str
    target: str
    fallback: bool = False


def edges_of(plan: PipelinePlan) -> list[Edge]:
    """Return every step that requests take, each once, in the order of the ways."""
    found: dict[Edge, None] = {}
    for numbers in plan.class_ways:
        ways = [plan.ways[number] for number in numbers]
        models = list(dict.fromkeys(name for way in ways for name in way if name in plan.llm_stages))
        if len(models) > 1 and any(way[0] in models[1:] for way in ways):
            found |= dict.fromkeys(_of_cascade(ways, models))
        elif len(models) == 1 and len(ways) > 1:
            # Branches of thought go on where the first call was: the model is one stop, what follows comes behind it.
            found |= dict.fromkeys(_chain([IN, *ways[0], *(name for name in ways[-1] if name not in ways[0]), OUT]))
        else:
            for way in ways:
                found |= dict.fromkeys(_chain([IN, *way, OUT]))
    return list(found)


def _of_cascade(ways: Sequence[Way], models: Sequence[str]) -> list[Edge]:
    """Return the steps through models that are asked in turn: an answer is taken, or the next one is asked."""
    steps: list[Edge] = []
    source = IN
    for place, model in enumerate(models):
        asked = [way for way in ways if model in way]
        taken, refused = max(asked, key=len), min(asked, key=len)
        steps.append(Edge(source, taken[0], fallback=place > 0))
        steps += _chain([*taken, OUT])
        source = refused[-1]
    return steps


def _chain(stops: Sequence[str]) -> list[Edge]:
    return [Edge(source, target) for source, target in pairwise(stops)]
