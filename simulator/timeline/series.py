"""A result as series over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simulator.errors import SpecError
from simulator.kernel.layout import POLICY_STATIC
from simulator.lowering import PoolPlan
from simulator.metrics import Result
from simulator.timeline.activity import dynamic_j, logged_share
from simulator.timeline.bins import Bins, Overlaps
from simulator.timeline.parts import Log, Part, log_of, parts_of, window_ps
from simulator.timeline.stays import stays_of, visits_of
from simulator.workload import PS_PER_S

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]


def series(result: Result, bins: int = 200) -> pd.DataFrame:
    """Return means over equal bins of time, for each pool and service.

    An interval counts in each bin by its overlap, so the sum of a column times the width of a bin is the exact
    integral (requests in queue: the sum of all waits). Within a run of steps what changes is taken as even.

    Parameters
    ----------
    result
        Of ``simulate(..., log=True)``; if the log was kept between two times, the bins lie there.
    bins
        Number of bins.

    Returns
    -------
    pandas.DataFrame
        One row a bin, indexed by its start ``time_s`` (its width is ``attrs["bin_s"]``). Columns ``<name>/<series>``:

        - ``queue_requests``: requests that wait: from reaching the stage until they are admitted, while a prefix is
          fetched from a tier, after a preemption; at the pool that decodes after a hand-over also while their KV is
          on the way. Services of the same stage have one queue, given here by their shares of clients.
        - ``running_requests``: requests in batches.
        - ``busy_share``: share of clients that work.
        - ``batch_requests``: requests in a batch, mean over the time that clients work; missing if none does.
        - ``prefill_tokens_per_s``, ``decode_tokens_per_s``: tokens read, and written by decoding (pools only).
        - ``kv_share``: KV blocks in use by all there are (pools only). Of clients that do nothing, none: what a
          prefill client holds for hand-overs under way is seen only while it works.
        - ``power_w``: of all devices; its integral is the energy of the result.

    Raises
    ------
    SpecError
        If the result has no log.
    """
    import pandas as pd

    if bins < 1:
        raise SpecError(f"bins: {bins}; allowed: 1 or more")
    parts = parts_of(result)
    log = log_of(result, parts)
    grid = Bins(*window_ps(result), bins)
    logs = [log.where(log.part == number) for number in range(len(parts))]
    overlaps = [grid.overlaps(own.start_ps, own.end_ps) for own in logs]
    running = [lies.integral(own.running) for lies, own in zip(overlaps, logs, strict=True)]
    queues = _queues(result, parts, grid, running)
    columns: dict[str, Floats] = {}
    for number, part in enumerate(parts):
        own, lies = logs[number], overlaps[number]
        busy_s = lies.integral()
        batch = np.full(bins, np.nan)
        np.divide(running[number], busy_s, out=batch, where=busy_s > 1e-9 * grid.bin_s)
        found = {
            "queue_requests": queues[number] / grid.bin_s,
            "running_requests": running[number] / grid.bin_s,
            "busy_share": busy_s / grid.bin_s / part.clients,
            "batch_requests": batch,
            **(_llm_series(result, part, part.plan, own, lies) if isinstance(part.plan, PoolPlan) else {}),
            "power_w": part.idle_w + lies.integral(_per_s(dynamic_j(result, part, own), own)) / grid.bin_s,
        }
        columns |= {f"{part.name}/{name}": values for name, values in found.items()}
    frame = pd.DataFrame(columns, index=pd.Index(grid.start_s, name="time_s"))
    frame.attrs["bin_s"] = grid.bin_s
    return frame


def _per_s(values: npt.NDArray[np.float64] | npt.NDArray[np.int64], log: Log) -> Floats:
    """Return values of entries by their seconds."""
    return np.asarray(values / ((log.end_ps - log.start_ps) / PS_PER_S))


def _queues(result: Result, parts: tuple[Part, ...], grid: Bins, running: list[Floats]) -> list[Floats]:
    """Return for each part request-seconds in its queue, by bin: those of all that are there less those that run."""
    stays = stays_of(result, parts, visits_of(result, (grid.from_ps, grid.until_ps)))
    there = []
    for number in range(len(parts)):
        here = stays.group == number
        there.append(grid.overlaps(stays.begin_ps[here], stays.end_ps[here]).integral())
    for number, part in enumerate(parts):
        there[part.group] -= running[number]
    return [np.maximum(there[part.group], 0.0) * part.group_share for part in parts]


def _llm_series(result: Result, part: Part, plan: PoolPlan, log: Log, lies: Overlaps) -> dict[str, Floats]:
    """Return the series that only pools have."""
    rows = result.lowered.memory.clients[plan.first : plan.first + part.clients]
    decoded = (log.steps * log.decodes).astype(np.float64)
    if rows["draft"][0]:  # a decode writes several tokens: the mean over the run is taken
        decoded *= rows["decode_tokens"].sum() * logged_share(result, part, log) / max(1.0, decoded.sum())
    total = int(rows["total_blocks"][0])
    blocks = log.blocks.astype(np.float64)
    if rows["policy"][0] != POLICY_STATIC and not rows["draft"][0]:
        # Growth over the run, which the blocks at its start lack; half of it is there on average.
        blocks = np.minimum(blocks + log.decodes * (log.steps + 1) / 2 / plan.pool.kv_memory.block_tokens, total)
    return {
        "prefill_tokens_per_s": lies.integral(_per_s(log.prefill_tokens, log)) / lies.bin_s,
        "decode_tokens_per_s": lies.integral(_per_s(decoded, log)) / lies.bin_s,
        "kv_share": lies.integral(blocks) / lies.bin_s / (total * part.clients),
    }
