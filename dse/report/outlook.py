"""What would change the answer: prices and rates a fifth lower and higher, and prices at which it turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from dse import words
from dse.evaluation import Evaluation
from dse.report.break_even import BreakEven, break_even_html, break_evens, change, nearest_said
from dse.report.chosen import Chosen, Named
from dse.report.document import plot
from dse.report.figures import PALETTE, Json, rounded
from dse.report.tables import Cell, count, figure, signed_margin, table, text
from dse.understanding.prices import depends_on_prices, price_sensitivity
from dse.understanding.rates import rate_sensitivity
from simulator import SpecError

FACTORS = (0.8, 1.2)
"""Changes of prices and of the rate."""
NEIGHBOURS = 2
"""Designs beside the recommended one that are simulated at other rates."""


@dataclass(frozen=True)
class AtPrice:
    """What another price of one accelerator type does; fields as of :func:`dse.understanding.price_sensitivity`."""

    device: str
    factor: float
    usd_per_hour: float
    front: int
    changed: bool
    recommended: Evaluation | None
    objectives: tuple[float, ...]


@dataclass(frozen=True)
class AtRate:
    """What another rate does to a design; fields as of :func:`dse.understanding.rate_sensitivity`."""

    design: Named
    factor: float
    rate_rps: float
    feasible: bool
    broken: str
    least_slack: float
    objectives: tuple[float, ...]


@dataclass(frozen=True)
class Outlook:
    """All of it, and why prices or rates are missing (empty if they are there)."""

    prices: tuple[AtPrice, ...]
    break_evens: tuple[BreakEven, ...]
    no_prices: str
    rates: tuple[AtRate, ...]
    no_rates: str


def outlook(chosen: Chosen) -> Outlook:
    """Return what prices and rates a fifth lower and higher do to the recommendation.

    Prices need no simulation; for rates the recommended design and its nearest neighbours are simulated at each.
    """
    prices, no_prices, rates, no_rates = tuple[AtPrice, ...](), "", tuple[AtRate, ...](), ""
    turns = tuple[BreakEven, ...]()
    try:
        prices, turns = _prices(chosen), break_evens(chosen)
    except SpecError as error:
        no_prices = str(error)
    try:
        rates = _rates(chosen)
    except SpecError as error:
        no_rates = str(error)
    return Outlook(prices, turns, no_prices, rates, no_rates)


def _prices(chosen: Chosen) -> tuple[AtPrice, ...]:
    names = chosen.result.spec.objectives
    rows = price_sensitivity(chosen.result, FACTORS).reset_index().to_dict("records")
    return tuple(
        AtPrice(
            device=row["device"],
            factor=row["factor"],
            usd_per_hour=row["device_usd_per_hour"],
            front=row["front"],
            changed=bool(row["changed"]),
            recommended=_trial(chosen, row["recommended"]),
            objectives=tuple(row[name] for name in names),
        )
        for row in rows
    )


def _trial(chosen: Chosen, number: Any) -> Evaluation | None:
    import pandas as pd

    return None if pd.isna(number) else chosen.result.evaluations[int(number)]


def _rates(chosen: Chosen) -> tuple[AtRate, ...]:
    assert chosen.recommended
    near = sorted(chosen.rivals, key=lambda rival: sum(gain**2 for gain in rival.gains))[:NEIGHBOURS]
    designs = [chosen.recommended, *(rival.design for rival in near)]
    found = rate_sensitivity(chosen.result, FACTORS, [design.evaluation for design in designs])
    rows = found.reset_index().to_dict("records")
    names = chosen.result.spec.objectives
    # Rows come factor by factor, designs in the order in which they were given.
    return tuple(
        AtRate(
            design=designs[place % len(designs)],
            factor=row["factor"],
            rate_rps=row["rate_rps"],
            feasible=bool(row["feasible"]),
            broken=row["broken"],
            least_slack=row["least_slack"],
            objectives=tuple(row[name] for name in names),
        )
        for place, row in enumerate(rows)
    )


def prices_said(chosen: Chosen, found: Outlook) -> str:
    """Return in sentences what other prices do."""
    if found.no_prices:
        return f"Not known: {found.no_prices}."
    if not depends_on_prices(chosen.result):
        return "No objective, limit or bound of the study depends on prices."
    moved = [row for row in found.prices if row.changed]
    turning = nearest_said(chosen, found.break_evens)
    if not moved:
        same = "With any one accelerator 20 % cheaper or dearer the same design is recommended."
        return f"{same} {turning}".rstrip()
    said = [
        f"with {row.device} at {change(row.factor)} ({words.quantity('usd_per_hour', row.usd_per_hour)}), "
        + (f"{chosen.name_of(row.recommended)} is recommended" if row.recommended else "nothing is feasible")
        for row in moved
    ]
    text = "; ".join(said)
    others = "Other changes of one price by 20 % leave the recommendation."
    return f"{text[0].upper()}{text[1:]}. {others} {turning}".rstrip()


def _all_kept(chosen: Chosen, least_slack: float) -> bool:
    """Return whether a feasible design is known to keep soft promises, too; slacks are of SLOs alone."""
    return not least_slack < 0 and all(bound.penalty is None for bound in chosen.result.spec.constraints)


def rates_said(chosen: Chosen, found: Outlook) -> str:
    """Return in sentences what other rates do to the recommended design."""
    if found.no_rates:
        return f"Not known: {found.no_rates}."
    said = []
    for row in found.rates:
        if not row.design.recommended:
            continue
        at = f"at {change(row.factor)} ({words.number(row.rate_rps)}/s)"
        if row.feasible:
            left = f", {words.percent(row.least_slack)} of the tightest limit left" if row.least_slack >= 0 else ""
            kept = "every promise" if _all_kept(chosen, row.least_slack) else "every hard promise"
            said.append(f"{at} it keeps {kept}{left}")
        else:
            said.append(f"{at} it breaks {_broken(row.broken)}")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _broken(names: str) -> str:
    return ", ".join(words.promise(name) for name in names.split(", ")) if names else ""


def section(chosen: Chosen, found: Outlook, payload: Json) -> str:
    """Return the HTML of what would change the answer."""
    body = f"<h2>What would change the answer</h2><h3>Prices</h3><p>{escape(prices_said(chosen, found))}</p>"
    if found.prices:
        body += _price_table(chosen, found.prices)
        body += (
            '<p class="note">Computed from the simulations at hand: prices do not change what happens. Designs that '
            "nobody proposed at today's prices are not found.</p>"
        )
        body += break_even_html(chosen, found.break_evens, payload)
    body += f"<h3>Rate of requests</h3><p>{escape(rates_said(chosen, found))}</p>"
    if found.rates:
        slacks = bool(chosen.result.spec.slos)
        if slacks:
            payload["figures"]["rates"] = _rate_figure(chosen, found.rates)
            about = "Least share of an SLO's limit that is left, by rate; the table below holds the values"
            body += plot("rates", about, "Below zero an SLO is missed.", height=280)
        body += _rate_table(chosen, found.rates)
        body += (
            '<p class="note">The same requests, closer together or farther apart. At a lower rate smaller designs, '
            "not feasible today, may be better. <code>dse capacity</code> finds the rate that a design sustains.</p>"
        )
    return body


def _price_table(chosen: Chosen, rows: Sequence[AtPrice]) -> str:
    names = chosen.result.spec.objectives
    cells = [
        [
            text(row.device),
            text(change(row.factor), "number"),
            figure("usd_per_hour", row.usd_per_hour),
            text(chosen.name_of(row.recommended) if row.recommended else "nothing feasible", "long"),
            text("another" if row.changed else "the same"),
            count(row.front),
            *(figure(name, value) for name, value in zip(names, row.objectives, strict=True)),
        ]
        for row in rows
    ]
    head = ("Accelerator", "Price", "One costs per hour", "Recommended", "Than today", "Designs on the front")
    return table("Prices of one accelerator type 20 % lower and higher", [*head, *map(_title, names)], cells)


def _title(name: str) -> str:
    label = words.label(name)
    return label[0].upper() + label[1:]


def _rate_table(chosen: Chosen, rows: Sequence[AtRate]) -> str:
    names = chosen.result.spec.objectives

    def line(design: Named, factor: float, rate_rps: float, verdict: Cell, slack: float, values: Any) -> list[Cell]:
        return [
            text(f"{design.tag}{' (recommended)' if design.recommended else ''}"),
            text(change(factor) if factor != 1 else "today", "number"),
            Cell(escape(words.number(rate_rps)), rate_rps, "number"),
            verdict,
            text("–") if slack != slack else signed_margin(-slack),
            *(figure(name, value) for name, value in zip(names, values, strict=True)),
        ]

    def kept(slack: float) -> Cell:
        return text("kept" if _all_kept(chosen, slack) else "hard ones kept", "good")

    cells = []
    for design in dict.fromkeys(row.design for row in rows):
        own = [row for row in rows if row.design is design]
        slack = _slack_today(chosen, design)
        today = (design, 1.0, chosen.result.requests.rate_rps, kept(slack), slack)
        lines = [(1.0, line(*today, design.evaluation.objectives))]
        for row in own:
            broken = text(f"breaks {_broken(row.broken)}", "bad long")
            said = kept(row.least_slack) if row.feasible else broken
            found = line(design, row.factor, row.rate_rps, said, row.least_slack, row.objectives)
            lines.append((row.factor, found))
        cells += [found for _, found in sorted(lines, key=lambda each: each[0])]
    head = ("Design", "Rate", "Requests (sessions) per second", "Promises", "Least margin of an SLO")
    return table("Rate of requests 20 % lower and higher", [*head, *map(_title, names)], cells)


def _slack_today(chosen: Chosen, design: Named) -> float:
    return min(
        (-design.evaluation.figures[f"{slo.name}_excess"] for slo in chosen.result.spec.slos), default=float("nan")
    )


def _rate_figure(chosen: Chosen, rows: Sequence[AtRate]) -> Json:
    today = chosen.result.requests.rate_rps
    traces = []
    for place, design in enumerate(dict.fromkeys(row.design for row in rows)):
        points = [(row.rate_rps, row.least_slack) for row in rows if row.design is design]
        points = sorted([*points, (today, _slack_today(chosen, design))])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"{design.tag}{' (recommended)' if design.recommended else ''}",
                "x": rounded(point[0] for point in points),
                "y": rounded(100 * point[1] for point in points),
                "line": {"color": PALETTE[place], "width": 2},
                "hovertemplate": "%{x:.4g}/s: %{y:.3g} % left<extra></extra>",
            }
        )
    return {
        "data": traces,
        "layout": {
            "template": {"$": "template"},
            "height": 280,
            "showlegend": True,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "xaxis": {"title": {"text": "requests (sessions) per second"}},
            "yaxis": {"title": {"text": "least margin (%)"}, "zeroline": True, "zerolinecolor": "--bad"},
            "margin": {"l": 52, "r": 14, "t": 30, "b": 42},
        },
    }
