"""The pools and services of a result, and the log of what their clients did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from simulator import catalog
from simulator.errors import SpecError
from simulator.kernel.layout import (
    LOG_BLOCKS,
    LOG_CLIENT,
    LOG_DECODES,
    LOG_END_PS,
    LOG_PREFILL_TOKENS,
    LOG_RUNNING,
    LOG_START_PS,
    LOG_STEPS,
)
from simulator.lowering import PoolPlan, ServicePlan
from simulator.metrics import Result
from simulator.workload import PS_PER_S

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """A pool or a service.

    Attributes
    ----------
    name
        Of the pool; of a service its stage and device. All are different.
    plan
        As it was lowered.
    clients
        Number of its clients.
    stage
        Name of its stage.
    group, group_share
        The first part that has the same queue, and this part's share of its clients. Which of several services of one
        stage a request waits for is not recorded: they form a group. A pool is one by itself.
    idle_w, energy_j
        Power of all its devices when idle, and their energy over the span.
    """

    name: str
    plan: PoolPlan | ServicePlan
    clients: int
    stage: str
    group: int
    group_share: float
    idle_w: float
    energy_j: float


@dataclass(frozen=True, eq=False)
class Log:
    """What clients did: one entry for each run of equal steps, and for each batch; all shapes (entries,).

    Attributes
    ----------
    client, part
        Which, and of which part.
    start_ps, end_ps
        When.
    steps
        Iterations.
    prefill_tokens
        Prompt tokens in all.
    decodes
        Requests that decode in each step.
    running
        Requests in the batch.
    blocks
        KV blocks in use at the start.
    """

    client: Integers
    part: npt.NDArray[np.intp]
    start_ps: Integers
    end_ps: Integers
    steps: Integers
    prefill_tokens: Integers
    decodes: Integers
    running: Integers
    blocks: Integers

    def where(self, chosen: npt.NDArray[np.bool_]) -> Log:
        """Return some of the entries."""
        return Log(**{name: values[chosen] for name, values in vars(self).items()})


def parts_of(result: Result) -> tuple[Part, ...]:
    """Return the pools and then the services of a result."""
    lowered = result.lowered
    names = _distinct([*(use.name for use in result.pools), *(use.name for use in result.services)])
    parts: list[Part] = []
    for plan, use in zip(lowered.pools, result.pools, strict=True):
        pool, place = plan.pool, len(parts)
        idle_w = sum(kind.idle_w * (count * pool.clients) for kind, count in plan.engine.hardware)
        parts.append(Part(names[place], plan, pool.clients, pool.stage, place, 1.0, idle_w, use.energy_j))
    for offered, used in zip(lowered.services, result.services, strict=True):
        service, place = offered.service, len(parts)
        alike = [each for each in lowered.services if each.service.stage == service.stage]
        group = len(lowered.pools) + next(i for i, each in enumerate(lowered.services) if each is alike[0])
        share = service.clients / sum(each.service.clients for each in alike)
        idle_w = catalog.device(service.device).idle_w * service.devices_in_all(offered.stage)
        parts.append(Part(names[place], offered, service.clients, service.stage, group, share, idle_w, used.energy_j))
    return tuple(parts)


def _distinct(names: Iterable[str]) -> list[str]:
    """Return names with a number behind those that stood there before."""
    found: list[str] = []
    for name in names:
        spellings = (name if number == 1 else f"{name} {number}" for number in count(1))
        found.append(next(spelling for spelling in spellings if spelling not in found))
    return found


def owners(result: Result, parts: tuple[Part, ...]) -> npt.NDArray[np.intp]:
    """Return the part of each client; −1 for a link."""
    owner = np.full(len(result.lowered.memory.clients), -1, dtype=np.intp)
    for number, part in enumerate(parts):
        owner[part.plan.first : part.plan.first + part.clients] = number
    return owner


def log_of(result: Result, parts: tuple[Part, ...]) -> Log:
    """Return the log of a result.

    Raises
    ------
    SpecError
        If none was kept, or not all of it.
    """
    memory = result.lowered.memory
    kept, wanted = (int(memory.world[field][0]) for field in ("log_capacity", "logged"))
    if not kept:
        raise SpecError("log: this result has none; ask for one with simulate(..., log=True)")
    if wanted > kept:
        raise SpecError(f"log: only {kept:,} of {wanted:,} entries were kept; simulate(..., log=True) keeps all")
    columns = memory.log.T
    return Log(
        client=columns[LOG_CLIENT],
        part=owners(result, parts)[columns[LOG_CLIENT]],
        start_ps=columns[LOG_START_PS],
        end_ps=columns[LOG_END_PS],
        steps=columns[LOG_STEPS],
        prefill_tokens=columns[LOG_PREFILL_TOKENS],
        decodes=columns[LOG_DECODES],
        running=columns[LOG_RUNNING],
        blocks=columns[LOG_BLOCKS],
    )


def window_ps(result: Result) -> tuple[int, int]:
    """Return the part of the span in which the log was kept, picoseconds."""
    world = result.lowered.memory.world
    span_ps = round(result.span_s * PS_PER_S)
    first, last = max(0, int(world["log_from_ps"][0])), min(span_ps, int(world["log_until_ps"][0]))
    if first >= last:
        raise SpecError(
            f"log: kept from {first / PS_PER_S:g} s on, but the run ended at {result.span_s:g} s; allowed: earlier"
        )
    return first, last
