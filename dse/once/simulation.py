"""A simulation as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dse.once.plain import finite
from simulator import SLO, Result
from simulator.performance.provenance import Provenance, provenance_of


def simulation_figures(result: Result, slos: Sequence[SLO] = ()) -> dict[str, Any]:
    """Return what happened: figures, what limits, use of pools, services and tiers, and how promises were kept.

    Parameters
    ----------
    result
        The simulation.
    slos
        Promises to hold it against.
    """
    pools = [
        {**vars(use), "bottleneck": use.bottleneck, "coefficients": _coefficients(provenance_of(plan.engine))}
        for plan, use in zip(result.lowered.pools, result.pools, strict=True)
    ]
    figures: dict[str, Any] = {
        **result.summary(),
        "bottleneck": result.bottleneck,
        "pools": pools,
        "services": [vars(use) for use in result.services],
        "tiers": [vars(use) for use in result.tiers],
        "slos": [_kept(result, slo) for slo in slos],
    }
    plain: dict[str, Any] = finite(figures)
    return plain


def _coefficients(origin: Provenance) -> dict[str, Any]:
    """Return where a pool's times come from."""
    return {
        "kernels": {"calibrated": origin.kernels, "from": origin.kernels_from, "source": origin.kernels_source},
        "engine": {"name": origin.engine, "calibrated": origin.engine_calibrated, "source": origin.engine_source},
    }


def _kept(result: Result, slo: SLO) -> dict[str, Any]:
    return {
        "name": slo.name,
        "limit_s": slo.limit_s,
        "reached_s": result.percentile_s(slo.metric, slo.percentile),
        "attainment": result.attainment(slo),
        "holds": result.violation(slo) <= 0,
    }
