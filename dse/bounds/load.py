"""A workload as bounds look at it: prepared once, used for every deployment."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dse.bounds.lengths import Lengths
from simulator.lowering.calls import end_of_window, request_records
from simulator.lowering.tiers import reused_chunks
from simulator.simulation import WINDOW_REQUESTS
from simulator.spec.pipeline_plan import PipelinePlan
from simulator.workload import PS_PER_S, Requests

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Generation:
    """Requests that follow others, all of which belong to earlier generations.

    Attributes
    ----------
    rows
        The requests, in order, shape (k,).
    needs
        How many of those that each follows must be done, shape (k,).
    leads, follower
        Pairs of a request and the place in ``rows`` of one that follows it, shape (m,), in order of ``follower``.
    """

    rows: Integers
    needs: Integers
    leads: Integers
    follower: Integers


@dataclass(frozen=True, eq=False)
class Load:
    """A workload prepared for bounds; arrays have the shape (n,) unless said otherwise.

    Attributes
    ----------
    plan
        Stages of the requests and the ways through them.
    rows
        The kernel's records of the requests, nothing of which has happened yet.
    known_rows
        Those records that a simulation has in memory at its beginning.
    way
        Index into the plan's ways.
    arrival_s
        Arrivals of those that follow no others; of the others that of their session.
    follows
        Which follow others.
    generations
        Those that follow others, each after those it follows.
    stage_rows
        For each LLM stage the requests that pass it.
    lengths
        For each LLM stage the lengths of these.
    session_rows
        First and last request of each session, two arrays of the shape (sessions,); None without sessions.
    """

    plan: PipelinePlan
    rows: npt.NDArray[Any]
    known_rows: npt.NDArray[Any]
    way: Integers
    arrival_s: Floats
    follows: Flags
    generations: tuple[Generation, ...]
    stage_rows: dict[str, Integers]
    lengths: dict[str, Lengths]
    session_rows: tuple[Integers, Integers] | None

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.rows)

    @cached_property
    def with_stage(self) -> Flags:
        """Which requests pass any stage; the others only join what they follow."""
        return np.array([len(names) > 0 for names in self.plan.ways])[self.way]


_PREPARED: weakref.WeakKeyDictionary[Requests, dict[tuple[PipelinePlan, bool], Load]] = weakref.WeakKeyDictionary()


def load_of(requests: Requests, plan: PipelinePlan, *, expected: bool = False) -> Load:
    """Return a workload prepared for bounds; the same one when asked again.

    Parameters
    ----------
    expected
        Whether what is found in tiers is expected, not simulated.
    """
    prepared = _PREPARED.setdefault(requests, {})
    key = (plan, expected and requests.prefixes is not None)
    if key not in prepared:
        prepared[key] = _prepare(requests, plan, expected=key[1])
    return prepared[key]


def _prepare(requests: Requests, plan: PipelinePlan, *, expected: bool) -> Load:
    prefixes = requests.prefixes
    reused = np.zeros(len(requests), dtype=np.int32) if prefixes is None else reused_chunks(prefixes)
    if expected and prefixes is not None:
        prefixes = replace(prefixes, prompt_chunks=reused)
    rows = request_records(requests, plan)
    known = len(rows)
    if len(rows) > 2 * WINDOW_REQUESTS:
        known = end_of_window(requests, 0, WINDOW_REQUESTS)
    way = np.zeros(len(rows), dtype=np.int64) if requests.way is None else requests.way.astype(np.int64)
    stage_of_way = np.array(
        [plan.llm_stages.index(name) if (name := plan.llm_of_way(number)) else -1 for number in range(len(plan.ways))]
    )
    stage = stage_of_way[way]
    stage_rows, lengths = {}, {}
    for number, name in enumerate(plan.llm_stages):
        here = np.flatnonzero(stage == number)
        stage_rows[name] = here
        shared = prefixes.of_rows(here) if prefixes is not None and len(here) else None
        lengths[name] = Lengths.of_records(rows[here], shared, reused[here])
    return Load(
        plan,
        rows,
        rows[:known],
        way,
        requests.arrival_ps / PS_PER_S,
        np.asarray(rows["needs"] > 0),
        tuple(_generations(rows)),
        stage_rows,
        lengths,
        None if requests.sessions is None else _ends(requests.sessions.first_rows, len(rows)),
    )


def _ends(first: Integers, count: int) -> tuple[Integers, Integers]:
    return first, np.append(first[1:], count) - 1


def _generations(rows: npt.NDArray[Any]) -> list[Generation]:
    """Return the requests that follow others, by the length of the longest chain that leads to each."""
    count = rows["followers"].astype(np.int64)
    if not count.any():
        return []
    leads = np.repeat(np.arange(len(rows)), count)
    follower = np.repeat(rows["first_follower"].astype(np.int64), count)
    follower += np.arange(len(leads)) - np.repeat(np.cumsum(count) - count, count)
    depth = np.where(rows["needs"] > 0, 1, 0).astype(np.int64)
    while True:
        # Nobody leads to a request before it, so this ends.
        deeper = depth.copy()
        np.maximum.at(deeper, follower, depth[leads] + 1)
        if np.array_equal(deeper, depth):
            break
        depth = deeper
    found = []
    for level in range(1, int(depth.max()) + 1):
        here = np.flatnonzero(depth == level)
        pairs = np.flatnonzero(depth[follower] == level)
        pairs = pairs[np.argsort(follower[pairs], kind="stable")]
        place = np.searchsorted(here, follower[pairs])
        found.append(Generation(here, rows["needs"][here].astype(np.int64), leads[pairs], place))
    return found
