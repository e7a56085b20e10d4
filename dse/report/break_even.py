"""At which price of each accelerator another design would be recommended, and which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from dse import words
from dse.evaluation import Evaluation
from dse.report.chosen import Chosen
from dse.report.document import plot
from dse.report.figures import PALETTE, Json, rounded
from dse.report.tables import Cell, figure, table, text
from dse.understanding.prices import LEAST_FACTOR, MOST_FACTOR, Contenders, break_even, depends_on_prices

MOST_ONE_BY_ONE = 300
"""Designs that are priced one by one, where prices also decide what is allowed: a second or two for each type."""
LABEL_CHARACTERS = 26
"""Of an accelerator's name beside the figure; those of hypothetical ones hold all that differs."""


@dataclass(frozen=True)
class Crossing:
    """A price from which on another design is recommended.

    Attributes
    ----------
    usd_per_hour
        Of one accelerator.
    recommended
        That design; None if nothing is feasible then.
    """

    usd_per_hour: float
    recommended: Evaluation | None


@dataclass(frozen=True)
class BreakEven:
    """What an accelerator costs today, USD per hour, and the nearest prices under and over it that change the answer.

    None where no price from a tenth to ten times today's does.
    """

    device: str
    usd_per_hour: float
    below: Crossing | None
    above: Crossing | None


def break_evens(chosen: Chosen) -> tuple[BreakEven, ...]:
    """Return the break-even prices of the accelerators that feasible designs use, without any simulation.

    Empty if prices do not matter, or :data:`MOST_ONE_BY_ONE` designs and more would have to be looked at one by one.

    Raises
    ------
    SpecError
        If the run is of a version that did not note its devices.
    """
    if not depends_on_prices(chosen.result):
        return ()
    contenders = Contenders(chosen.result)
    if contenders.scan is None and len(contenders.evaluations) > MOST_ONE_BY_ONE:
        return ()
    rows = break_even(chosen.result).reset_index().to_dict("records")
    return tuple(
        BreakEven(row["device"], row["usd_per_hour"], _crossing(chosen, row, "below"), _crossing(chosen, row, "above"))
        for row in rows
    )


def _crossing(chosen: Chosen, row: dict[Any, Any], side: str) -> Crossing | None:
    import pandas as pd

    if pd.isna(row[side]):
        return None
    number = row[f"trial_{side}"]
    return Crossing(row[side], None if pd.isna(number) else chosen.result.evaluations[int(number)])


def change(factor: float) -> str:
    """Return a factor as a change in percent."""
    return f"{'+' if factor >= 1 else '−'}{words.percent(round(abs(factor - 1), 9)).replace('.0 %', ' %')}"


def nearest_said(chosen: Chosen, rows: Sequence[BreakEven]) -> str:
    """Return in a sentence which price is nearest to changing the answer; empty if nothing is known."""
    if not rows:
        return ""
    found = [
        (max(ratio, 1 / ratio), row, side, crossing)
        for row in rows
        for side, crossing in (("below", row.below), ("above", row.above))
        if crossing and (ratio := crossing.usd_per_hour / row.usd_per_hour)
    ]
    if not found:
        return "No price of one accelerator from a tenth to ten times today's would change the recommendation."
    _, row, side, crossing = min(found, key=lambda each: each[0])
    other = f"{chosen.name_of(crossing.recommended)} is recommended" if crossing.recommended else "nothing is feasible"
    price = words.quantity("usd_per_hour", crossing.usd_per_hour)
    changed = change(crossing.usd_per_hour / row.usd_per_hour)
    return f"The nearest break-even: with one {row.device} {side} {price} per hour ({changed}), {other}."


def break_even_html(chosen: Chosen, rows: Sequence[BreakEven], payload: Json) -> str:
    """Return the HTML of break-even prices: figure and table; empty if nothing is known."""
    if not rows:
        return ""
    height = 120 + 34 * len(rows)
    payload["figures"]["break-even"] = _figure(rows, height)
    about = "Prices of one accelerator at which the recommendation stays; the table below holds the values"
    caption = (
        "Bar: prices of one accelerator, all others as today, at which the same design is recommended, from a tenth to "
        "ten times today's. Diamond: today's."
    )
    note = (
        "Break-even: the price under or over which another design is recommended, all other prices as today; “–” if "
        "none from a tenth to ten times today's does it."
    )
    return (
        plot("break-even", about, caption, height=height)
        + _table(chosen, rows)
        + f'<p class="note">{escape(note)} <code>dse why</code> says the same.</p>'
    )


def _table(chosen: Chosen, rows: Sequence[BreakEven]) -> str:
    def side(row: BreakEven, crossing: Crossing | None) -> list[Cell]:
        if crossing is None:
            return [text("–", "number"), text("–", "number"), text("–", "long")]
        best = crossing.recommended
        return [
            figure("usd_per_hour", crossing.usd_per_hour),
            text(change(crossing.usd_per_hour / row.usd_per_hour), "number"),
            text(chosen.name_of(best) if best else "nothing feasible", "long"),
        ]

    cells = [
        [text(row.device), figure("usd_per_hour", row.usd_per_hour), *side(row, row.below), *side(row, row.above)]
        for row in rows
    ]
    head = ("Accelerator", "One costs per hour", "Below", "Change", "Recommended then")
    return table("Break-even prices of each accelerator", [*head, "Above", "Change", "Recommended then"], cells)


def _figure(rows: Sequence[BreakEven], height: int) -> Json:
    names = [row.device for row in rows]
    low = [row.below.usd_per_hour if row.below else row.usd_per_hour * LEAST_FACTOR for row in rows]
    high = [row.above.usd_per_hour if row.above else row.usd_per_hour * MOST_FACTOR for row in rows]
    bars = {
        "type": "bar",
        "orientation": "h",
        "name": "the same design is recommended",
        "base": rounded(low),
        "x": rounded(end - start for start, end in zip(low, high, strict=True)),
        "y": names,
        "marker": {"color": PALETTE[0]},
        "hovertemplate": "%{y}: from %{base:.3g} USD per hour<extra></extra>",
    }
    today = {
        "type": "scatter",
        "mode": "markers",
        "name": "today",
        "x": rounded(row.usd_per_hour for row in rows),
        "y": names,
        "marker": {"color": "--ink", "symbol": "diamond", "size": 11},
        "hovertemplate": "%{y}: %{x:.3g} USD per hour today<extra></extra>",
    }
    short = [name if len(name) <= LABEL_CHARACTERS else f"{name[: LABEL_CHARACTERS - 1]}…" for name in names]
    return {
        "data": [bars, today],
        "layout": {
            "template": {"$": "template"},
            "height": height,
            "showlegend": True,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "meta": {"x": "USD per hour (bars: how far they reach, from the next column on)", "y": "accelerator"},
            "xaxis": {"title": {"text": "USD per hour of one"}, "type": "log", "dtick": "D2"},
            "yaxis": {"autorange": "reversed", "tickvals": names, "ticktext": short},
            "margin": {"l": 52, "r": 14, "t": 30, "b": 42},
        },
    }
