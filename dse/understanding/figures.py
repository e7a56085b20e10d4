"""Figures of the page of answers, as plain Plotly JSON (see :mod:`dse.report.figures`)."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from dse import words
from dse.report.figures import PALETTE, Json, rounded
from dse.result import StudyResult
from dse.understanding.answers import Slice
from dse.understanding.difference import Difference, order_of
from dse.understanding.sentences import question, signed

if TYPE_CHECKING:
    import pandas as pd

DIMENSIONS = 10
"""Dimensions drawn at most in a figure of importance."""


def importance(table: pd.DataFrame) -> Json:
    """Return the figure of importance: a group of bars for every dimension, a colour for every question."""
    wide = table.pivot_table("importance", "dimension", "question").fillna(0.0)
    first = table.index.get_level_values("question").unique()
    wide = wide.loc[wide.max(axis=1).sort_values(ascending=False, kind="stable").index[:DIMENSIONS], list(first)]
    names = [html.escape(str(name)) for name in wide.index]
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": html.escape(question(str(asked))),
            "y": names,
            "x": rounded(100 * wide[asked]),
            "marker": {"color": PALETTE[place % len(PALETTE)]},
            "hovertemplate": "%{y}: %{x:.1f} %<extra>%{fullData.name}</extra>",
        }
        for place, asked in enumerate(wide.columns)
    ]
    return {
        "data": bars,
        "layout": {
            "template": {"$": "template"},
            "barmode": "group",
            "height": 120 + 16 * len(names) * max(1, len(bars)),
            "xaxis": {"title": {"text": "importance"}, "ticksuffix": " %", "rangemode": "tozero"},
            "yaxis": {"autorange": "reversed", "ticks": ""},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
            "margin": {"l": 60, "r": 22, "t": 40, "b": 52},
        },
    }


def by_value(each: Slice, objective: str) -> Json:
    """Return the figure of a slice by one dimension: best and median of an objective."""
    values = [html.escape(str(value)) for value in each.table.index]
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": kind,
            "x": values,
            "y": rounded(each.table[f"{objective}_{kind}"]),
            "marker": {"size": 11, "symbol": symbol, "color": PALETTE[0]},
            "hovertemplate": f"%{{x}}: %{{y:.4g}}<extra>{kind}</extra>",
        }
        for kind, symbol in (("best", "circle"), ("median", "line-ew-open"))
    ]
    return {
        "data": traces,
        "layout": {
            "template": {"$": "template"},
            "height": 300,
            "xaxis": {"type": "category", "title": {"text": html.escape(each.dimensions[0])}},
            "yaxis": {"title": {"text": words.axis_title(objective)}},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "margin": {"l": 60, "r": 22, "t": 36, "b": 52},
        },
    }


def by_pair(each: Slice) -> Json:
    """Return the heat map of an objective by a pair of dimensions."""
    rows, columns = ([html.escape(str(v)) for v in axis] for axis in (each.table.index, each.table.columns))
    objective = str(each.objective)
    cells = [[words.quantity(objective, float(value)) for value in row] for row in each.table.to_numpy()]
    heat = {
        "type": "heatmap",
        "x": columns,
        "y": rows,
        "z": [rounded(row) for row in each.table.to_numpy()],
        "text": [["" if text.startswith("–") else text for text in row] for row in cells],
        "texttemplate": "%{text}",
        "colorscale": [[0, PALETTE[0]], [1, "#e8edf4"]] if _lower(objective) else [[0, "#e8edf4"], [1, PALETTE[0]]],
        "hovertemplate": "%{y}, %{x}: %{text}<extra></extra>",
        "showscale": False,
    }
    return {
        "data": [heat],
        "layout": {
            "template": {"$": "template"},
            "height": 130 + 34 * len(rows),
            "xaxis": {"type": "category", "title": {"text": html.escape(each.dimensions[1])}},
            "yaxis": {"type": "category", "title": {"text": html.escape(each.dimensions[0])}, "ticks": ""},
            "margin": {"l": 60, "r": 22, "t": 12, "b": 52},
        },
    }


def _lower(objective: str) -> bool:
    return words.better(objective).startswith("lower")


def waterfall(found: Difference, measure: str, result: StudyResult) -> Json:
    """Return how a measure comes from one design's value to the other's, choice by choice."""
    order = order_of(found.effects, measure)
    first, second = (float(found.measures[column][measure]) for column in ("first", "second"))
    changes = [float(found.effects[measure][name]) for name in order]
    texts = [words.quantity(measure, first), *(signed(measure, c) for c in changes), words.quantity(measure, second)]
    good, bad = (
        ("decreasing", "increasing")
        if measure not in result.spec.objectives or _lower(measure)
        else (
            "increasing",
            "decreasing",
        )
    )
    bars = {
        "type": "waterfall",
        "x": ["first", *(html.escape(name) for name in order), "second"],
        "y": rounded([first, *changes, second]),
        "measure": ["absolute", *("relative" for _ in order), "total"],
        "text": texts,
        "textposition": "outside",
        "cliponaxis": False,
        good: {"marker": {"color": PALETTE[2]}},
        bad: {"marker": {"color": PALETTE[6]}},
        "totals": {"marker": {"color": PALETTE[0]}},
        "connector": {"line": {"color": "--faint", "width": 1}},
        "hovertemplate": "%{x}: %{text}<extra></extra>",
    }
    return {
        "data": [bars],
        "layout": {
            "template": {"$": "template"},
            "height": 340,
            "xaxis": {"type": "category", "ticks": ""},
            "yaxis": {"title": {"text": words.axis_title(measure)}, "rangemode": "tozero"},
            "margin": {"l": 60, "r": 22, "t": 30, "b": 80},
        },
    }
