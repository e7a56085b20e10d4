"""Runs of many requests in windows: the kernel holds those under way and the next to arrive, not all.

Requests under way keep their order when they are moved to the front for the next window, so that ties are broken as in
one run, and the outcome is the same to the last bit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.kernel import run_compiled
from simulator.kernel.heaps import REQUEST_BITS, REQUEST_MASK
from simulator.kernel.layout import DONE, LINKS_OF_CLIENTS, NEVER, REJECTED
from simulator.lowering import Lowered
from simulator.lowering.calls import end_of_window, reply_ps_of_ways, request_records

Integers = npt.NDArray[np.int64]

OUTCOME = np.dtype(
    [
        ("arrival_ps", "i8"),
        ("scheduled_ps", "i8"),
        ("first_token_ps", "i8"),
        ("finish_ps", "i8"),
        ("done_ps", "i8"),
        ("service_ps", "i8"),
        ("prompt_tokens", "i4"),
        ("output_tokens", "i4"),
        ("state", "i4"),
        ("llm_stage", "i4"),
        ("client", "i4"),
        ("prefill_client", "i4"),
        ("preemptions", "i4"),
    ],
    align=True,
)
"""What is kept of a request: the fields of the kernel's record that metrics read."""

_LINKS_OF_REQUESTS = ("next", "previous")


def run_in_windows(lowered: Lowered, window_requests: int) -> Lowered:
    """Run a simulation whose memory holds the first window; return it with the outcome of all requests.

    Parameters
    ----------
    lowered
        From :func:`simulator.lowering.lower` with ``window_requests``.
    window_requests
        Requests that join at a time, at least; whole sessions.
    """
    requests, memory = lowered.requests, lowered.memory
    outcome = np.zeros(len(requests), dtype=OUTCOME)
    rows, last = memory.requests, len(memory.requests)
    reply_ps = reply_ps_of_ways(lowered.plan, (each.pool for each in lowered.pools))
    while True:
        memory.world["until_ps"] = requests.arrival_ps[last] if last < len(requests) else NEVER
        run_compiled(replace(memory, requests=rows))
        ended = (rows["state"] == DONE) | (rows["state"] == REJECTED)
        final = last == len(requests) or bool(memory.world["overrun"][0])
        harvested = rows if final else rows[ended]
        for field in OUTCOME.names or ():
            outcome[field][harvested["number"]] = harvested[field]
        if final:
            return replace(lowered, memory=replace(memory, requests=outcome))
        first, last = last, end_of_window(requests, last, window_requests)
        joining = request_records(requests, lowered.plan, first, last, reply_ps=reply_ps)
        memory.place(joining)
        rows = _moved(memory.world, memory.clients, memory.scratch, rows, ended, joining)


def _moved(
    world: npt.NDArray[Any],
    clients: npt.NDArray[Any],
    scratch: Integers,
    rows: npt.NDArray[Any],
    ended: npt.NDArray[np.bool_],
    joining: npt.NDArray[Any],
) -> npt.NDArray[Any]:
    """Return the requests still under way and behind them those that join, and renumber all that points to them."""
    kept = np.flatnonzero(~ended)
    place = np.full(len(rows) + 1, -1, dtype=np.int64)  # the last stands for the link to nobody, -1
    place[kept] = np.arange(len(kept))
    moved = rows[kept]
    for field in _LINKS_OF_REQUESTS:
        moved[field] = place[moved[field]]
    followed = moved["followers"] > 0
    moved["first_follower"][followed] = place[moved["first_follower"][followed]]
    for field in LINKS_OF_CLIENTS:
        clients[field] = place[clients[field]]
    for client in clients[(clients["decoding"] > 0) & (clients["draft"] == 0)]:
        heap = scratch[client["finish_heap"] : client["finish_heap"] + client["decoding"]]
        heap[:] = (heap >> REQUEST_BITS << REQUEST_BITS) | place[heap & REQUEST_MASK]
    hops = scratch[int(world["hop_heap"][0]) :][: int(world["hops"][0])]
    hops[:] = place[hops]
    joining["first_follower"][joining["followers"] > 0] += len(kept)
    world["arrived"] = len(kept)
    return np.concatenate([moved, joining])
