"""A result as Chrome trace events, to look at in ui.perfetto.dev or chrome://tracing.

Times are microseconds, cut to whole nanoseconds. A pool or service is a process, its clients are threads with a
slice for each run of steps or batch; a request is a thread of the process "requests".
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from simulator.errors import SpecError
from simulator.lowering import PoolPlan
from simulator.metrics import Result
from simulator.timeline.parts import Log, Part, log_of, owners, parts_of, window_ps
from simulator.timeline.stays import Stays, Visits, stays_of, visits_of
from simulator.workload import PS_PER_S

Integers = npt.NDArray[np.int64]
_BATCH = 4096  # events written at once


@dataclass(frozen=True)
class _Window:
    from_ps: int
    until_ps: int


def write_perfetto(
    result: Result, path: Path | str, *, from_s: float = 0.0, until_s: float | None = None, requests: int = 1000
) -> None:
    """Write what happened as Chrome trace-event JSON.

    Parameters
    ----------
    result
        Of ``simulate(..., log=True)``.
    path
        File to write; compressed if it ends in ``.gz``.
    from_s, until_s
        What lies between these times at least in part is written; to the end if absent.
    requests
        Largest number of requests drawn; of more, evenly chosen ones are. How many there are and how many are drawn
        stands in the file, under ``otherData``.

    Raises
    ------
    SpecError
        If the result has no log, or nothing lies between the times.
    """
    parts = parts_of(result)
    log = log_of(result, parts)
    first, last = window_ps(result)
    window = _Window(max(first, round(from_s * PS_PER_S)), last)
    if until_s is not None:
        window = _Window(window.from_ps, min(last, round(until_s * PS_PER_S)))
    if window.from_ps >= window.until_ps:
        raise SpecError(
            f"from_s, until_s: {from_s:g}, {until_s}; allowed: {first / PS_PER_S:g} to {last / PS_PER_S:g}, in order"
        )
    if requests < 0:
        raise SpecError(f"requests: {requests}; allowed: 0 or more")
    log = log.where((log.end_ps > window.from_ps) & (log.start_ps < window.until_ps))
    visits = visits_of(result)
    here, drawn = _drawn(result, window, requests)
    about = {
        "from_s": window.from_ps / PS_PER_S,
        "until_s": window.until_ps / PS_PER_S,
        "requests": here,
        "requests_drawn": len(drawn),
        "note": f"{len(drawn)} of {here} requests are drawn, evenly chosen; pools and services show all.",
    }
    with _opened(Path(path)) as file:
        file.write(f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(about)}, "traceEvents": [\n')
        events = _events(result, parts, log, visits, window, drawn)
        separator = ""
        while lines := list(islice(events, _BATCH)):
            file.write(separator + ",\n".join(lines))
            separator = ",\n"
        file.write("\n]}\n")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open a text file to write; the same events give the same bytes, compressed or not."""
    with path.open("wb") as raw:
        if path.suffix != ".gz":
            with io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as text:
                yield text
            return
        with (
            gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
        ):
            yield text


