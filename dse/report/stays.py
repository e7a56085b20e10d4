"""Where requests of the recommended design spend their time: the waterfall as a figure and as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

from dse import words
from dse.report.chosen import Chosen, Named
from dse.report.document import plot
from dse.report.figures import PALETTE, Json, rounded
from dse.report.tables import figure, share, table, text
from dse.report.waterfall import StageTime, waterfall

BROAD = 20
"""Letters of a line beside the figure."""


def section(chosen: Chosen, design: Named, payload: Json) -> str:
    """Return the HTML of the waterfall of a design, one for each of the study's workloads."""
    body = (
        f"<h2>Latency, stage by stage</h2><p>Mean time of the requests that {design.tag} served, in the order of "
        "their way. The stages add up to the mean end-to-end latency.</p>"
    )
    for place, case in enumerate(chosen.cases):
        stays = waterfall(chosen.simulation(design, place))
        several = len(chosen.cases) > 1
        body += f"<h3>Workload {escape(case.name)}</h3>" if several else ""
        if not stays:
            body += "<p>No request was served.</p>"
            continue
        key = f"waterfall-{case.name}" if several else "waterfall"
        payload["figures"][key] = _figure(stays)
        about = f"Mean time at each stage of {design.tag}; the table below holds the values"
        body += plot(key, about, height=_height(stays)) + _table(design, stays, case.name if several else "")
    return body


def longest(stays: Sequence[StageTime]) -> StageTime:
    """Return the stage at which requests spend most time."""
    return max(stays, key=lambda stay: stay.mean_s)


def total_s(stays: Sequence[StageTime]) -> float:
    """Return the mean end-to-end latency."""
    return sum(stay.mean_s for stay in stays)


def _height(stays: Sequence[StageTime]) -> int:
    return 100 + 38 * len(stays)


def _figure(stays: Sequence[StageTime]) -> Json:
    labels = ["<br>".join(textwrap.wrap(escape(stay.label), BROAD)) for stay in stays]
    starts = [sum(stay.mean_s for stay in stays[:place]) for place in range(len(stays))]
    waiting = [stay.waiting_mean_s for stay in stays]
    working = [stay.mean_s - stay.waiting_mean_s for stay in stays]
    common = {"type": "bar", "orientation": "h", "y": labels}
    return {
        "data": [
            {
                **common,
                "name": "waiting",
                "base": rounded(starts),
                "x": rounded(waiting),
                "marker": {"color": PALETTE[1]},
                "hovertemplate": "%{y}: %{x:.4g} s waiting<extra></extra>",
            },
            {
                **common,
                "name": "served",
                "base": rounded(start + wait for start, wait in zip(starts, waiting, strict=True)),
                "x": rounded(working),
                "marker": {"color": PALETTE[0]},
                "hovertemplate": "%{y}: %{x:.4g} s served<extra></extra>",
            },
        ],
        "layout": {
            "template": {"$": "template"},
            "height": _height(stays),
            "barmode": "overlay",
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
            "meta": {"x": "mean seconds", "y": "stage"},
            "xaxis": {"title": {"text": "mean seconds since arrival"}, "rangemode": "tozero"},
            "yaxis": {"autorange": "reversed"},
            "margin": {"l": 52, "r": 14, "t": 30, "b": 42},
        },
    }


def _table(design: Named, stays: Sequence[StageTime], workload: str) -> str:
    whole = total_s(stays)
    rows = [
        [
            text(stay.label),
            figure("e2e_p50_s", stay.mean_s),
            share(stay.mean_s / whole),
            figure("e2e_p50_s", stay.waiting_mean_s),
            text("–") if stay.p99_s is None else figure("e2e_p99_s", stay.p99_s),
        ]
        for stay in stays
    ]
    waiting = sum(stay.waiting_mean_s for stay in stays)
    end = [text("End to end", "strong"), figure("e2e_p50_s", whole), share(1.0), figure("e2e_p50_s", waiting)]
    rows.append([*end, text("–")])
    where = f" with {workload}" if workload else ""
    head = ("Stage", "Mean", "Of the whole", "Of it waiting", "p99 of those that pass")
    return table(f"Time of requests of {design.tag}{where}, stage by stage", head, rows)


def said(chosen: Chosen, design: Named) -> str:
    """Return in a sentence where most time goes."""
    parts = []
    for place, case in enumerate(chosen.cases):
        stays = waterfall(chosen.simulation(design, place))
        if not stays:
            continue
        most, whole = longest(stays), total_s(stays)
        where = f" with {case.name}" if len(chosen.cases) > 1 else ""
        parts.append(
            f"{words.seconds(whole)} on average from end to end{where}, {words.percent(most.mean_s / whole)} of it "
            f"{most.label}"
        )
    return f"{'; '.join(parts)}." if parts else "No request was served."
