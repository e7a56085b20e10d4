"""Least waits where it is known beforehand which client a request goes to, and nobody overtakes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dse.bounds.demand import backlog_s
from dse.bounds.draws import draws
from dse.bounds.load import Load
from dse.bounds.stage_floor import StageFloor
from simulator.spec.deployment import Deployment

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def clients_of(deployment: Deployment, name: str, stage: StageFloor, load: Load) -> tuple[Integers, Integers] | None:
    """Return the client that reads each prompt that is served, and the pool of each client; None if it is not known.

    It is where there is one, where the router takes turns, and where it draws: if every client that reads prompts could
    take every request.
    """
    if deployment.lending is not None:
        return None
    pools = [pool for pool in deployment.pools if pool.stage == name]
    entries = [number for number, pool in enumerate(pools) if pool.role != "decode"]
    for number in entries:
        possible = np.zeros(len(stage.rows), dtype=np.bool_)
        for path in stage.paths:
            if path.first == number:
                possible |= path.possible
        if not possible[stage.served].all():
            return None
    pool_of_client = np.repeat(entries, [pools[number].clients for number in entries])
    count, rows = len(pool_of_client), stage.rows
    router = next((each.router for each in deployment.routers if each.stage == name), deployment.router)
    if count == 1:
        return np.zeros(len(rows), dtype=np.int64), pool_of_client
    if router == "random":
        salt = 4 * load.plan.stages.index(name)
        return draws(load.rows["number"][rows].astype(np.int64), deployment.seed, salt) % count, pool_of_client
    if router == "round_robin" and not load.follows[rows].any():
        return (np.cumsum(stage.served) - 1) % count, pool_of_client
    return None


def first_tokens_s(deployment: Deployment, name: str, stage: StageFloor, load: Load, before_s: Floats) -> Floats | None:
    """Return the least time from each request's arrival to its first token by the engine's clock; None if unknown.

    Prompts are read in the order of arrival: when a request has its first token, those before it on its client have
    been read, after the first of them arrived.

    Parameters
    ----------
    deployment, name, stage, load
        Floors of an LLM stage, and of what.
    before_s
        Time before the stage, shape (requests,): where there is any, the order is not known.
    """
    pools = [pool for pool in deployment.pools if pool.stage == name and pool.role != "decode"]
    in_order = all(pool.batching.order == "fcfs" for pool in pools)
    # What comes from tiers lets others pass.
    fetching = deployment.tiers and any(pool.prefix_cache for pool in pools)
    if not in_order or fetching or before_s[stage.rows].any():
        return None
    known = clients_of(deployment, name, stage, load)
    if known is None:
        return None
    client, pool_of_client = known
    found = np.zeros(len(stage.rows))
    counted = stage.served & ~load.follows[stage.rows]
    for number, pool in enumerate(pool_of_client):
        own = np.flatnonzero(counted & (client == number))
        if len(own):
            floor, arrival = stage.pools[pool], load.arrival_s[stage.rows[own]]
            found[own] = backlog_s(arrival, floor.prefill_work_s[own])
            if stage.counts_answers:
                # All but a batch of those before it have been served to their end.
                open_s = floor.most_open_s(floor.parts_of_work_s[1], 1, own)
                found[own] = np.maximum(found[own], backlog_s(arrival, floor.work_s[own]) - open_s)
    return found
