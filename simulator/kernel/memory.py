"""Allocation of everything a run touches, and its plain-Python twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.kernel.layout import (
    CACHE,
    CACHE_FIELDS,
    CLIENT,
    ENTRY_FIELDS,
    ENTRY_NEWER,
    ITL_BINS,
    LINEAR_KNOTS,
    LINKS_OF_CLIENTS,
    LOG_FIELDS,
    NEVER,
    PLACE_FIELDS,
    PLACE_LAST,
    REQUEST,
    ROLE_DECODE,
    ROLE_LINK,
    ROLE_PREFILL,
    STAGE,
    STAGE_FIELDS,
    VISIT_FIELDS,
    WORLD,
)

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Memory:
    """The arrays of one simulation, ready to run once.

    Attributes
    ----------
    world, clients, requests
        Record arrays (dtypes ``WORLD``, shape (1,); ``CLIENT``, links last; ``REQUEST``).
    scratch
        Flat int64 array.
    stages, caches
        Parts of it as record arrays (dtypes ``STAGE``; ``CACHE``, tiers first).
    visits
        Offset in scratch of each request's first visit, shape (requests,); empty if none are kept.
    way_starts, llm_of_way, chunk_start
        Offset in scratch of each way, and its LLM stage (-1: none); offset of the chunks' ids.
    """

    world: npt.NDArray[Any]
    clients: npt.NDArray[Any]
    requests: npt.NDArray[Any]
    scratch: Integers
    stages: npt.NDArray[Any]
    caches: npt.NDArray[Any]
    visits: Integers
    way_starts: Integers
    llm_of_way: Integers
    chunk_start: int

    def place(self, requests: npt.NDArray[Any]) -> None:
        """Let requests point to their ways and chunks in scratch, of which they hold the numbers until now."""
        way = requests["way"].copy()
        requests["way"] = self.way_starts[way]
        requests["llm_stage"] = self.llm_of_way[way]
        requests["chunk_first"] += self.chunk_start

    @property
    def log(self) -> Integers:
        """Entries of the log, in order of their ends, shape (entries, LOG_FIELDS)."""
        count = min(int(self.world["logged"][0]), int(self.world["log_capacity"][0]))
        start = int(self.world["log"][0])
        return self.scratch[start : start + count * LOG_FIELDS].reshape(count, LOG_FIELDS)

    @property
    def itl_histogram(self) -> Integers:
        """Count of inter-token latencies by bin, shape (ITL_BINS,)."""
        start = int(self.world["itl_histogram"][0])
        return self.scratch[start : start + ITL_BINS]

    def step_histogram(self, client: int) -> Integers:
        """Steps of a client by knot of the linear table, shape (LINEAR_KNOTS,)."""
        start = int(self.clients["step_histogram"][client])
        return self.scratch[start : start + LINEAR_KNOTS]


def new_clients(count: int) -> npt.NDArray[Any]:
    """Return records of clients without cache, tiers, link, noise and limits on prompts; the rest is zero."""
    clients = np.zeros(count, dtype=CLIENT)
    for field in ("egress", "cache", "tier", "decode_hint", "noise"):
        clients[field] = -1
    clients["max_prompt"] = np.iinfo(np.int32).max
    return clients


def new_stages(count: int) -> npt.NDArray[Any]:
    """Return records of stages that never lend; the rest is zero."""
    stages = np.zeros(count, dtype=STAGE)
    stages["lend_prefill_tokens"] = stages["lend_decode_tokens"] = -1
    return stages


def new_requests(count: int) -> npt.NDArray[Any]:
    """Return records of requests to which nothing has happened yet."""
    one = np.zeros(1, dtype=REQUEST)
    for field in ("scheduled_ps", "first_token_ps", "finish_ps", "done_ps", "visit"):
        one[field] = -1
    for field in ("client", "prefill_client", "former", "llm_stage", "tier"):
        one[field] = -1
    # Copying a row as a whole is quicker than writing a field of every row.
    requests = np.repeat(one, count)
    requests["number"] = np.arange(count)
    return requests


class _Scratch:
    """Regions of scratch memory, handed out one after the other."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, count: int) -> int:
        """Return the offset of a region."""
        start, self.size = self.size, self.size + count
        return start

    def take_each(self, counts: npt.NDArray[np.integer]) -> Integers:
        """Return the offsets of regions of different sizes, one after the other."""
        sizes = counts.astype(np.int64)
        offsets: Integers = self.take(int(sizes.sum())) + np.cumsum(sizes) - sizes
        return offsets


