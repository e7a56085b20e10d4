"""Figures as plain Plotly JSON.

Two short forms keep the file small and let it follow the reader's colours; the page's script resolves them:

- a string that begins with ``--`` is a colour of the style sheet;
- ``{"$": key}`` is the shared value of that key, ``{"$": key, "at": [...]}`` those of its elements.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from dse import words
from dse.evaluation import Evaluation
from dse.objectives import direction_of
from dse.report.chosen import LEVELS, Chosen, Named, latency_curve
from simulator import SLO
from simulator.spec.slo import LatencyMetric

Json = dict[str, Any]

PALETTE = ("#2f7bd6", "#d9620a", "#0a9a70", "#b457b0", "#a88a00", "#1596ab", "#d6455d", "#77808e")
SYMBOLS = {"colocated": "circle", "disaggregated": "diamond"}
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
DRAWN = 1500
"""Designs drawn at most of each kind: feasible, infeasible."""

_AXIS: Json = {
    "gridcolor": "--grid",
    "linecolor": "--line",
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": "--line",
    "automargin": True,
    "title": {"font": {"size": 13}},
}
TEMPLATE: Json = {
    "layout": {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "color": "--muted", "size": 13},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "margin": {"l": 56, "r": 22, "t": 12, "b": 48},
        "hoverlabel": {"bgcolor": "--card", "bordercolor": "--line", "font": {"color": "--ink"}, "align": "left"},
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "--faint", "activecolor": "--ink", "orientation": "v"},
        "legend": {"font": {"size": 13}, "title": {"font": {"size": 13}}},
        "colorway": list(PALETTE),
    }
}


def latencies(chosen: Chosen) -> tuple[LatencyMetric, ...]:
    """Return the latencies that requests of the study have."""
    several = chosen.result.requests.sessions is not None
    return ("ttft", "tpot", "itl", "e2e", *(("session",) if several else ()))


def rounded(values: Iterable[float]) -> list[float | None]:
    """Return numbers with five significant digits; what is not finite leaves a gap."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]


def hover(tag: str, evaluation: Evaluation, chosen: Chosen) -> str:
    """Return the whole design, for the box at the pointer."""
    deployment, spec = chosen.result.deployment(evaluation), chosen.result.spec
    lines = [f"<b>{html.escape(f'{tag} · ' if tag else '')}{html.escape(words.short(deployment))}</b>"]
    several = len(deployment.pools) > 1
    lines += [html.escape(f"{pool.name + ': ' if several else ''}{words.batching(pool)}") for pool in deployment.pools]
    lines.append(html.escape(f"{words.spoken(deployment.router)}, KV in {words.precision(deployment, 'kv')}"))
    lines += [html.escape(words.served(each)) for each in deployment.services if each.stage in spec.space.services]
    lines += [
        html.escape(f"{words.label(name)}: {words.quantity(name, value)}")
        for name, value in zip(spec.objectives, evaluation.objectives, strict=True)
    ]
    if evaluation.feasible:
        lines.append(html.escape(f"limited by {evaluation.bottleneck}"))
    else:
        broken = [name for name, violation in evaluation.constraints.items() if violation > 0]
        lines.append(html.escape(f"breaks {', '.join(words.label(name) for name in broken)}"))
    return "<br>".join(lines)


def thinned(evaluations: Sequence[Evaluation], keep: set[int]) -> list[Evaluation]:
    """Return at most about :data:`DRAWN` designs in equal steps, and all whose identity is in ``keep``."""
    step = max(1, math.ceil(len(evaluations) / DRAWN))
    return [e for i, e in enumerate(evaluations) if i % step == 0 or id(e) in keep]


class Drawn:
    """The designs in the scatter figures, in an order that indexes their hover texts."""

    def __init__(self, chosen: Chosen) -> None:
        self.chosen = chosen
        result, named = chosen.result, set(chosen.tags)
        infeasible = [e for e in result.simulated if not e.feasible]
        self.feasible = thinned(result.feasible, named)
        self.infeasible = thinned(infeasible, named)
        self.left_out = len(result.simulated) - len(self.feasible) - len(self.infeasible)
        everything = [*self.feasible, *self.infeasible]
        self.index = {id(e): i for i, e in enumerate(everything)}
        self.texts = [hover(chosen.tags.get(id(e), ""), e, chosen) for e in everything]

    def about(self, evaluations: Sequence[Evaluation]) -> Json:
        """Return the parts of a trace that say which design a point is."""
        at = [self.index[id(e)] for e in evaluations]
        tags = [self.chosen.tags.get(id(e), "") for e in evaluations]
        return {"hovertext": {"$": "designs", "at": at}, "hoverinfo": "text", "customdata": tags}


