"""Latencies, throughput and cost of a deployment over a range of rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dse.capacity.trial import Load, attempt
from dse.confidence.percentiles import slo_interval
from simulator import SLO, Deployment, SpecError, Workload

if TYPE_CHECKING:
    import pandas as pd

FIGURES: Final = (
    "requests_per_s",
    "output_tokens_per_s",
    "usd_per_hour",
    "usd_per_million_output_tokens",
    "energy_j_per_output_token",
)
"""Figures of a run beside its latencies."""


def sweep(
    deployment: Deployment,
    workload: Workload | Load,
    rates_rps: Sequence[float],
    slos: Sequence[SLO] = (),
    *,
    replications: int = 1,
    jobs: int = 1,
) -> pd.DataFrame:
    """Return one row for each rate and replication: latencies, promises, throughput, cost.

    Parameters
    ----------
    deployment, workload, slos
        As in :func:`~dse.capacity.capacity.capacity_of`; the same requests at every rate.
    rates_rps
        Requests (sessions) per second.
    replications
        Draws of the load.
    jobs
        Processes. The table does not depend on it.

    Returns
    -------
    DataFrame
        Index ``replication``, ``rate_rps``; ``holds`` (for good), ``broken``, each SLO's percentile in seconds with its
        interval from the run (``_low``, ``_high``; none of ``itl``), percentiles 50, 90 and 99 of all latencies,
        :data:`FIGURES`, ``goodput_rps``, ``power`` (rate by median end-to-end latency) and ``bottleneck``.
        Missing where a load is far beyond capacity.

    Raises
    ------
    SpecError
        If a rate is impossible, or as ``capacity_of``.
    """
    import pandas as pd
    from joblib import Parallel, delayed

    load = Load.of(workload)
    rates = sorted(set(rates_rps))
    if not rates or not load.lowest_rps <= rates[0] <= rates[-1] < math.inf:
        given = ", ".join(f"{rate:g}" for rate in rates) or "none"
        raise SpecError(f"rates: must be finite and at least {load.lowest_rps:.3g} per second, given {given}")
    loads = [load.replication(number) for number in range(replications)]
    promises = tuple(slos)
    rows = Parallel(n_jobs=jobs)(
        delayed(_row)(deployment, each, rate_rps, promises, number)
        for number, each in enumerate(loads)
        for rate_rps in rates
    )
    return pd.DataFrame(rows).set_index(["replication", "rate_rps"])


def _row(
    deployment: Deployment, load: Load, rate_rps: float, slos: tuple[SLO, ...], replication: int
) -> dict[str, Any]:
    trial, result = attempt(deployment, load, rate_rps, slos)
    row: dict[str, Any] = {"replication": replication, "rate_rps": rate_rps, "holds": trial.holds}
    row |= {"broken": trial.broken, **trial.reached_s}
    if result is None:
        return row
    for slo in slos:
        if slo.metric != "itl":
            interval = slo_interval(result, slo)
            row |= {f"{slo.name}_low": interval.low, f"{slo.name}_high": interval.high}
    summary = result.summary()
    row |= {name: value for name, value in summary.items() if name.endswith("_s") and "_p" in name}
    row |= {name: summary[name] for name in FIGURES}
    row |= {"goodput_rps": result.goodput_rps(slos), "power": rate_rps / summary["e2e_p50_s"]}
    return {**row, "bottleneck": trial.bottleneck}


def knee_of(table: pd.DataFrame) -> float:
    """Return the rate with the greatest power, rate by median end-to-end latency, of a sweep.

    NaN if it is the last rate that was swept: the knee lies at or beyond it.

    Below it more load costs little latency, above it latency grows faster than throughput.

    Reference: L. Kleinrock, *Power and deterministic rules of thumb for probabilistic problems in computer
    communications*, ICC 1979.
    """
    if "power" not in table or table["power"].isna().all():
        return math.nan
    power = table["power"].groupby(level="rate_rps").mean().dropna()
    rates: list[float] = power.index.tolist()
    best = int(power.to_numpy().argmax())
    return rates[best] if best < len(rates) - 1 else math.nan
