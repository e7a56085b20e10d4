"""The same requests again: several times in a row, or in blocks drawn anew."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from simulator.workload import Prefixes, Requests

Integers = npt.NDArray[np.int64]

BLOCKS: Final = 25
"""Blocks that a resampled trace is made of: long enough to keep bursts, many enough to differ."""


def arranged(requests: Requests, numbers: Integers, arrival_ps: Integers) -> Requests:
    """Return sessions (requests, if they do not follow each other) in another order, each as often as it is named.

    The second copy of a session has text of its own where the first has: it shares chunks with other second copies
    as the first copies do among each other. Otherwise it would find its twin's prompt in a prefix cache, which
    never happens to the recorded requests.

    Parameters
    ----------
    requests
        What is there.
    numbers
        Session of each place, shape (m,).
    arrival_ps
        When it arrives, shape (m,), never less than the one before.
    """
    if requests.sessions is None:
        sessions, rows = None, numbers
        place: Integers = np.arange(len(numbers))
    else:
        sessions, rows = requests.sessions.reordered(numbers)
        place = sessions.session.astype(np.int64)

    def of_rows(array: npt.NDArray[np.int32] | None) -> npt.NDArray[np.int32] | None:
        return None if array is None else array[rows]

    return Requests(
        arrival_ps=arrival_ps[place],
        prompt_tokens=requests.prompt_tokens[rows],
        output_tokens=requests.output_tokens[rows],
        query_tokens=of_rows(requests.query_tokens),
        media_tokens=of_rows(requests.media_tokens),
        way=of_rows(requests.way),
        ways=requests.ways,
        priority=of_rows(requests.priority),
        deadline_ps=None if requests.deadline_ps is None else requests.deadline_ps[rows],
        adapter=of_rows(requests.adapter),
        request_class=of_rows(requests.request_class),
        classes=requests.classes,
        sessions=sessions,
        prefixes=None
        if requests.prefixes is None
        else _with_text_of_their_own(requests.prefixes, rows, _copies(numbers)[place]),
    )


def _copies(numbers: Integers) -> Integers:
    """Return how often each place's number stands before it."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    lengths = np.diff(np.append(begins, len(ordered)))
    copies = np.empty(len(numbers), dtype=np.int64)
    copies[order] = np.arange(len(ordered)) - np.repeat(begins, lengths)
    return copies


def _with_text_of_their_own(prefixes: Prefixes, rows: Integers, copies: Integers) -> Prefixes:
    """Return the prefixes of rows; those of the k-th copies name chunks that only k-th copies have."""
    most = int(copies.max()) + 1
    shifted = np.concatenate([prefixes.chunks + copy * prefixes.ids for copy in range(most)])
    plain = prefixes.of_rows(rows)
    return Prefixes(
        prefixes.chunk_tokens,
        shifted.astype(np.int32),
        plain.chunk_first + copies * len(prefixes.chunks),
        plain.prompt_chunks,
        plain.all_chunks,
    ).of_rows(np.arange(len(rows)), compact=True)


def _arrivals_ps(requests: Requests) -> Integers:
    """Return when each session (request) arrives, shape (sessions,)."""
    return requests.arrival_ps if requests.sessions is None else requests.arrival_ps[requests.sessions.first_rows]


def mean_gap_ps(requests: Requests) -> float:
    """Return the mean time between arrivals of sessions (requests), picoseconds."""
    return float(requests.arrival_ps[-1]) / max(1, requests.session_count - 1)


def played(requests: Requests, times: int) -> Requests:
    """Return the requests several times in a row, a mean gap between the last of one pass and the first of the next.

    The mean rate is the same. Every pass has its own text (see :func:`arranged`).
    """
    n, arrival_ps = requests.session_count, _arrivals_ps(requests)
    period_ps = round(float(arrival_ps[-1]) + mean_gap_ps(requests))
    numbers = np.tile(np.arange(n), times)
    return arranged(requests, numbers, np.tile(arrival_ps, times) + np.repeat(np.arange(times) * period_ps, n))


def in_blocks(requests: Requests, seed: int) -> Requests:
    """Return as many sessions, drawn in blocks of neighbours (circular block bootstrap).

    A block is a 25th of the requests (:data:`BLOCKS`). Blocks begin anywhere, all places alike, and go on at the
    beginning where the trace ends; the gap before a request goes with it (before the first the mean gap), so that
    bursts and what lengths have to do with them stay within a block. Then time is stretched to the mean rate of the
    trace: another draw of the same load, not of its rate.

    Reference: Politis and Romano, in *Exploring the Limits of Bootstrap* (1992).

    Parameters
    ----------
    requests
        Of a trace.
    seed
        Of the draw.
    """
    n, arrival_ps = requests.session_count, _arrivals_ps(requests)
    length = math.ceil(n / BLOCKS)
    begins = np.random.default_rng(np.random.SeedSequence(seed)).integers(0, n, math.ceil(n / length))
    numbers = ((begins[:, None] + np.arange(length)) % n).reshape(-1)[:n]
    gaps = np.diff(arrival_ps, prepend=arrival_ps[0]).astype(np.float64)
    gaps[0] = mean_gap_ps(requests)
    drawn = np.cumsum(gaps[numbers])
    drawn -= drawn[0]
    if drawn[-1] > 0:
        drawn *= float(arrival_ps[-1]) / drawn[-1]
    return arranged(requests, numbers, np.rint(drawn).astype(np.int64))
