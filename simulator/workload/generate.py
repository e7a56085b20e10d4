"""From a workload specification to requests: recorded or drawn, seeded and vectorised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SpecError
from simulator.spec.classes import ResolvedClass
from simulator.spec.llm_stages import CascadeStage, LlmStage, ReasonStage
from simulator.spec.stages import the_llm
from simulator.spec.workload import DEFAULT_CHUNK_TOKENS, DEFAULT_REQUESTS, Workload
from simulator.workload.calls import Calls, draw_calls
from simulator.workload.draws import Use, draw_arrivals, draw_lengths, draw_weighted, draw_zipf, stream
from simulator.workload.requests import MAX_DURATION_S, NO_DEADLINE_PS, PS_PER_S, Requests
from simulator.workload.sessions import Sessions
from simulator.workload.shared_text import SystemPrompts, chunk_texts
from simulator.workload.turns import Integers, Turns, draw_turns

#: Most calls of all sessions together: rows are numbered by int32.
MAX_ROWS: Final = 1 << 30


def build_requests(workload: Workload) -> Requests:
    """Return the requests that a workload describes.

    The same specification gives the same requests. Every kind of number comes from a stream of its own: another rate
    changes no length, and a workload without the traits of another has the same lengths and arrivals.

    Parameters
    ----------
    workload
        A trace to read, or arrivals and lengths to draw.

    Raises
    ------
    SpecError
        If a file cannot be used, the arrivals span more than 90 days, a prompt is too long or there are too many calls.
    """
    if workload.trace is not None:
        from simulator.workload.traces import read_trace

        first = read_trace(workload.trace, requests=workload.requests)
    else:
        first = _draw_first(workload)
    if _is_plain(workload):
        return first
    return _with_traits(workload, first)


def _is_plain(workload: Workload) -> bool:
    """Return whether every request is one call of one LLM, as long as ``lengths`` or the trace says."""
    if workload.classes:
        return False
    (each,) = workload.resolved_classes
    traits = (each.session, each.prefix, each.media, each.adapters, each.deadline_s)
    return isinstance(the_llm(each.pipeline), LlmStage) and not any(traits) and not each.priority


def _classes_of(workload: Workload, n: int) -> NDArray[np.int64]:
    """Return the class of each of ``n`` sessions."""
    shares = np.array([each.share for each in workload.resolved_classes])
    if shares.size == 1:
        return np.zeros(n, dtype=np.int64)
    return draw_weighted(shares, n, stream(workload.seed, Use.CLASS))


def _draw_first(workload: Workload) -> Requests:
    """Return the first calls of generated sessions: when they arrive and how long their text is."""
    assert workload.arrivals is not None
    n = workload.requests or DEFAULT_REQUESTS
    arrival_s = draw_arrivals(workload.arrivals, n, stream(workload.seed, Use.ARRIVALS))
    if arrival_s[-1] > MAX_DURATION_S:
        raise SpecError(
            f"arrivals: {n} requests span {arrival_s[-1] / 86_400:.4g} days, at most 90; "
            "raise rate_rps or lower requests"
        )
    prompt, output = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    classes = _classes_of(workload, n)
    for number, each in enumerate(workload.resolved_classes):
        assert each.lengths is not None
        mine = classes == number
        streams = (stream(workload.seed, use, number) for use in (Use.PROMPT, Use.OUTPUT))
        prompt[mine], output[mine] = draw_lengths(each.lengths, int(np.count_nonzero(mine)), *streams)
    return Requests(np.rint(arrival_s * PS_PER_S).astype(np.int64), prompt, output)


def _with_traits(workload: Workload, first: Requests) -> Requests:
    """Return all calls of the sessions whose first texts are given."""
    classes, plan, n = workload.resolved_classes, workload.plan, len(first)
    names = tuple(each.name for each in classes)
    class_of = _classes_of(workload, n)
    system = SystemPrompts.draw(classes, class_of, workload.seed)
    adapter = _adapters(classes, class_of, workload.seed)
    parts: list[tuple[Integers, Turns, Calls]] = []
    for number, each in enumerate(classes):
        mine = np.flatnonzero(class_of == number)
        if not mine.size:
            continue
        turns = draw_turns(
            each,
            first.prompt_tokens[mine],
            first.output_tokens[mine],
            system.tokens[mine],
            seed=workload.seed,
            owner=number,
        )
        calls = draw_calls(each, plan.class_ways[number], turns, seed=workload.seed, owner=number)
        parts.append((mine[turns.session][calls.turn], turns, calls))
    session = np.concatenate([part[0] for part in parts])
    if session.size > MAX_ROWS:
        raise SpecError(f"workload: {session.size:,} calls in {n:,} sessions are too many; at most {MAX_ROWS:,}")
    rows = np.argsort(session, kind="stable") if len(parts) > 1 else slice(None)
    session = session[rows]

    def of_calls(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(calls, name) for _, _, calls in parts])[rows]

    def of_turns(name: str) -> NDArray[Any]:
        arrays = (getattr(turns, name) for _, turns, _ in parts)
        filled = (np.zeros_like(t.prompt) if a is None else a for a, (_, t, _) in zip(arrays, parts, strict=True))
        return np.concatenate([array[calls.turn] for array, (_, _, calls) in zip(filled, parts, strict=True)])[rows]

    text_grows = any(each.session or each.prefix or each.media for each in classes)
    urgent = any(each.priority for each in classes)
    dated = any(each.deadline_s for each in classes)
    class_of_row = class_of[session]
    prefixes = None
    if first.prefixes is not None:
        prefixes = first.prefixes.of_rows(session)
    elif any(_shares_text(each) for each in classes):
        prefixes = chunk_texts(
            system,
            adapter,
            session,
            of_calls("prompt_text"),
            of_calls("whole_text"),
            workload.chunk_tokens or DEFAULT_CHUNK_TOKENS,
        )
    followers = of_calls("followers")
    return Requests(
        arrival_ps=first.arrival_ps[session],
        prompt_tokens=of_calls("prompt"),
        output_tokens=of_calls("output"),
        query_tokens=of_turns("query") if text_grows else None,
        media_tokens=of_turns("media") if any(each.media for each in classes) else None,
        way=of_calls("way") if len(plan.ways) > 1 else None,
        ways=plan.ways,
        priority=np.array([each.priority for each in classes])[class_of_row] if urgent else None,
        deadline_ps=np.array([_deadline_ps(each) for each in classes])[class_of_row] if dated else None,
        adapter=None if adapter is None else adapter[session],
        request_class=class_of_row if workload.classes else None,
        classes=names if workload.classes else (),
        sessions=Sessions(
            session=session,
            needs=of_calls("needs"),
            wait_ps=of_calls("wait_ps"),
            first_follower=np.where(followers > 0, np.arange(session.size) + of_calls("ahead"), 0),
            followers=followers,
            keep=of_calls("keep"),
        )
        if any(_makes_sessions(each) for each in classes)
        else None,
        prefixes=prefixes,
    )


def _makes_sessions(each: ResolvedClass) -> bool:
    """Return whether sessions of a class may have several calls."""
    llm = the_llm(each.pipeline)
    return each.session is not None or isinstance(llm, CascadeStage) or _has_branches(each)


def _has_branches(each: ResolvedClass) -> bool:
    llm = the_llm(each.pipeline)
    return isinstance(llm, ReasonStage) and llm.branches > 1


def _shares_text(each: ResolvedClass) -> bool:
    """Return whether calls of a class may begin as another call for the same LLM does."""
    return each.session is not None or each.prefix is not None or _has_branches(each)


def _deadline_ps(each: ResolvedClass) -> int:
    return NO_DEADLINE_PS if each.deadline_s is None else max(1, round(each.deadline_s * PS_PER_S))


def _adapters(classes: Sequence[ResolvedClass], class_of: Integers, seed: int) -> Integers | None:
    """Return the adapter of each session, 0 for none; None if no class has any."""
    if not any(each.adapters for each in classes):
        return None
    found, start = np.zeros_like(class_of), 1
    starts: dict[int, int] = {}
    for number, each in enumerate(classes):
        if each.adapters is None:
            continue
        if each.adapter_owner not in starts:
            starts[each.adapter_owner] = start
            start += each.adapters.count
        mine = np.flatnonzero(class_of == number)
        drawn = draw_zipf(each.adapters.count, each.adapters.zipf, mine.size, stream(seed, Use.ADAPTER, number))
        found[mine] = starts[each.adapter_owner] + drawn
    return found
