"""The requests of a workload as records of the kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.kernel import new_requests
from simulator.lowering.pools import request_s
from simulator.spec.deployment import Pool
from simulator.spec.pipeline_plan import PipelinePlan
from simulator.workload import NO_DEADLINE_PS, PS_PER_S, Requests


def reply_ps_of_ways(plan: PipelinePlan, pools: Iterable[Pool]) -> npt.NDArray[np.int64]:
    """Return for each way the time of a call to the engine and back, which no other waits for, picoseconds.

    Where pools of a stage have different engines it is the longest; a way without an LLM takes none.
    """
    of_stage: dict[str | None, int] = {None: 0}
    for pool in pools:
        of_stage[pool.stage] = max(of_stage.get(pool.stage, 0), round(request_s(pool) * PS_PER_S))
    return np.array([of_stage[plan.llm_of_way(way)] for way in range(len(plan.ways))], dtype=np.int64)


def request_records(
    requests: Requests,
    plan: PipelinePlan,
    first: int = 0,
    last: int | None = None,
    *,
    reply_ps: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[Any]:
    """Return the kernel's records of requests, with the documents that retrieval adds to their prompts.

    Parameters
    ----------
    first, last
        The requests from ``first`` up to and without ``last``: whole sessions, whose followers are counted from
        ``first`` on. All if absent.
    reply_ps
        For each way the time from the end of a call in the engine to when those that follow it know; none if absent.
    """
    last = len(requests) if last is None else last
    part = slice(first, last)
    rows = new_requests(last - first)
    rows["number"] += first
    rows["arrival_ps"] = requests.arrival_ps[part]
    rows["output_tokens"] = requests.output_tokens[part]
    prompt = requests.prompt_tokens[part]
    added = np.array(plan.added_prompt_tokens, dtype=np.int64)
    if requests.way is not None:
        rows["way"] = requests.way[part]
    rows["prompt_tokens"] = prompt + added[rows["way"]]
    rows["query_tokens"] = prompt if requests.query_tokens is None else requests.query_tokens[part]
    for field in ("media_tokens", "priority", "adapter"):
        given = getattr(requests, field)
        if given is not None:
            rows[field] = given[part]
    rows["deadline_ps"] = NO_DEADLINE_PS if requests.deadline_ps is None else requests.deadline_ps[part]
    sessions = requests.sessions
    if sessions is not None:
        for field in ("needs", "wait_ps", "first_follower", "followers", "keep"):
            rows[field] = getattr(sessions, field)[part]
        rows["first_follower"][rows["followers"] > 0] -= first
        if reply_ps is not None and reply_ps.any():
            rows["wait_ps"] += _longest_reply_ps(rows, reply_ps)
    # The kernel adds the arrival of those that follow others when it knows it.
    alone = rows["needs"] == 0
    rows["deadline_ps"][alone] += rows["arrival_ps"][alone]
    prefixes = requests.prefixes
    if prefixes is not None:
        for field in ("chunk_first", "prompt_chunks", "all_chunks"):
            rows[field] = getattr(prefixes, field)[part]
    return rows


def _longest_reply_ps(rows: npt.NDArray[Any], reply_ps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the longest reply among the calls that each row follows, 0 for those that follow none."""
    leads = np.flatnonzero(rows["followers"] > 0)
    counts = rows["followers"][leads].astype(np.int64)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    longest = np.zeros(len(rows), dtype=np.int64)
    follower = np.repeat(rows["first_follower"][leads].astype(np.int64), counts) + place
    np.maximum.at(longest, follower, np.repeat(reply_ps[rows["way"][leads]], counts))
    return longest


def end_of_window(requests: Requests, first: int, count: int) -> int:
    """Return where a window of about ``count`` requests from ``first`` on ends, so that it holds whole sessions."""
    last = min(len(requests), first + count)
    sessions = requests.sessions
    if sessions is None or last == len(requests):
        return last
    starts = sessions.first_rows
    place = int(np.searchsorted(starts, last))
    return int(starts[place]) if place < len(starts) else len(requests)