def _is_log(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) / min(values) > 8


def _log_ticks(low: float, high: float) -> Json:
    """Return ticks at 1, 2 and 5 of every decade from ``10**low`` to ``10**high`` and of two more on either side.

    Plotly alone would write 20 as a small 2.
    """
    digits = (1, 2, 5) if high - low < 2.2 else (1,)
    decades = range(math.floor(low) - 2, math.ceil(high) + 3)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
    return {"tickvals": ticks, "ticktext": [f"{tick:,.10g}" for tick in ticks]}


def _axis(name: str, values: Sequence[float], *, log: bool | None = None) -> Json:
    """Return an axis that spans the values with a little air; logarithmic if they span a wide range."""
    axis: Json = {"title": {"text": words.axis_title(name)}}
    log = _is_log(values) if log is None else log
    if not values:
        return axis
    low, high = min(values), max(values)
    if log:
        low, high = math.log10(low), math.log10(high)
        axis |= {"type": "log", **_log_ticks(low, high)}
    air = 0.06 * (high - low) or 0.1 * (abs(high) or 1.0)
    return axis | {"range": rounded([low - air, high + air])}


def _colour_key(evaluations: Sequence[Evaluation]) -> tuple[str, dict[int, str]]:
    """Return what colours mean and the colour group of each design: the accelerator that decodes, else the layout."""
    groups = {}
    for e in evaluations:
        choices = e.design
        groups[id(e)] = str(choices.get("decode.accelerator", choices.get("main.accelerator")))
    if len(set(groups.values())) > 1:
        return "Decode on", groups
    return "Layout", {id(e): e.design.text("layout") for e in evaluations}


