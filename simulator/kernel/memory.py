"""Allocation of everything a run touches, and its plain-Python twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.kernel.layout import (
    CLIENT,
    ITL_BINS,
    LINEAR_KNOTS,
    NEVER,
    REQUEST,
    ROLE_BOTH,
    ROLE_DECODE,
    ROLE_PREFILL,
    WORLD,
)

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Memory:
    """The arrays of one simulation, ready to run once.

    Attributes
    ----------
    world, clients, requests
        Record arrays (dtypes ``WORLD``, shape (1,); ``CLIENT``; ``REQUEST``).
    scratch, tables
        Flat int64 arrays.
    """

    world: npt.NDArray[Any]
    clients: npt.NDArray[Any]
    requests: npt.NDArray[Any]
    scratch: Integers
    tables: Integers

    @property
    def itl_histogram(self) -> Integers:
        """Count of inter-token latencies by bin, shape (ITL_BINS,)."""
        start = int(self.world["itl_histogram"][0])
        return self.scratch[start : start + ITL_BINS]

    def step_histogram(self, client: int) -> Integers:
        """Steps of a client by knot of the linear table, shape (LINEAR_KNOTS,)."""
        start = int(self.clients["step_histogram"][client])
        return self.scratch[start : start + LINEAR_KNOTS]


def allocate(
    clients: npt.NDArray[Any],
    tables: Integers,
    arrival_ps: Integers,
    prompt_tokens: npt.NDArray[np.integer],
    output_tokens: npt.NDArray[np.integer],
    *,
    router: int,
    handover_router: int,
    max_run: int,
    query_tokens: npt.NDArray[np.integer] | None = None,
    llm_stage: int = 0,
) -> Memory:
    """Return the memory of one simulation.

    Parameters
    ----------
    clients
        Records of dtype ``CLIENT`` with the fields under "What it is" set, except the offsets into scratch.
    tables
        Cost tables at whose offsets the clients point.
    arrival_ps, prompt_tokens, output_tokens
        Shape (requests,), sorted by arrival.
    router, handover_router
        Rules for arrivals and hand-overs.
    max_run
        Largest number of iterations advanced at once; 1 is plain stepping.
    query_tokens
        Prompts as they arrived, shape (requests,); equal to ``prompt_tokens`` if absent.
    llm_stage
        Stage of the clients that prefill and decode; there are as many stages as the highest of any client says.
    """
    count, requests_count = len(clients), len(arrival_ps)
    clients = clients.copy()

    # One histogram of steps serves all clients that share a cost table, i.e. a pool.
    _, pool = np.unique(clients["linear"], return_inverse=True)
    batches = clients["max_batch"].astype(np.int64)
    phases = clients["block_tokens"].astype(np.int64)
    offset = ITL_BINS
    clients["step_histogram"] = offset + pool * LINEAR_KNOTS
    offset += int(pool.max(initial=-1) + 1) * LINEAR_KNOTS
    clients["finish_heap"] = offset + np.cumsum(batches) - batches
    offset += int(batches.sum())
    clients["phases"] = offset + np.cumsum(phases) - phases
    offset += int(phases.sum())
    stages = int(clients["stage"].max(initial=llm_stage)) + 1
    event_heap, stage_table, hop_heap = offset, offset + 2 * count, offset + 2 * count + 3 * stages
    hops = stages > 1 or bool((clients["role"] == ROLE_PREFILL).any())
    scratch = np.zeros(hop_heap + (requests_count if hops else 0) + 1, dtype=np.int64)
    scratch[event_heap : event_heap + count] = NEVER
    scratch[event_heap + count : event_heap + 2 * count] = np.arange(count)
    for stage in range(stages):
        here = np.flatnonzero(clients["stage"] == stage)
        if len(here):
            scratch[stage_table + 3 * stage : stage_table + 3 * stage + 2] = here[0], here[-1] + 1

    clients["event_ps"] = NEVER
    clients["event_slot"] = np.arange(count)
    clients["capacity_tokens"] = clients["total_blocks"] * clients["block_tokens"]
    clients["free_blocks"] = clients["total_blocks"]
    links = ("waiting_head", "waiting_tail", "running_tail", "fresh_head", "prefill_head", "partial", "batch_head")
    for link in links:
        clients[link] = -1

    requests = np.zeros(requests_count, dtype=REQUEST)
    requests["arrival_ps"] = arrival_ps
    requests["prompt_tokens"] = prompt_tokens
    requests["query_tokens"] = prompt_tokens if query_tokens is None else query_tokens
    requests["output_tokens"] = output_tokens
    for field in ("scheduled_ps", "first_token_ps", "finish_ps", "done_ps", "client", "prefill_client"):
        requests[field] = -1

    world = np.zeros(1, dtype=WORLD)
    world["router"], world["handover_router"] = router, handover_router
    world["max_run"] = max_run
    world["stages"], world["llm_stage"] = stages, llm_stage
    for role, capacity in ((ROLE_BOTH, "both"), (ROLE_PREFILL, "prefill"), (ROLE_DECODE, "decode")):
        of_role = clients["capacity_tokens"][clients["role"] == role]
        world[f"{capacity}_capacity_tokens"] = of_role.max(initial=0)
    world["event_heap"], world["stage_table"], world["hop_heap"] = event_heap, stage_table, hop_heap
    return Memory(world, clients, requests, scratch, tables)


class _Row:
    """A record as an object with attributes of plain Python integers."""

    __slots__ = tuple({name for dtype in (REQUEST, CLIENT, WORLD) for name in dtype.names or ()})

    def __init__(self, record: Any) -> None:
        for name in record.dtype.names:
            setattr(self, name, record[name].item())


class _Rows(list[_Row]):
    """A list of records with the shape that kernel code asks an array for."""

    @property
    def shape(self) -> tuple[int]:
        """Number of rows, as an array says it."""
        return (len(self),)


def run_interpreted(memory: Memory) -> None:
    """Run the uncompiled kernel: the same source on Python objects, results written back to the arrays."""
    from simulator.kernel._compile import interpreted
    from simulator.kernel.loop import run

    world = _Row(memory.world[0])
    clients = _Rows(map(_Row, memory.clients))
    requests = _Rows(map(_Row, memory.requests))
    scratch, tables = memory.scratch.tolist(), memory.tables.tolist()
    interpreted(run)(world, clients, requests, scratch, tables)
    for array, rows in ((memory.world, [world]), (memory.clients, clients), (memory.requests, requests)):
        for name in array.dtype.names or ():
            array[name] = [getattr(row, name) for row in rows]
    memory.scratch[:] = scratch
