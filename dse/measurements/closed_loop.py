"""Load of a fixed number of users, each of whom sends the next request when the previous one is answered."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simulator import Requests
from simulator.errors import SpecError
from simulator.workload import PS_PER_S, Sessions

Tokens = int | Sequence[int] | npt.NDArray[np.integer]

REQUESTS_OF_A_USER = 10
"""Requests that each user sends where nothing is said."""

CLOCK_S = 1e-6
"""What recorded times may differ by where they are of the same instant."""


def closed_loop(
    concurrency: int,
    prompt_tokens: Tokens,
    output_tokens: Tokens,
    *,
    requests: int | None = None,
    shortest_share: float = 1.0,
    start_s: float = 0.0,
    seed: int = 0,
) -> Requests:
    """Return requests of ``concurrency`` users, a session each.

    Request i is of user i modulo ``concurrency``: a benchmark that gives the next request to whoever is free first
    deals them otherwise where lengths differ.

    Parameters
    ----------
    concurrency
        Users, and so the most requests under way.
    prompt_tokens, output_tokens
        Of every request, or one number a request.
    requests
        How many in all; that of the lists, or ten a user if None.
    shortest_share
        Lengths that are one number L are uniform from ``shortest_share · L`` to L.
    start_s
        Users begin at equal gaps within so many seconds; all at once if 0.
    seed
        Of the lengths.

    Raises
    ------
    SpecError
        If lists differ in length, or a number is out of range.
    """
    if concurrency < 1:
        raise SpecError(f"concurrency: must be at least 1, given {concurrency}")
    if not 0 < shortest_share <= 1:
        raise SpecError(f"shortest_share: must be above 0 and at most 1, given {shortest_share:g}")
    listed = [len(tokens) for tokens in (prompt_tokens, output_tokens) if not isinstance(tokens, int)]
    n = requests or (listed[0] if listed else REQUESTS_OF_A_USER * concurrency)
    draw = np.random.default_rng(seed)
    prompts, outputs = (lengths_of(tokens, n, shortest_share, draw) for tokens in (prompt_tokens, output_tokens))
    user = np.arange(n) % concurrency
    begins = np.arange(min(concurrency, n), dtype=np.float64) * (start_s / concurrency)
    return chained(user, begins[user], prompts, outputs)


def chained(
    chain: npt.NDArray[np.int64],
    start_s: npt.NDArray[np.float64],
    prompt_tokens: npt.NDArray[np.int32],
    output_tokens: npt.NDArray[np.int32],
) -> Requests:
    """Return requests that follow each other without a pause within a chain; its first one arrives at its own time.

    Parameters
    ----------
    chain
        Which chain a request is part of, from 0, in the order of the chain, shape ``(n,)``.
    start_s, prompt_tokens, output_tokens
        Of each request; starts count for the first of a chain only.
    """
    order = np.argsort(chain, kind="stable")
    of = chain[order]
    first = np.append(True, of[1:] != of[:-1])
    last = np.append(of[1:] != of[:-1], True)
    arrival_s = np.asarray(start_s, dtype=np.float64)[order]
    return Requests(
        arrival_ps=np.rint((arrival_s - arrival_s.min()) * PS_PER_S).astype(np.int64),
        prompt_tokens=np.asarray(prompt_tokens)[order],
        output_tokens=np.asarray(output_tokens)[order],
        sessions=Sessions(
            session=of.astype(np.int32),
            needs=np.where(first, 0, 1).astype(np.int32),
            wait_ps=np.zeros(len(of), dtype=np.int64),
            first_follower=np.where(last, 0, np.arange(len(of)) + 1).astype(np.int32),
            followers=np.where(last, 0, 1).astype(np.int32),
            keep=np.zeros(len(of), dtype=np.int32),
        ),
    )


def chains_of(
    start_s: npt.NDArray[np.float64], end_s: npt.NDArray[np.float64], concurrency: int
) -> npt.NDArray[np.int64]:
    """Return which user sent each request of a recorded closed loop, shape ``(n,)``, requests in order of start.

    A request follows the one that ended last before it began, once there are ``concurrency`` users; of users whose
    requests ended at the same time, the first one sends first.
    """
    chain = np.empty(len(start_s), dtype=np.int64)
    free: list[tuple[float, int]] = []
    running: list[tuple[float, int]] = []
    users = 0
    for row, (start, end) in enumerate(zip(start_s.tolist(), end_s.tolist(), strict=True)):
        while running and running[0][0] <= start + CLOCK_S:
            free.append(heapq.heappop(running))
        if users < concurrency:
            user, users = users, users + 1
        elif free:
            latest = max(free)[0]
            chosen = min((each for each in free if each[0] >= latest - CLOCK_S), key=lambda each: each[1])
            free.remove(chosen)
            user = chosen[1]
        else:  # Clocks differ a little: whoever is done next.
            user = heapq.heappop(running)[1]
        chain[row] = user
        heapq.heappush(running, (end, user))
    return chain


def lengths_of(tokens: Tokens, n: int, shortest_share: float, draw: np.random.Generator) -> npt.NDArray[np.int32]:
    """Return the lengths of ``n`` requests: as listed, or one number, or uniform down to a share of it.

    Raises
    ------
    SpecError
        If a list has another length, or the number is below 1.
    """
    if isinstance(tokens, int):
        if tokens < 1:
            raise SpecError(f"tokens: must be at least 1, given {tokens}")
        if shortest_share == 1:
            return np.full(n, tokens, dtype=np.int32)
        return draw.integers(max(1, round(shortest_share * tokens)), tokens, n, endpoint=True, dtype=np.int32)
    listed = np.asarray(tokens, dtype=np.int32)
    if len(listed) != n:
        raise SpecError(f"tokens: a list of {n} lengths is needed, given {len(listed)}")
    return listed
