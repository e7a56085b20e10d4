"""When requests were where: at each stage of their way, and at which pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.kernel.layout import LEFT, REACHED, STARTED, VISIT_FIELDS
from simulator.metrics import Result
from simulator.timeline.parts import Part, owners

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Visits:
    """Times of requests at stages, by request and then in order of their way; all shapes (visits,).

    Attributes
    ----------
    request, stage
        Which.
    reached_ps, started_ps, left_ps
        When the request reached the stage, was first admitted or served there (−1: not recorded), and left.
    """

    request: Integers
    stage: Integers
    reached_ps: Integers
    started_ps: Integers
    left_ps: Integers

    def of(self, chosen: npt.NDArray[np.bool_]) -> Visits:
        """Return some of the visits."""
        return Visits(**{name: values[chosen] for name, values in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Stays:
    """From when to when requests waited at or were served by a group of parts; all shapes (stays,)."""

    group: npt.NDArray[np.intp]
    begin_ps: Integers
    end_ps: Integers


def visits_by_place(result: Result) -> Iterator[Visits]:
    """Yield the visits of all requests that were served: at the first stage of every way, at the second, and so on.

    No request is twice in one of them.
    """
    lowered = result.lowered
    memory, rows = lowered.memory, lowered.memory.requests
    number = {name: place for place, name in enumerate(lowered.plan.stages)}
    given = lowered.requests.way
    way = np.zeros(len(rows), dtype=np.int64) if given is None else given.astype(np.int64)
    every = np.arange(len(rows))
    if not len(memory.visits):  # every way is a single stage, or none, where branches of thought join
        stage = np.array([number[stages[0]] if stages else -1 for stages in lowered.plan.ways], dtype=np.int64)[way]
        visits = Visits(every, stage, rows["arrival_ps"], rows["scheduled_ps"], rows["done_ps"])
        yield visits.of((rows["done_ps"] >= 0) & (stage >= 0))
        return
    for place in range(max(len(stages) for stages in lowered.plan.ways)):
        stage_of_way = [number[stages[place]] if place < len(stages) else -1 for stages in lowered.plan.ways]
        stage = np.array(stage_of_way, dtype=np.int64)[way]
        here = every[stage >= 0]
        start = memory.visits[here] + VISIT_FIELDS * place
        times = [memory.scratch[start + field] for field in (REACHED, STARTED, LEFT)]
        visits = Visits(here, stage[here], *times)
        yield visits.of(visits.reached_ps >= 0)


def visits_of(result: Result, window_ps: tuple[int, int] | None = None) -> Visits:
    """Return the visits of all requests that were served.

    Parameters
    ----------
    result
        Of a simulation.
    window_ps
        Visits that end before it or begin after it are left out, if given.
    """
    found = list(visits_by_place(result))
    if window_ps is not None:
        first, last = window_ps
        found = [each.of((each.left_ps >= first) & (each.reached_ps <= last)) for each in found]
    if len(found) == 1:
        return found[0]
    request = np.concatenate([each.request for each in found])
    order = np.argsort(request, kind="stable")
    fields = ("stage", "reached_ps", "started_ps", "left_ps")
    others = (np.concatenate([getattr(each, field) for each in found])[order] for field in fields)
    return Visits(request[order], *others)


def stays_of(result: Result, parts: tuple[Part, ...], visits: Visits) -> Stays:
    """Return the stays of requests: at an LLM stage at the pool that prefilled, then at the pool that decoded.

    A request that is handed over is at the second pool as soon as its prompt is done, also while its KV is on the way.
    """
    lowered = result.lowered
    rows, owner = lowered.memory.requests[visits.request], owners(result, parts)
    llm = lowered.memory.stages["llm"][visits.stage] == 1
    group_of_stage = np.array(
        [next(part.group for part in parts if part.stage == name) for name in lowered.plan.stages], dtype=np.intp
    )
    handed = llm & (rows["prefill_client"] != rows["client"])
    group = np.where(llm, owner[rows["prefill_client"]], group_of_stage[visits.stage])
    end_ps = np.where(handed, rows["first_token_ps"], visits.left_ps)
    return Stays(
        np.concatenate([group, owner[rows["client"][handed]]]),
        np.concatenate([visits.reached_ps, rows["first_token_ps"][handed]]),
        np.concatenate([end_ps, visits.left_ps[handed]]),
    )
