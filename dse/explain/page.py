"""The page of an explanation: operators of every step as stacked bars, under the chip's roofs, and as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from dse import words
from dse.explain.breakdown import DeploymentBreakdown, PoolBreakdown, ServiceBreakdown
from dse.explain.words import scaled, step_totals, step_words
from dse.report.document import Section, document, facts, plot, version_of
from dse.report.figures import PALETTE, TEMPLATE, Json, rounded
from dse.report.tables import Cell, count, share, table, text
from simulator.performance.explanation import Row, StageRows, StepExplanation

SYMBOLS = {"prefill": "circle", "decode": "diamond", "mixed": "square"}
ENGINE_COLOUR = "--faint"
"""Of rows in which no accelerator works."""


def render_explanation(breakdown: DeploymentBreakdown, source: str = "") -> str:
    """Return an explanation as one self-contained HTML document; the same one gives the same text.

    Parameters
    ----------
    breakdown
        From :func:`dse.explain.explain_deployment`.
    source
        File of the deployment, if there is one.
    """
    payload: Json = {"shared": {"template": TEMPLATE}, "figures": {}}
    sections: list[Section] = []
    for number, pool in enumerate(breakdown.pools):
        name = escape(f"Pool {pool.pool.name}")
        sections.append((f"pool-{number}", name, _pool(number, pool, breakdown, payload)))
    if breakdown.services:
        sections.append(("services", "Services", _services(breakdown.services)))
    asked = breakdown.conditions
    about = facts(
        [
            ("Deployment", source or ", ".join(words.clients(pool.pool) for pool in breakdown.pools)),
            ("Prefill", f"a lone prompt of {asked.prompt_tokens:,} tokens"),
            ("Decode", f"{asked.batch:,} requests with {asked.context_tokens:,} tokens of context each"),
            ("Version", f"dse-llm {version_of('dse-llm')}"),
            *(("Note", note) for note in breakdown.notes),
        ]
    )
    models = dict.fromkeys(pool.engine.model.name for pool in breakdown.pools)
    return document(
        title=f"{', '.join(models)}: where the time of a step goes",
        kicker="Design-space exploration of LLM inference",
        name="Where the time of a step goes",
        lede=", ".join(f"{pool.engine.model.name} on {words.clients(pool.pool)}" for pool in breakdown.pools),
        about=about,
        sections=sections,
        payload=payload,
    )


def _pool(number: int, each: PoolBreakdown, breakdown: DeploymentBreakdown, payload: Json) -> str:
    pool = each.pool
    payload["figures"][f"bars-{number}"] = stacked_bars(each.steps)
    payload["figures"][f"roofs-{number}"] = roofline(each)
    tiles = "".join(
        f"<li><b>{escape(value)}</b><span>{escape(label)}</span></li>"
        for step in each.steps
        for value, label in (
            (words.seconds(step.seconds), step.name),
            (words.percent(step.mfu), f"MFU of {step.name}"),
            (words.percent(step.mbu), f"MBU of {step.name}"),
        )
    )
    bars = plot(
        f"bars-{number}",
        f"Share of every operator in the steps of pool {pool.name}; the tables hold the values",
        "Every bar is a step; grey is the engine's own time and what a pipeline stage waits for the others.",
        height=payload["figures"][f"bars-{number}"]["layout"]["height"],
    )
    roofs = plot(
        f"roofs-{number}",
        f"Roofline of pool {pool.name}: operations a second over operations for each byte; the tables hold the values",
        "One accelerator. Lines: what the datasheet's bandwidth and arithmetic allow. A point below the sloped part is "
        "limited by memory, below a flat one by arithmetic, far below either by launches or tiles. Area: share of the "
        "step. Operators without arithmetic are not shown.",
        height=440,
    )
    parts = [
        f"<h2>Pool {escape(pool.name)}</h2>",
        f'<p class="design-name">{escape(f"{each.engine.model.name} on {words.clients(pool)}, {pool.weights}")}</p>',
        f'<p class="note">Kernels {escape(each.kernels_words)}; engine: {escape(each.engine_words)}.</p>',
        f'<ul class="tiles">{tiles}</ul>',
        f"<h3>Operators</h3>{bars}<h3>Roofline</h3>{roofs}",
    ]
    for step in each.steps:
        parts.append(f"<h3>{escape(step_words(step, breakdown.conditions))}</h3>")
        parts.append(f'<p class="note">{escape(step_totals(step))}</p>')
        for first, last, stage in step.groups:
            which = ""
            if len(step.stages) > 1:
                which = f"pipeline stage {first}" if first == last else f"pipeline stages {first} to {last}"
            parts.append(_operators(step, stage, which or f"Operators of {step.name}", quiet=not which))
    parts += [f'<p class="note">{escape(note)}</p>' for note in each.notes]
    return "".join(parts)


def _scaled(value: float, unit: str) -> Cell:
    return Cell(escape(f"{scaled(value)}{unit}" if value else "–"), value, "number")


def _operators(step: StepExplanation, stage: StageRows, caption: str, *, quiet: bool) -> str:
    rows = [
        (
            text(row.operator),
            Cell(escape(words.seconds(row.seconds)), row.seconds, "number"),
            share(row.seconds / step.seconds),
            _scaled(row.flops, "FLOP"),
            _scaled(row.moved_bytes, "B"),
            _scaled(row.link_bytes, "B"),
            count(row.intensity) if row.intensity and row.flops else Cell("–", 0.0, "number"),
            text(row.bound),
        )
        for row in sorted(stage.rows, key=lambda row: -row.seconds)
    ]
    headings = ("operator", "time", "share", "operations", "memory", "sent", "FLOP/byte", "bound by")
    return table(caption, headings, rows, sortable=True, quiet=quiet)


def _services(services: Sequence[ServiceBreakdown]) -> str:
    rows = [
        (
            text(each.stage.name),
            text(f"{each.service.devices} × {each.service.device}"),
            count(each.service.clients),
            count(each.service.max_batch_requests),
            text("–" if each.quantity == "none" else f"{each.units:,} {each.unit_words}"),
            Cell(escape(words.seconds(each.seconds)), each.seconds, "number"),
            count(each.requests_per_s),
            text(each.bound),
        )
        for each in services
    ]
    headings = ("service", "device", "clients", "batch", "work", "time of a batch", "requests/s", "bound by")
    return f"<h2>Services</h2>{table('A full batch of each service', headings, rows, sortable=True, quiet=True)}"


def _colours(steps: Sequence[StepExplanation]) -> dict[str, str]:
    """Return the colour of every operator: those that take most first."""
    times: dict[str, float] = {}
    for step in steps:
        for row in step.rows:
            if row.kind == "kernel":
                times[row.operator] = times.get(row.operator, 0.0) + row.seconds / step.seconds
    ordered = sorted(times, key=lambda name: -times[name])
    return {name: PALETTE[index % (len(PALETTE) - 1)] for index, name in enumerate(ordered)}


def _said(row: Row, step: StepExplanation) -> str:
    lines = [f"<b>{escape(row.operator)}</b>, {escape(step.name)}"]
    lines.append(f"{words.seconds(row.seconds)}, {words.percent(row.seconds / step.seconds)} of the step")
    if row.flops:
        lines.append(f"{scaled(row.flops)}FLOP, {scaled(row.flops / row.seconds)}FLOP/s")
    if row.moved_bytes:
        lines.append(f"{scaled(row.moved_bytes)}B, {scaled(row.moved_bytes / row.seconds)}B/s")
    return "<br>".join([*lines, f"bound by {row.bound}"])


def _marker(operator: str, colours: dict[str, str]) -> Json:
    """Return how an operator is filled; operators that share a colour differ in their pattern."""
    marker: Json = {"color": colours.get(operator, ENGINE_COLOUR), "line": {"width": 1, "color": "--card"}}
    if operator in colours and list(colours).index(operator) >= len(PALETTE) - 1:
        marker["pattern"] = {"shape": "/"}
    return marker


def stacked_bars(steps: Sequence[StepExplanation]) -> Json:
    """Return the figure of the share of every operator in every step."""
    colours = _colours(steps)
    labels = [f"{step.name}, {words.seconds(step.seconds)}" for step in steps]
    others = dict.fromkeys(row.operator for step in steps for row in step.rows if row.kind != "kernel")
    traces = []
    for name in [*colours, *others]:
        rows = [next((row for row in step.rows if row.operator == name), None) for step in steps]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": escape(name),
                "y": labels,
                "x": rounded(
                    100 * row.seconds / step.seconds if row else 0.0 for row, step in zip(rows, steps, strict=True)
                ),
                "hovertext": [_said(row, step) if row else "" for row, step in zip(rows, steps, strict=True)],
                "hoverinfo": "text",
                "marker": _marker(name, colours),
            }
        )
    return {
        "data": traces,
        "layout": {
            "template": {"$": "template"},
            "barmode": "stack",
            "height": 210 + 62 * len(steps),
            "bargap": 0.35,
            "xaxis": {"range": [0, 100], "ticksuffix": " %", "title": {"text": "share of the step"}},
            "yaxis": {"autorange": "reversed", "ticks": ""},
            "legend": {"orientation": "h", "y": -0.32, "yanchor": "top", "x": 0, "traceorder": "normal"},
            "margin": {"l": 60, "r": 22, "t": 12, "b": 52},
        },
    }


def roofline(each: PoolBreakdown) -> Json:
    """Return the figure of operations a second over operations for each byte, under the chip's roofs."""
    steps = each.steps
    colours = _colours(steps)
    points = [(row, step) for step in steps for row in step.rows if row.flops and row.intensity]
    intensities = [row.intensity for row, _ in points if row.intensity]
    peaks = {
        each.engine.compute_precision: steps[0].peak_flops_per_s,
        "16 bits": steps[0].peak_16bit_flops_per_s,
    }
    if steps[0].peak_flops_per_s == steps[0].peak_16bit_flops_per_s:
        del peaks["16 bits"]
    bandwidth = steps[0].peak_bytes_per_s
    ridges = [peak / bandwidth for peak in peaks.values()]
    low, high = min([*intensities, *ridges]) / 2, max([*intensities, *ridges]) * 3
    traces: list[Json] = []
    for index, (name, peak) in enumerate(peaks.items()):
        ridge = peak / bandwidth
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+text",
                "x": rounded([low, ridge, high]),
                "y": rounded([low * bandwidth / 1e12, peak / 1e12, peak / 1e12]),
                "text": ["", f"{name}: {scaled(peak)}FLOP/s, {scaled(bandwidth)}B/s", ""],
                "textposition": "top left",
                "textfont": {"size": 12},
                "hoverinfo": "skip",
                "showlegend": False,
                "line": {"color": "--ink", "width": 1.5, "dash": "dot" if index else "solid"},
            }
        )
    for step in steps:
        own = [(row, mate) for row, mate in points if mate is step]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": escape(step.name),
                "x": rounded(row.intensity or 0.0 for row, _ in own),
                "y": rounded(row.flops / row.seconds / 1e12 for row, _ in own),
                "hovertext": [_said(row, step) for row, _ in own],
                "hoverinfo": "text",
                "marker": {
                    "symbol": SYMBOLS[step.name],
                    "size": [8 + 26 * math.sqrt(row.seconds / step.seconds) for row, _ in own],
                    "color": [colours[row.operator] for row, _ in own],
                    "opacity": 0.85,
                    "line": {"width": 1.2, "color": "--ink"},
                },
            }
        )
    return {
        "data": traces,
        "layout": {
            "template": {"$": "template"},
            "height": 440,
            "xaxis": {"type": "log", "title": {"text": "operations for each byte of memory"}},
            "yaxis": {"type": "log", "title": {"text": "TFLOP/s of one accelerator"}},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "margin": {"l": 66, "r": 22, "t": 40, "b": 52},
        },
    }