def _drawn(result: Result, window: _Window, most: int) -> tuple[int, Integers]:
    """Return how many requests were under way in the window, and which of them are drawn."""
    rows = result.lowered.memory.requests
    here = np.flatnonzero((rows["done_ps"] >= window.from_ps) & (rows["arrival_ps"] < window.until_ps))
    if len(here) <= most:
        return len(here), here
    return len(here), here[np.arange(most) * len(here) // most]


def _events(
    result: Result, parts: tuple[Part, ...], log: Log, visits: Visits, window: _Window, drawn: Integers
) -> Iterator[str]:
    """Yield all events as JSON."""
    stays = stays_of(result, parts, visits)
    for number, part in enumerate(parts):
        own = log.where(log.part == number)
        yield from _process(number + 1, part.name)
        yield from _client_events(number + 1, part, own)
        if isinstance(part.plan, PoolPlan):
            yield from _counter(number + 1, "KV blocks", "blocks", window, own.start_ps, own.end_ps, own.blocks)
        if part.group == number:
            alike = [other for other, each in enumerate(parts) if each.group == number]
            yield from _queue_events(number + 1, number, log.where(np.isin(log.part, alike)), stays, window)
    if len(drawn):
        yield from _process(len(parts) + 1, "requests")
        yield from _request_events(len(parts) + 1, result, parts, visits, drawn)


def _us(time_ps: int) -> str:
    """Return a time in microseconds, cut to nanoseconds."""
    whole, thousandths = divmod(time_ps // 1000, 1000)
    return f"{whole}.{thousandths:03d}"


def _slice(pid: int, tid: int, name: str, begin_ps: int, end_ps: int, args: str) -> str:
    """Return a complete event; ``args`` is the inside of an object."""
    begin, end = begin_ps // 1000 * 1000, end_ps // 1000 * 1000
    return (
        f'{{"ph": "X", "pid": {pid}, "tid": {tid}, "name": {json.dumps(name)}, '
        f'"ts": {_us(begin)}, "dur": {_us(end - begin)}, "args": {{{args}}}}}'
    )


def _named(kind: str, pid: int, tid: int, key: str, value: str | int) -> str:
    return json.dumps({"ph": "M", "pid": pid, "tid": tid, "name": kind, "args": {key: value}})


def _process(pid: int, name: str) -> Iterator[str]:
    yield _named("process_name", pid, 0, "name", name)
    yield _named("process_sort_index", pid, 0, "sort_index", pid)


def _thread(pid: int, tid: int, name: str) -> Iterator[str]:
    yield _named("thread_name", pid, tid, "name", name)
    yield _named("thread_sort_index", pid, tid, "sort_index", tid)


def _client_events(pid: int, part: Part, log: Log) -> Iterator[str]:
    """Yield a thread for each client of a part, with its runs of steps or batches."""
    for client in range(part.clients):
        yield from _thread(pid, client + 1, f"client {client}")
    table = np.stack(
        [log.client, log.start_ps, log.end_ps, log.steps, log.prefill_tokens, log.decodes, log.running, log.blocks]
    )
    llm = isinstance(part.plan, PoolPlan)
    for client, start, end, steps, prefill_tokens, decodes, running, blocks in table.T.tolist():
        tid = client - part.plan.first + 1
        if not llm:
            yield _slice(pid, tid, part.stage, start, end, f'"requests": {running}')
            continue
        name = "decode" if not prefill_tokens else "prefill and decode" if decodes else "prefill"
        args = (
            f'"steps": {steps}, "prefill_tokens": {prefill_tokens}, "decodes": {decodes}, '
            f'"running": {running}, "blocks": {blocks}'
        )
        yield _slice(pid, tid, name, start, end, args)


def _queue_events(pid: int, group: int, log: Log, stays: Stays, window: _Window) -> Iterator[str]:
    """Yield the number of requests that are at a group of parts and do not run."""
    there = (stays.group == group) & (stays.end_ps > window.from_ps) & (stays.begin_ps < window.until_ps)
    begin_ps = np.concatenate([stays.begin_ps[there], log.start_ps])
    end_ps = np.concatenate([stays.end_ps[there], log.end_ps])
    change = np.concatenate([np.ones(int(there.sum()), dtype=np.int64), -log.running])
    yield from _counter(pid, "queue", "requests", window, begin_ps, end_ps, change)


def _counter(
    pid: int, name: str, unit: str, window: _Window, begin_ps: Integers, end_ps: Integers, height: Integers
) -> Iterator[str]:
    """Yield the sum of intervals of some height, wherever it changes within the window."""
    times = np.clip(np.concatenate([begin_ps, end_ps]), window.from_ps, window.until_ps) // 1000
    order = np.argsort(times, kind="stable")
    times, sums = times[order], np.cumsum(np.concatenate([height, -height])[order])
    last = np.append(times[1:] != times[:-1], True)[: len(times)]
    times, sums = times[last], sums[last]
    changed = np.append(True, sums[1:] != sums[:-1])[: len(times)]
    for time, value in zip(times[changed].tolist(), sums[changed].tolist(), strict=True):
        yield (
            f'{{"ph": "C", "pid": {pid}, "tid": 0, "name": "{name}", "ts": {_us(1000 * time)}, '
            f'"args": {{"{unit}": {value}}}}}'
        )


def _request_events(
    pid: int, result: Result, parts: tuple[Part, ...], visits: Visits, drawn: Integers
) -> Iterator[str]:
    """Yield a thread for each request that is drawn: the whole, and in it the queue and service of each stage."""
    rows = result.lowered.memory.requests
    stages, owner = result.lowered.plan.stages, owners(result, parts)
    own = visits.of(np.isin(visits.request, drawn))
    steps: dict[int, list[tuple[int, ...]]] = {}
    for request, *visit in np.stack(list(vars(own).values())).T.tolist():
        steps.setdefault(request, []).append(tuple(visit))
    for request in drawn.tolist():
        row, tid = rows[request], request + 1
        yield from _thread(pid, tid, f"request {request}")
        args: dict[str, float] = {field: int(row[field]) for field in ("prompt_tokens", "output_tokens", "preemptions")}
        args["frontend_s"] = float(result.frontend_s[request])
        yield _slice(
            pid, tid, f"request {request}", int(row["arrival_ps"]), int(row["done_ps"]), json.dumps(args)[1:-1]
        )
        for stage, reached, started, left in steps.get(request, ()):
            name = stages[stage]
            started = max(started, reached)
            if started > reached:
                yield _slice(pid, tid, f"{name} queue", reached, started, "")
            if row["llm_stage"] == stage:
                yield from _llm_slices(pid, tid, name, row, parts, owner, started, left, args["frontend_s"])
            else:
                yield _slice(pid, tid, name, started, left, "")


def _llm_slices(
    pid: int,
    tid: int,
    name: str,
    row: Any,
    parts: tuple[Part, ...],
    owner: npt.NDArray[np.intp],
    started: int,
    left: int,
    frontend_s: float,
) -> Iterator[str]:
    """Yield a request's time at an LLM stage: to its first token, that, and from there to its last."""
    first = int(row["first_token_ps"])
    prefill, decode = int(row["prefill_client"]), int(row["client"])

    def where(client: int) -> str:
        part = parts[owner[client]]
        return f'"pool": {json.dumps(part.name)}, "client": {client - part.plan.first}'

    yield _slice(pid, tid, f"{name} prefill", started, first, where(prefill))
    ttft_s = (first - int(row["arrival_ps"])) / PS_PER_S + frontend_s
    yield (
        f'{{"ph": "i", "s": "t", "pid": {pid}, "tid": {tid}, "name": "first token", "ts": {_us(first)}, '
        f'"args": {{"ttft_s": {ttft_s!r}}}}}'
    )
    if left > first:
        kind = "decode" if prefill == decode else "hand-over and decode"
        yield _slice(pid, tid, f"{name} {kind}", first, left, where(decode))