def allocate(
    clients: npt.NDArray[Any],
    stages: npt.NDArray[Any],
    requests: npt.NDArray[Any],
    tables: Integers,
    *,
    max_run: int,
    ways: Sequence[Sequence[int]] = ((0,),),
    tiers: npt.NDArray[Any] | None = None,
    links: int = 0,
    chunks: npt.NDArray[np.int32] | None = None,
    chunk_tokens: int = 1,
    seed: int = 0,
    requests_in_all: int | None = None,
    keep_visits: bool = True,
    log_capacity: int = 0,
    log_window_ps: tuple[int, int] = (0, NEVER),
) -> Memory:
    """Return the memory of one simulation; it takes ``requests`` over.

    Parameters
    ----------
    clients
        From :func:`new_clients`, the fields under "What it is" set, except the offsets into scratch. Clients of one
        stage stand together. ``cache`` is 0 for a client with a prefix cache, ``tier`` the number of its nearest tier,
        ``egress`` the number of a link.
    stages
        From :func:`new_stages`, with everything but ``first`` and ``last``.
    requests
        From :func:`new_requests`: lengths, arrivals (sorted for those that follow no others), ``way`` as an index into
        ``ways``, and what else is not zero.
    tables
        Cost tables at whose offsets the clients point.
    max_run
        Largest number of iterations advanced at once; 1 is plain stepping.
    ways
        Numbers of the stages of each way.
    tiers
        Records of dtype ``CACHE`` with ``capacity``, ``link`` (the number of a link), ``behind`` (the number of a
        tier), ``spills``, ``latency_ps`` and ``chunk_ps``.
    links
        How many links there are.
    chunks, chunk_tokens
        Ids of prefix chunks below the number of different ones, and the tokens of each.
    seed
        Of the draws.
    requests_in_all
        How many there are if more join later (:meth:`Memory.place`).
    keep_visits
        Whether to record each request's time at each stage.
    log_capacity, log_window_ps
        Entries of the log of what clients do, and the time in which it is kept.
    """
    named = len(clients)
    # One histogram of steps serves all clients that share a cost table, i.e. a pool.
    _, pool = np.unique(clients["linear"], return_inverse=True)
    clients = np.concatenate([clients, new_clients(links)])
    clients["role"][named:] = ROLE_LINK
    clients["stage"][named:] = -1
    clients["block_tokens"] = np.maximum(clients["block_tokens"], 1)
    clients["egress"] += np.where(clients["egress"] >= 0, named, 0)
    count = len(clients)

    scratch = _Scratch()
    world = np.zeros(1, dtype=WORLD)
    world["itl_histogram"] = scratch.take(ITL_BINS)
    table_start = scratch.take(len(tables))
    for table in ("linear", "sequences", "thresholds"):
        clients[table] += table_start
    clients["noise"] += np.where(clients["noise"] >= 0, table_start, 0)
    world["stages"] = scratch.take(len(stages) * STAGE_FIELDS)
    world["event_heap"] = scratch.take(2 * count)
    way_starts = [scratch.take(len(way) + 1) for way in ways]
    clients["finish_heap"] = scratch.take_each(clients["max_batch"])
    clients["phases"] = scratch.take_each(clients["block_tokens"])
    clients["adapters"] = scratch.take_each(clients["max_adapters"] * PLACE_FIELDS)
    histograms = int(pool.max(initial=-1) + 1)
    clients["step_histogram"][:named] = scratch.take(histograms * LINEAR_KNOTS) + pool * LINEAR_KNOTS
    chunks = np.zeros(0, dtype=np.int32) if chunks is None else chunks
    chunk_start = scratch.take(len(chunks))
    caches = _place_caches(clients, tiers, named, chunk_tokens, int(chunks.max(initial=-1)) + 1, scratch)
    visits = np.zeros(0, dtype=np.int64)
    if keep_visits and any(len(way) > 1 for way in ways):
        lengths = np.array([len(way) for way in ways]) * VISIT_FIELDS
        requests["visit"] = visits = scratch.take_each(lengths[requests["way"]])
    visits_end = scratch.size
    world["log"], world["log_capacity"] = scratch.take(log_capacity * LOG_FIELDS), log_capacity
    world["log_from_ps"], world["log_until_ps"] = log_window_ps
    hopping = (
        any(len(way) != 1 for way in ways)
        or bool((clients["role"] == ROLE_PREFILL).any())
        or links > 0
        or bool(requests["followers"].any())
        or bool(clients["expected"].any())
    )
    world["hop_heap"] = scratch.take((requests_in_all or len(requests)) + 1 if hopping else 1)
    array = np.zeros(scratch.size, dtype=np.int64)

    array[table_start : table_start + len(tables)] = tables
    array[chunk_start : chunk_start + len(chunks)] = chunks
    heap = int(world["event_heap"][0])
    array[heap : heap + count] = NEVER
    array[heap + count : heap + 2 * count] = np.arange(count)
    for way, start in zip(ways, way_starts, strict=True):
        array[start : start + len(way) + 1] = [*way, -1]
    if len(visits):
        array[visits[0] : visits_end] = -1
    _fill_vacant(caches, array)
    for client in clients[clients["max_adapters"] > 0]:
        places = client["adapters"] + PLACE_FIELDS * np.arange(client["max_adapters"])
        array[places + PLACE_LAST] = -1

    clients["reuses"] = (clients["cache"] >= 0) | (clients["expected"] == 1)
    clients["event_ps"] = NEVER
    clients["event_slot"] = np.arange(count)
    clients["free_blocks"] = clients["total_blocks"]
    clients["capacity_tokens"] = (clients["total_blocks"] - clients["state_blocks"]) * clients["block_tokens"]
    for queue in LINKS_OF_CLIENTS:
        clients[queue] = -1
    _place_stages(stages, clients)

    world["seed"], world["max_run"], world["chunk_tokens"] = seed, max_run, chunk_tokens
    world["until_ps"] = NEVER
    memory = Memory(
        world,
        clients,
        requests,
        array,
        _part(array, int(world["stages"][0]), stages),
        _part(array, int(caches["start"][0]) if len(caches) else 0, caches),
        visits,
        np.array(way_starts),
        np.array([next((stage for stage in way if stages["llm"][stage]), -1) for way in ways]),
        chunk_start,
    )
    memory.place(requests)
    return memory


