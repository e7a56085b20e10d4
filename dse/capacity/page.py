"""The page of a capacity question: the answer, latencies over the rate, and all that was tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from dse import words
from dse.capacity.capacity import Capacity
from dse.capacity.sweep import knee_of
from dse.report.document import Section, document, facts, plot, version_of
from dse.report.figures import PALETTE, TEMPLATE, Json, rounded
from dse.report.tables import count, table, text
from simulator import SLO
from simulator.spec.slo import LatencyMetric

if TYPE_CHECKING:
    import pandas as pd

HEIGHT: Final = 420
PERCENTILES: Final = (50, 90, 99)
LATENCIES: Final[tuple[LatencyMetric, ...]] = ("ttft", "tpot", "itl", "e2e", "session")


def render_sweep(table: pd.DataFrame, capacity: Capacity, workload: str) -> str:
    """Return a sweep and a capacity as one self-contained HTML document; the same figures give the same text.

    Parameters
    ----------
    table
        Of :func:`~dse.capacity.sweep.sweep`, with the promises of ``capacity``.
    capacity
        Of the same deployment and load.
    workload
        The load in words.
    """
    payload: Json = {"shared": {"template": TEMPLATE}, "figures": {}}
    knee = knee_of(table)
    unit = f"{capacity.counted}/s"
    sections: list[Section] = [
        ("latencies", "Latencies", _latencies(table, capacity, knee, unit, payload)),
        ("rates", "Rates", _rates(table, capacity.slos, unit)),
    ]
    pairs = [
        ("Deployment", words.row(capacity.deployment)),
        ("Workload", workload),
        ("Promises", "; ".join(map(words.slo_words, capacity.slos)) or "the queue does not grow"),
        ("Sustained", f"{words.number(capacity.rate_rps)} {unit}; above: {capacity.limited_by}"),
        ("Knee", _knee_words(knee, unit)),
        ("Version", f"dse-llm {version_of('dse-llm')}"),
    ]
    return document(
        title="Capacity",
        kicker="Design-space exploration of LLM inference",
        name="Capacity",
        lede="The highest rate within the promises, and latencies on the way there. The requests are the same at every "
        "rate; only the time between them is stretched.",
        about=facts(pairs),
        sections=sections,
        payload=payload,
    )


def _knee_words(knee: float, unit: str) -> str:
    where = "not below the highest rate here" if math.isnan(knee) else f"{words.number(knee)} {unit}"
    return f"{where}: the most rate by median end-to-end latency"


def _latencies(table: pd.DataFrame, capacity: Capacity, knee: float, unit: str, payload: Json) -> str:
    body = "<h2>Latencies over the rate</h2>"
    shown = [metric for metric in LATENCIES if f"{metric}_p50_s" in table and table[f"{metric}_p50_s"].notna().any()]
    for metric in shown:
        slos = [slo for slo in capacity.slos if slo.metric == metric]
        payload["figures"][metric] = latency_figure(table, metric, slos, capacity.rate_rps, knee, unit)
        name = words.METRICS[metric]
        caption = f"{name[0].upper()}{name[1:]}. Solid: sustained rate. Dotted: knee. Dashed: limits of the promises."
        body += plot(metric, f"{name} over the rate; the table below has the figures", caption, height=HEIGHT)
    return body if shown else body + "<p>Every rate is far beyond the capacity.</p>"


def latency_figure(
    table: pd.DataFrame, metric: LatencyMetric, slos: Sequence[SLO], sustained_rps: float, knee_rps: float, unit: str
) -> Json:
    """Return the figure of one latency over the rate: its percentiles, the promises, the sustained rate, the knee.

    Parameters
    ----------
    table
        Of a sweep; of several replications the mean is drawn.
    metric, slos
        The latency and the promises of it.
    sustained_rps, knee_rps
        Rates to mark; 0 and NaN are not.
    unit
        Of the rate.
    """
    mean = table[[name for name in table if str(name).startswith(f"{metric}_p")]].groupby(level="rate_rps").mean()
    rates: list[float] = mean.index.tolist()
    percents = sorted({*map(float, PERCENTILES), *(slo.percentile for slo in slos)})
    known = {f"{percent:g}": f"{metric}_p{percent:g}_s" for percent in percents}
    data: list[Json] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": f"p{percent}",
            "x": rounded(rates),
            "y": rounded(mean[column]),
            "line": {"width": 2, "color": PALETTE[index % len(PALETTE)]},
            "marker": {"size": 6},
            "hovertemplate": f"p{percent} at %{{x:.4g}} {unit}: %{{y:.4g}} s<extra></extra>",
        }
        for index, (percent, column) in enumerate(known.items())
        if column in mean
    ]
    for slo in slos:
        colour = PALETTE[percents.index(slo.percentile) % len(PALETTE)]
        said = escape(f"limit of p{slo.percentile:g}: {words.seconds(slo.limit_s)}")
        data.append(_line([rates[0], rates[-1]], [slo.limit_s] * 2, f"p{slo.percentile:g} limit", colour, "dash", said))
    values = [value for trace in data for value in trace["y"] if value is not None and value > 0]
    low, high = min(values), max(values)
    for rate, name, dash in ((sustained_rps, "sustained", "solid"), (knee_rps, "knee", "dot")):
        if math.isfinite(rate) and rate > 0:
            said = escape(f"{name}: {words.number(rate)} {unit}")
            data.append(_line([rate, rate], [low, high], name, "--ink", dash, said))
    air = 0.04 * math.log10(high / low) + 0.02
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    digits = (1, 2, 5) if high / low > 20 else (1, 2, 3, 4, 5, 7)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
    return {
        "data": data,
        "layout": {
            "template": {"$": "template"},
            "height": HEIGHT,
            "xaxis": {"title": {"text": f"Rate ({unit})"}},
            "yaxis": {
                "type": "log",
                "title": {"text": f"{words.metric_name(metric)} (s)"},
                "range": rounded([math.log10(low) - air, math.log10(high) + air]),
                "tickvals": ticks,
                "ticktext": [f"{tick:,.10g}" for tick in ticks],
            },
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "margin": {"l": 60, "r": 22, "t": 40, "b": 52},
        },
    }


def _line(x: Sequence[float], y: Sequence[float], name: str, colour: str, dash: str, said: str) -> Json:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": rounded(x),
        "y": rounded(y),
        "line": {"width": 1.5, "color": colour, "dash": dash},
        "hovertemplate": f"{said}<extra></extra>",
    }


def _rates(frame: pd.DataFrame, slos: Sequence[SLO], unit: str) -> str:
    several = frame.index.get_level_values("replication").max() > 0
    names = {slo.name: slo for slo in slos}
    shown = [metric for metric in LATENCIES if f"{metric}_p90_s" in frame]
    columns = list(dict.fromkeys([*names, *(f"{metric}_p90_s" for metric in shown)]))
    head = [f"Rate ({unit})", *(["Replication"] if several else []), "Sustained", *map(words.label, columns)]
    head += ["Output tokens/s", "USD/M tokens", "Limited by"]
    rows = []
    for row in frame.reset_index().to_dict("records"):
        cells = [count(row["rate_rps"]), *([count(row["replication"])] if several else [])]
        cells.append(text("yes" if row["holds"] else "no", "good" if row["holds"] else "bad"))
        cells += [text(words.seconds(row.get(name, math.nan)), "number") for name in columns]
        cells += [count(row.get(name, math.nan)) for name in ("output_tokens_per_s", "usd_per_million_output_tokens")]
        cells.append(text(str(row.get("bottleneck", ""))))
        rows.append(cells)
    return "<h2>Rates</h2>" + table("Rates", head, rows, tall=True, quiet=True)