def _points(drawn: Drawn, evaluations: Sequence[Evaluation], x: int, y: int) -> Json:
    """Return a trace of designs by two objectives; its marker is the caller's task."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": rounded(e.objectives[x] for e in evaluations),
        "y": rounded(e.objectives[y] for e in evaluations),
        **drawn.about(evaluations),
    }


def _symbols(evaluations: Sequence[Evaluation], suffix: str = "") -> list[str]:
    """Return the symbol of each design; with several LLM stages that of the later of SYMBOLS among their layouts."""
    layouts = [e.design.text("layout").split("+") for e in evaluations]
    return [next(SYMBOLS[name] for name in reversed(SYMBOLS) if name in those) + suffix for those in layouts]


def _feasible(drawn: Drawn, groups: dict[int, str], x: int, y: int) -> list[Json]:
    """Return the traces of feasible designs: by group the dominated ones, pale, and above all of them the front."""
    on_front = {id(design.evaluation) for design in drawn.chosen.front}
    below: list[Json] = []
    above: list[Json] = []
    for index, group in enumerate(sorted(set(groups.values()))):
        members = [e for e in drawn.feasible if groups[id(e)] == group]
        strong, pale = ([e for e in members if (id(e) in on_front) is front] for front in (True, False))
        common = {"name": html.escape(group), "legendgroup": html.escape(group)}
        colour = PALETTE[index % len(PALETTE)]
        if pale:
            marker = {"symbol": _symbols(pale), "color": colour, "size": 7, "opacity": 0.5}
            below.append({**_points(drawn, pale, x, y), **common, "marker": marker, "showlegend": not strong})
        if strong:
            outline = {"width": 1.2, "color": "--ink"}
            marker = {"symbol": _symbols(strong), "color": colour, "size": 11, "line": outline}
            above.append({**_points(drawn, strong, x, y), **common, "marker": marker})
    return below + above


def scatter(drawn: Drawn, x: int, y: int, *, line: bool) -> Json:
    """Return the figure of two objectives: feasible designs by colour, infeasible ones hollow, the front, the knee."""
    chosen = drawn.chosen
    names = chosen.result.spec.objectives
    meaning, groups = _colour_key([*drawn.feasible, *drawn.infeasible])
    traces: list[Json] = []
    if drawn.infeasible:
        outline = {"symbol": _symbols(drawn.infeasible, "-open"), "size": 7, "color": "--faint", "line": {"width": 1.2}}
        traces.append({**_points(drawn, drawn.infeasible, x, y), "name": "breaks an SLO", "marker": outline})
    if chosen.front and line:
        front = _points(drawn, [design.evaluation for design in chosen.front], x, y)
        style = {"shape": "hv", "width": 1.5, "color": "--ink", "dash": "dot"}
        traces.append({**front, "mode": "lines", "name": "front", "line": style, "hoverinfo": "skip"})
    traces += _feasible(drawn, groups, x, y)
    marked = chosen.recommended or (chosen.nearest[0] if chosen.nearest else None)
    if marked:
        verdict = "recommended" if marked.recommended else "least violating"
        star = {"symbol": "star", "size": 19, "color": "--star", "line": {"width": 1.2, "color": "--ink"}}
        traces.append(
            {
                **_points(drawn, [marked.evaluation], x, y),
                "mode": "markers+text",
                "name": verdict,
                "showlegend": False,
                "text": [f"<b>{marked.tag}</b> {verdict}"],
                "textposition": "top right",
                "cliponaxis": False,
                "textfont": {"color": "--ink", "size": 14},
                "marker": star,
            }
        )
    return {
        "data": traces,
        "layout": {
            "template": {"$": "template"},
            "height": 520,
            "xaxis": _axis(names[x], _extent(drawn, x)),
            "yaxis": _axis(names[y], _extent(drawn, y)),
            "legend": {
                "orientation": "h",
                "y": 1.02,
                "yanchor": "bottom",
                "x": 0,
                "title": {"text": f"{meaning}: " if drawn.feasible else ""},
            },
            "margin": {"l": 60, "r": 34, "t": 40, "b": 52},
        },
    }


def _extent(drawn: Drawn, column: int) -> list[float]:
    """Return the values that an axis must show: those of feasible designs, or of the better infeasible ones."""
    values = [e.objectives[column] for e in drawn.feasible or drawn.infeasible]
    values = [value for value in values if math.isfinite(value)]
    if drawn.feasible:
        return values
    # Hopeless designs must not squeeze the interesting ones into a corner.
    maximised = direction_of(drawn.chosen.result.spec.objectives[column]) == "maximize"
    values.sort(reverse=maximised)
    marked = [design.evaluation.objectives[column] for design in drawn.chosen.nearest]
    kept = values[: max(5, int(0.75 * len(values)))]
    return [*kept, *(value for value in marked if math.isfinite(value))]


def by_trial(drawn: Drawn) -> Json:
    """Return the figure of a single objective: its value by trial, and the best so far."""
    result = drawn.chosen.result
    name = result.spec.objectives[0]
    figure = scatter(drawn, 0, 0, line=False)
    trial = {id(e): index for index, e in enumerate(result.simulated, 1)}
    place = {drawn.index[key]: count for key, count in trial.items() if key in drawn.index}
    for trace in figure["data"]:
        trace["x"] = [place[at] for at in trace["hovertext"]["at"]]  # where y is missing, nothing is drawn
    wins = min if direction_of(name) == "minimize" else max
    best: list[tuple[int, float]] = []
    for e in result.simulated:
        if e.feasible and (not best or wins(e.objectives[0], best[-1][1]) != best[-1][1]):
            best.append((trial[id(e)], e.objectives[0]))
    if best:
        best.append((len(result.simulated), best[-1][1]))
        line = {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": [point[0] for point in best],
            "y": rounded(point[1] for point in best),
            "line": {"shape": "hv", "width": 1.5, "color": "--ink", "dash": "dot"},
            "hoverinfo": "skip",
        }
        figure["data"].insert(0, line)
    figure["layout"]["xaxis"] = {"title": {"text": "Simulated design"}, "rangemode": "tozero"}
    return figure


def front_figures(drawn: Drawn) -> dict[str, tuple[str, Json]]:
    """Return the figures of the front by id, each with its title: one, or one for each pair of objectives."""
    names = drawn.chosen.result.spec.objectives
    if len(names) == 1:
        return {"front": (words.label(names[0]), by_trial(drawn))}
    pairs = list(combinations(range(len(names)), 2))
    return {
        "front" if len(pairs) == 1 else f"front-{x}-{y}": (
            f"{words.label(names[y])} over {words.label(names[x])}",
            scatter(drawn, x, y, line=len(names) == 2),
        )
        for x, y in pairs
    }


def hypervolume(chosen: Chosen) -> Json:
    """Return the figure of the hypervolume over trials; only its steps are stored."""
    shares = chosen.result.hypervolume
    steps = np.flatnonzero(np.diff(shares, prepend=-1.0))
    steps = np.union1d(steps, [len(shares) - 1])
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "x": [int(step) + 1 for step in steps],
                "y": rounded(float(shares[step]) * 100 for step in steps),
                "line": {"shape": "hv", "width": 2, "color": PALETTE[0]},
                "fill": "tozeroy",
                "fillcolor": "rgba(47,123,214,0.12)",
                "hovertemplate": "after %{x} simulated designs: %{y:.2f} %<extra></extra>",
            }
        ],
        "layout": {
            "template": {"$": "template"},
            "height": 300,
            "xaxis": {"title": {"text": "Simulated designs"}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": "Hypervolume (% of the box)"}, "rangemode": "tozero"},
        },
    }


def curve_key(design: Named, metric: str) -> str:
    """Return the key of a design's latency curve among the shared values."""
    return f"{design.tag}-{metric}"


