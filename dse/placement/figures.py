"""A plan as figures for machines."""

from __future__ import annotations

import math
from typing import Any

from dse.placement.split import Pipeline, SplitPlan
from dse.placement.stages import StagesPlan


def split_figures(plan: SplitPlan) -> dict[str, Any]:
    """Return a split, the uniform one and the proof as plain data; seconds and bytes."""
    return {
        "kind": "split",
        "model": plan.spec.model,
        "objective": plan.spec.objective,
        "objective_s": plan.objective_s,
        "bound_s": plan.bound_s,
        "gap": plan.gap,
        "status": plan.status,
        "planned": _pipeline(plan.planned),
        "uniform": _pipeline(plan.uniform),
        "alternatives": [_finite(vars(each)) for each in plan.alternatives],
        "deployment": plan.deployment.model_dump(mode="json", exclude_none=True),
    }


def _pipeline(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "tp": pipeline.pool.tp,
        "layers": list(pipeline.layers),
        "stages": [{**vars(stage), "fits": stage.fits} for stage in pipeline.stages],
        "bottleneck": pipeline.bottleneck,
        "bubbles": pipeline.bubbles,
        "cycle_s": pipeline.cycle_s,
        "way_s": pipeline.way_s,
        "step_s": pipeline.step_s,
        "kv_tokens": pipeline.kv_tokens,
        "fits": pipeline.fits,
    }


def stages_figures(plan: StagesPlan) -> dict[str, Any]:
    """Return a placement of stages and the proof as plain data; US dollars an hour, or a share of time."""
    return {
        "kind": "stages",
        "model": plan.spec.model,
        "rate_rps": plan.rate_rps,
        "layout": plan.layout,
        "usd_per_hour": plan.usd_per_hour,
        "placed": [
            {
                "stage": each.capacity.stage,
                "device": each.capacity.device,
                "devices_per_client": each.capacity.devices,
                "clients": each.clients,
                "requests_per_s_per_client": each.capacity.requests_per_s,
                "utilisation": each.utilisation,
                "usd_per_hour": each.usd_per_hour,
            }
            for each in plan.placed
        ],
        "bottleneck": plan.bottleneck.capacity.stage,
        "objective": plan.spec.objective,
        "objective_value": plan.objective,
        "bound": plan.bound,
        "gap": plan.gap,
        "status": plan.status,
        "layouts": [_finite(vars(each)) for each in plan.layouts],
        "deployment": plan.deployment.model_dump(mode="json", exclude_none=True),
    }


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures with None for what there is not: JSON knows no infinity."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
