"""What a design spends money and power on, part by part: the parts add up to its price and its power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from dse import words
from dse.report.chosen import Chosen, Named
from dse.report.document import plot
from dse.report.figures import PALETTE, Json, rounded
from dse.report.tables import Cell, count, figure, share, table, text
from simulator import Deployment, Result, catalog
from simulator.performance.price import (
    devices_of,
    pool_usd_per_hour,
    service_usd_per_hour,
    tiers_usd_per_hour,
)

TIER = "KV tier"


@dataclass(frozen=True)
class Part:
    """A pool, service or tier of a deployment.

    Attributes
    ----------
    name, kind
        Its name, and what it is.
    hardware
        Its devices in words.
    usd_per_hour
        Its price.
    mean_kw
        Its mean power with each of the study's workloads; of tiers none is modelled.
    peak_kw
        Sum of the TDP of its devices.
    """

    name: str
    kind: str
    hardware: str
    usd_per_hour: float
    mean_kw: tuple[float, ...]
    peak_kw: float


def parts_of(deployment: Deployment, simulations: Sequence[Result]) -> tuple[Part, ...]:
    """Return what a deployment consists of, with its price and power.

    Parameters
    ----------
    deployment
        A design.
    simulations
        Of it, one for each of the study's workloads.
    """
    parts = []
    for place, pool in enumerate(deployment.pools):
        peak_w = sum(number * catalog.accelerator(name).tdp_w for name, number in pool.accelerator_counts.items())
        kw = tuple(each.pools[place].energy_j / each.span_s / 1e3 for each in simulations)
        parts.append(Part(pool.name, "pool", words.clients(pool), pool_usd_per_hour(pool), kw, peak_w / 1e3))
    for place, plan in enumerate(simulations[0].lowered.services):
        devices = plan.service.devices_in_all(plan.stage)
        kw = tuple(each.services[place].energy_j / each.span_s / 1e3 for each in simulations)
        peak_kw = devices * catalog.device(plan.service.device).tdp_w / 1e3
        price = service_usd_per_hour(plan.service, plan.stage)
        hardware = f"{devices:,} × {plan.service.device}"
        use_name = simulations[0].services[place].name
        parts.append(Part(use_name, "service", hardware, price, kw, peak_kw))
    for tier in deployment.tiers:
        price = tiers_usd_per_hour(deployment.model_copy(update={"tiers": (tier,)}))
        parts.append(Part(tier.name, TIER, "memory", price, (0.0,) * len(simulations), 0.0))
    return tuple(parts)


def section(chosen: Chosen, design: Named, payload: Json) -> str:
    """Return the HTML of the breakdown of cost and power of a design."""
    simulations = chosen.simulations(design)
    parts = parts_of(design.deployment, simulations)
    body = f"<h2>Cost and power</h2><p>{escape(_said(parts))}</p>"
    payload["figures"]["cost"] = _bars(parts, {"cost": [part.usd_per_hour for part in parts]}, "USD per hour")
    means = {
        case.name if len(chosen.cases) > 1 else "mean": [part.mean_kw[place] for part in parts]
        for place, case in enumerate(chosen.cases)
    }
    payload["figures"]["power"] = _bars(parts, {**means, "at TDP": [part.peak_kw for part in parts]}, "kW")
    drawn = ""
    for key, title in (("cost", "Cost"), ("power", "Power")):
        about = f"{title} by part of {design.tag}; the table below holds the values"
        drawn += f"<div>{plot(key, about, f'{title} of {design.tag}, by part.', height=_height(parts))}</div>"
    body += f'<div class="latencies">{drawn}</div>'
    return body + _parts(chosen, design, parts) + _devices(design, simulations[0])


def _said(parts: Sequence[Part]) -> str:
    dearest = max(parts, key=lambda part: part.usd_per_hour)
    total, watts = sum(part.usd_per_hour for part in parts), sum(part.peak_kw for part in parts)
    said = f"{words.quantity('usd_per_hour', total)} per hour"
    if len(parts) > 1 and total:
        said += f", {words.percent(dearest.usd_per_hour / total)} of it for the {dearest.kind} {dearest.name}"
    return (
        f"The design costs {said}. Prices are the catalogue's rents, electricity included. Its devices draw at most "
        f"{kilowatts(watts)}; the mean is over the time simulated, idle devices included. Hosts, switches and cooling "
        "are not counted, nor is the power of KV tiers."
    )


def kilowatts(value: float) -> str:
    """Return a power with its unit."""
    return f"{words.number(value)} kW"


def _kw(value: float) -> Cell:
    return Cell(words.number(value), value, "number")


def _parts(chosen: Chosen, design: Named, parts: Sequence[Part]) -> str:
    total = sum(part.usd_per_hour for part in parts)
    rows = [
        [
            text(part.name),
            text(part.kind),
            text(part.hardware, "long"),
            figure("usd_per_hour", part.usd_per_hour),
            share(part.usd_per_hour / total if total else 0.0),
            *(text("–") if part.kind == TIER else _kw(value) for value in part.mean_kw),
            text("–") if part.kind == TIER else _kw(part.peak_kw),
        ]
        for part in parts
    ]
    sums = [sum(values) for values in zip(*(part.mean_kw for part in parts), strict=True)]
    rows.append(
        [
            text("All", "strong"),
            text(""),
            text(""),
            figure("usd_per_hour", total),
            share(1.0),
            *map(_kw, sums),
            _kw(sum(part.peak_kw for part in parts)),
        ]
    )
    means = [f"Mean kW, {case.name}" for case in chosen.cases] if len(chosen.cases) > 1 else ["Mean kW"]
    head = ("Part", "Kind", "Devices", "Cost per hour", "Of all cost", *means, "kW at TDP")
    return table(f"Cost and power of {design.tag}, by part", head, rows)


def _devices(design: Named, simulation: Result) -> str:
    rows: list[list[Cell]] = []
    for name, number in devices_of(design.deployment, simulation.lowered.plan).items():
        device = catalog.device(name)
        price = device.price_usd_per_hour
        rows.append(
            [
                text(name),
                count(number),
                figure("usd_per_hour", price),
                figure("usd_per_hour", number * price),
                _kw(number * device.tdp_w / 1e3),
            ]
        )
    memory = tiers_usd_per_hour(design.deployment)
    if memory:
        rows.append([text("memory of KV tiers"), text("–"), text("–"), figure("usd_per_hour", memory), text("–")])
    head = ("Device", "Number", "Cost of one per hour", "Cost per hour", "kW at TDP")
    return table(f"Cost and power of {design.tag}, by device", head, rows)


def _height(parts: Sequence[Part]) -> int:
    return 110 + 34 * len(parts)


def _bars(parts: Sequence[Part], values: dict[str, list[float]], title: str) -> Json:
    names = [part.name for part in parts]
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "x": rounded(amounts),
            "y": names,
            "marker": {"color": PALETTE[place % len(PALETTE)]},
            "hovertemplate": "%{y}: %{x:.4g}<extra>" + name + "</extra>",
        }
        for place, (name, amounts) in enumerate(values.items())
    ]
    return {
        "data": traces,
        "layout": {
            "template": {"$": "template"},
            "height": _height(parts),
            "barmode": "group",
            "showlegend": len(traces) > 1,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "meta": {"y": "part"},
            "xaxis": {"title": {"text": title}, "rangemode": "tozero"},
            "yaxis": {"autorange": "reversed"},
            "margin": {"l": 52, "r": 14, "t": 30, "b": 42},
        },
    }