def curves(chosen: Chosen) -> Json:
    """Return the latency curves of all shown designs by key, in seconds; None if no request has the latency."""
    shared: Json = {"levels": rounded(100 * level for level in LEVELS)}
    for design in chosen.shown:
        for metric in latencies(chosen):
            curve = latency_curve(chosen.simulation(design), metric)
            shared[curve_key(design, metric)] = None if curve is None else rounded(curve)
    return shared


def _limit(slo: SLO) -> Json:
    """Return the line of an SLO's limit, with a ring at its percentile that the curve must pass above."""
    said = html.escape(f"limit: {slo.percentile:g} % within {words.seconds(slo.limit_s)}")
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": f"p{slo.percentile:g} limit",
        "x": rounded([slo.limit_s] * 3),
        "y": [0, slo.percentile, 100],
        "line": {"width": 1.5, "color": "--bad", "dash": "dash"},
        "marker": {"size": [0, 9, 0], "symbol": "circle-open", "line": {"width": 2}, "opacity": [0, 1, 0]},
        "hovertemplate": f"{said}<extra></extra>",
    }


def latency(chosen: Chosen, design: Named, metric: str, span: tuple[float, float]) -> Json:
    """Return the distribution of one latency of a design, beside the recommended one, with SLO limits.

    ``span`` holds the least and greatest latency of all shown designs, so that the figures can be compared.
    """
    traces: list[Json] = []
    best = chosen.recommended
    if best and not design.recommended:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": best.tag,
                "x": {"$": curve_key(best, metric)},
                "y": {"$": "levels"},
                "line": {"width": 1.3, "color": "--faint"},
                "hoverinfo": "skip",
            }
        )
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": design.tag,
            "x": {"$": curve_key(design, metric)},
            "y": {"$": "levels"},
            "line": {"width": 2.2, "color": PALETTE[0]},
            "hovertemplate": "%{y:.4g} % within %{x:.4g} s<extra></extra>",
        }
    )
    traces += [_limit(slo) for slo in chosen.result.spec.slos if slo.metric == metric]
    low, high = math.log10(span[0]), math.log10(span[1])
    air = 0.04 * (high - low) + 0.02
    return {
        "data": traces,
        "layout": {
            "template": {"$": "template"},
            "height": 230,
            "showlegend": False,
            "xaxis": {
                "type": "log",
                "title": {"text": "seconds"},
                "range": rounded([low - air, high + air]),
                **_log_ticks(low, high),
            },
            "yaxis": {"range": [0, 101], "ticksuffix": " %", "dtick": 25},
            "margin": {"l": 52, "r": 14, "t": 8, "b": 42},
        },
    }


def latency_spans(chosen: Chosen, shared: Json) -> dict[str, tuple[float, float]]:
    """Return the least and greatest latency to draw of each metric, over all shown designs and limits."""
    spans: dict[str, tuple[float, float]] = {}
    for metric in latencies(chosen):
        limits = [slo.limit_s for slo in chosen.result.spec.slos if slo.metric == metric]
        keys = (curve_key(design, metric) for design in chosen.shown)
        points = [x for key in keys for x in shared[key] or () if x is not None and x > 0]
        values = [*points, *limits] or [0.1, 1.0]
        spans[metric] = (min(values), max(values))
    return spans
