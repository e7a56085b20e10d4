"""What it costs at least to serve a rate: designs with as few clients as will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dse.capacity.trial import Load, attempt
from simulator import SLO, Deployment, SpecError, Workload
from simulator.lowering import LLM_ALONE_PLAN
from simulator.performance.price import deployment_usd_per_hour

if TYPE_CHECKING:
    import pandas as pd

MOST_CLIENTS: Final = 1024
"""Clients of the largest pool that are tried at most."""


def scaled(deployment: Deployment, clients: int) -> Deployment:
    """Return a deployment whose largest pool has ``clients`` clients, and all else in proportion.

    Every other pool and service has as many as its share of the largest, rounded up, and a pool with groups the next
    multiple of them.

    Parameters
    ----------
    deployment
        Gives the proportions.
    clients
        At least 1.
    """
    largest = max(pool.clients for pool in deployment.pools)

    def share(count: int, groups: int = 1) -> int:
        return -(-count * clients // (largest * groups)) * groups

    pools = (pool.model_copy(update={"clients": share(pool.clients, pool.groups)}) for pool in deployment.pools)
    services = (each.model_copy(update={"clients": share(each.clients)}) for each in deployment.services)
    return deployment.model_copy(update={"pools": tuple(pools), "services": tuple(services)})


def least_cost(
    deployments: Mapping[str, Deployment],
    workload: Workload | Load,
    rates_rps: Sequence[float],
    slos: Sequence[SLO] = (),
    *,
    most_clients: int = MOST_CLIENTS,
    jobs: int = 1,
) -> pd.DataFrame:
    """Return what each rate costs at least with each design, its clients scaled to as few as hold the promises.

    The number of clients is doubled (or halved) until it holds and a smaller one does not, then bisected. So the
    number in the table holds, and one client less (of the largest pool) does not.

    Parameters
    ----------
    deployments
        Designs by name, e.g. those of a front; their numbers of clients give only the proportions of their pools.
    workload, slos
        As in :func:`~dse.capacity.capacity.capacity_of`; the same requests for every rate and design.
    rates_rps
        Requests (sessions) per second.
    most_clients
        Clients of the largest pool to try at most.
    jobs
        Processes, over designs. The table does not depend on it.

    Returns
    -------
    DataFrame
        One row for each rate and design, the cheapest first: ``rate_rps``, ``design``, ``holds`` (False: not even
        with ``most_clients``), ``clients`` of the largest pool, ``accelerators``, ``usd_per_hour``,
        ``usd_per_million_requests``, ``one_less_breaks`` (what breaks with one client less) and ``cheapest``.

    Raises
    ------
    SpecError
        As ``capacity_of``, or if a rate is not above 0.
    """
    import pandas as pd
    from joblib import Parallel, delayed

    load = Load.of(workload)
    rates = sorted(set(rates_rps))
    if not rates or rates[0] < load.lowest_rps:
        given = ", ".join(f"{rate:g}" for rate in rates) or "none"
        raise SpecError(f"rates: must be at least {load.lowest_rps:.3g} per second, given {given}")
    found = Parallel(n_jobs=jobs)(
        delayed(_of_design)(name, deployment, load, rates, tuple(slos), most_clients)
        for name, deployment in deployments.items()
    )
    frame = pd.DataFrame([row for rows in found for row in rows])
    frame = frame.sort_values(["rate_rps", "holds", "usd_per_hour"], ascending=[True, False, True], kind="stable")
    frame["cheapest"] = frame["holds"] & ~frame["rate_rps"].duplicated()
    return frame.reset_index(drop=True)


def _of_design(
    name: str, deployment: Deployment, load: Load, rates: Sequence[float], slos: tuple[SLO, ...], most: int
) -> list[dict[str, Any]]:
    rows = []
    start = max(pool.clients for pool in deployment.pools)
    for rate_rps in rates:
        broken: dict[int, str] = {}

        def holds(clients: int, rate_rps: float = rate_rps, broken: dict[int, str] = broken) -> bool:
            trial, _ = attempt(scaled(deployment, clients), load, rate_rps, slos)
            broken[clients] = trial.broken
            return trial.holds

        clients = _fewest(holds, min(start, most), most)
        design = scaled(deployment, clients or most)
        price = deployment_usd_per_hour(design, load.plan or LLM_ALONE_PLAN)
        rows.append(
            {
                "rate_rps": rate_rps,
                "design": name,
                "holds": clients is not None,
                "clients": clients or most,
                "accelerators": design.accelerators,
                "usd_per_hour": price,
                "usd_per_million_requests": price / (rate_rps * 3600) * 1e6,
                "one_less_breaks": broken.get(clients - 1, "") if clients else broken[most],
            }
        )
        start = clients or start
    return rows


def _fewest(holds: Callable[[int], bool], start: int, most: int) -> int | None:
    """Return a number that holds while one less does not, by doubling and bisection; None if ``most`` fails."""
    low, high = 0, start
    while not holds(high):
        if high == most:
            return None
        low, high = high, min(2 * high, most)
    if low == 0:
        low = high // 2
        while low and holds(low):
            low, high = low // 2, low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