def _part(scratch: Integers, start: int, records: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Write records of int64 fields into scratch; return them as they lie there."""
    size = records.size * records.itemsize // 8
    part: npt.NDArray[Any] = scratch[start : start + size].view(records.dtype)
    part[:] = records
    return part


def _place_caches(
    clients: npt.NDArray[Any],
    tiers: npt.NDArray[Any] | None,
    named: int,
    chunk_tokens: int,
    different: int,
    scratch: _Scratch,
) -> npt.NDArray[Any]:
    """Return the records of tiers and then of clients' caches, their memory taken from scratch."""
    tiers = np.zeros(0, dtype=CACHE) if tiers is None else tiers.copy()
    owners = np.flatnonzero(clients["cache"] >= 0)
    own = np.zeros(len(owners), dtype=CACHE)
    own["capacity"] = clients["total_blocks"][owners] // (chunk_tokens // clients["block_tokens"][owners])
    caches = np.concatenate([tiers, own])
    caches["start"] = scratch.take(len(caches) * CACHE_FIELDS) + CACHE_FIELDS * np.arange(len(caches))
    start = caches["start"]
    clients["cache"][owners] = start[len(tiers) :]
    for records, field in ((clients, "tier"), (caches[: len(tiers)], "behind")):
        linked = records[field] >= 0
        records[field][linked] = start[records[field][linked]]
    caches["link"] += named
    # No cache can hold more than all chunks there are.
    caches["capacity"] = np.minimum(caches["capacity"], different)
    slots = 1 << np.ceil(np.log2(2 * np.maximum(caches["capacity"], 1))).astype(np.int64)
    caches["mask"] = slots - 1
    caches["table"] = scratch.take_each(slots)
    caches["entries"] = scratch.take_each(caches["capacity"] * ENTRY_FIELDS)
    return caches


def _fill_vacant(caches: npt.NDArray[Any], scratch: Integers) -> None:
    """Link all entries of every cache into its list of vacant ones."""
    for cache in caches:
        entries = int(cache["entries"]) + ENTRY_FIELDS * np.arange(int(cache["capacity"]))
        scratch[entries + ENTRY_NEWER] = entries + ENTRY_FIELDS
        cache["vacant"] = cache["entries"]


def _place_stages(stages: npt.NDArray[Any], clients: npt.NDArray[Any]) -> None:
    """Write which clients each stage has, and the roomiest decode client of each prefill client."""
    for number, stage in enumerate(stages):
        here = np.flatnonzero(clients["stage"] == number)
        if len(here):
            stage["first"], stage["last"] = here[0], here[-1] + 1
        decoders = here[clients["role"][here] == ROLE_DECODE]
        room = clients["capacity_tokens"]
        for c in here[clients["role"][here] == ROLE_PREFILL]:
            local = clients["group"][decoders] == clients["group"][c]
            reachable = decoders[local] if stage["local_handover"] else decoders
            if len(reachable):
                clients["decode_hint"][c] = reachable[np.argmax(room[reachable])]


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
    clients, requests = _Rows(map(_Row, memory.clients)), _Rows(map(_Row, memory.requests))
    scratch = memory.scratch.tolist()
    interpreted(run)(world, clients, requests, scratch)
    for array, rows in ((memory.world, [world]), (memory.clients, clients), (memory.requests, requests)):
        for name in array.dtype.names or ():
            array[name] = [getattr(row, name) for row in rows]
    memory.scratch[:] = scratch
