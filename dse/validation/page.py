"""The page of a validation: predicted against measured, errors by group, the worst cases."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from html import escape
from math import log10
from typing import TYPE_CHECKING, Final

from dse import words
from dse.report.document import document, facts, plot, version_of
from dse.report.figures import PALETTE, TEMPLATE, Json, rounded
from dse.report.tables import Cell, count, table, text
from dse.validation.errors import errors, not_simulated, worst_cases
from dse.validation.metrics import metric_label, metric_value, ordered

if TYPE_CHECKING:
    import pandas as pd

HEIGHT: Final = 560
BANDS: Final = ((0.0, "solid", "predicted as measured"), (10.0, "dash", "± 10 %"), (20.0, "dot", "± 20 %"))
WORST: Final = 15


def render_validation(frame: pd.DataFrame, by: Sequence[str], sources: Sequence[str]) -> str:
    """Return a comparison as one self-contained HTML document; the same comparison gives the same text.

    Parameters
    ----------
    frame
        Of :func:`~dse.validation.errors.compare`.
    by
        Labels to group by; points are coloured by the first that has several values.
    sources
        Where the measurements come from.
    """
    payload: Json = {"shared": {"template": TEMPLATE}, "figures": {}}
    failed = not_simulated(frame)
    runs = len(frame["run"].unique())
    sections = [
        ("figures", "Predicted and measured", _figures(frame, by, payload)),
        ("errors", "Errors", _errors(frame, by)),
        ("worst", "Worst cases", _worst(frame)),
    ]
    if failed:
        sections.append(("failed", "Not simulated", _failed(failed)))
    about = facts(
        [
            ("Measured", "; ".join(sources)),
            ("Runs", f"{words.plural(runs, 'run')}, {len(failed)} of them could not be simulated"),
            ("Version", f"dse-llm {version_of('dse-llm')}"),
        ]
    )
    return document(
        title="Validation: predicted and measured",
        kicker="Design-space exploration of LLM inference",
        name="Validation",
        lede="What the simulator predicts of runs that were measured.",
        about=about,
        sections=sections,
        payload=payload,
    )


def _figures(frame: pd.DataFrame, by: Sequence[str], payload: Json) -> str:
    known = frame[frame["error_percent"].notna()]
    body = "<h2>Predicted and measured</h2>"
    metrics = ordered(known["metric"])
    if not metrics:
        return body + "<p>No run could be simulated.</p>"
    colour = next((label for label in by if len(known[label].unique()) > 1), None)
    options = "".join(f'<option value="{metric}">{escape(metric_label(metric))}</option>' for metric in metrics)
    body += (
        '<div class="pick"><label for="metric">Metric</label>'
        f'<select class="switch" id="metric" autocomplete="off">{options}</select></div>'
    )
    caption = "Each point is a run; above the solid line the simulator says more than was measured."
    for metric in metrics:
        key = f"front-{metric}"
        payload["figures"][key] = _scatter(known[known["metric"] == metric], metric, colour)
        label = f"Predicted against measured {metric_label(metric)}; the table of errors holds the summary"
        body += f'<div data-group="metric" data-panel="{metric}">{plot(key, label, caption, height=HEIGHT)}</div>'
    return body


def _scatter(part: pd.DataFrame, metric: str, colour: str | None) -> Json:
    """Return the figure of one metric, on logarithmic axes."""
    both = [*part["measured"], *part["predicted"].where(part["predicted"] > 0, part["measured"])]
    low, high = min(both) / 1.3, max(both) * 1.3
    data: list[Json] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "legendgroup": name,
            "showlegend": factor >= 1,
            "x": rounded((low, high)),
            "y": rounded((low * factor, high * factor)),
            "line": {"dash": dash, "width": 1.2, "color": "--faint"},
            "hoverinfo": "skip",
        }
        for band, dash, name in BANDS
        for factor in ((1.0,) if band == 0 else (1 + band / 100, 1 - band / 100))
    ]
    groups = (
        [("runs", part)] if colour is None else [(str(key), each) for key, each in part.groupby(colour, sort=False)]
    )
    for index, (name, each) in enumerate(groups):
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": rounded(each["measured"]),
                "y": rounded(each["predicted"]),
                "marker": {"size": 9, "opacity": 0.8, "color": PALETTE[index % len(PALETTE)]},
                "hovertext": [_hover(row, metric) for row in each.to_dict("records")],
                "hoverinfo": "text",
            }
        )
    span = [log10(low), log10(high)]
    said = metric_label(metric, unit=True)
    return {
        "data": data,
        "layout": {
            "template": {"$": "template"},
            "height": HEIGHT,
            "xaxis": {"type": "log", "tickformat": "~g", "range": span, "title": {"text": f"Measured {said}"}},
            "yaxis": {"type": "log", "tickformat": "~g", "range": span, "title": {"text": f"Predicted {said}"}},
            "legend": {"orientation": "h", "y": 1.08},
        },
    }


def _hover(row: Mapping[Hashable, object], metric: str) -> str:
    error = float(str(row["error_percent"]))
    values = (metric_value(metric, float(str(row[name]))) for name in ("measured", "predicted"))
    measured, predicted = values
    return (
        f"<b>{escape(str(row['run']))}</b><br>measured {escape(measured)}<br>predicted {escape(predicted)} "
        f"({error:+.1f} %)"
    )


def _percent(value: float, *, signed: bool = False) -> Cell:
    said = f"{value:+.1f} %" if signed else f"{value:.1f} %"
    return Cell(said, value, "number")


def _errors(frame: pd.DataFrame, by: Sequence[str]) -> str:
    head = ["metric", "runs", "median", "mean", "bias", "90th percentile", "farthest off", "its error"]
    parts = [
        "<h2>Errors</h2>",
        '<p class="note">Of absolute percentage errors: median, mean and 90th percentile. Bias: the median of signed '
        "errors; above 0 the simulator says more than was measured.</p>",
        table("All runs", head, [_error_row(row, ()) for row in _sorted(errors(frame))]),
    ]
    for label in by:
        if len(frame[label].unique()) > 1:
            rows = [_error_row(row, (label,)) for row in _sorted(errors(frame, [label]))]
            parts.append(table(f"By {label}", [head[0], label, *head[1:]], rows, sortable=True, tall=len(rows) > 20))
    return "".join(parts)


def _sorted(found: pd.DataFrame) -> list[dict[str, object]]:
    order = {metric: place for place, metric in enumerate(ordered(found["metric"]))}
    rows: list[dict[str, object]] = [
        {str(name): value for name, value in row.items()} for row in found.to_dict("records")
    ]
    return sorted(rows, key=lambda row: order[str(row["metric"])])


def _error_row(row: dict[str, object], labels: Sequence[str]) -> list[Cell]:
    value = {
        name: float(str(row[name])) for name in ("count", "median_ape", "mape", "bias", "p90_ape", "worst_percent")
    }
    return [
        text(metric_label(str(row["metric"]))),
        *(text(str(row[label])) for label in labels),
        count(value["count"]),
        _percent(value["median_ape"]),
        _percent(value["mape"]),
        _percent(value["bias"], signed=True),
        _percent(value["p90_ape"]),
        text(str(row["worst"])),
        _percent(value["worst_percent"], signed=True),
    ]


def _worst(frame: pd.DataFrame) -> str:
    rows = []
    for row in worst_cases(frame, WORST).to_dict("records"):
        metric = str(row["metric"])
        rows.append(
            [
                text(str(row["run"])),
                text(metric_label(metric)),
                Cell(escape(metric_value(metric, float(row["measured"]))), None, "number"),
                Cell(escape(metric_value(metric, float(row["predicted"]))), None, "number"),
                _percent(float(row["error_percent"]), signed=True),
            ]
        )
    return "<h2>Worst cases</h2>" + table(
        "Worst cases", ["run", "metric", "measured", "predicted", "error"], rows, quiet=True
    )


def _failed(failed: dict[str, str]) -> str:
    rows = [[text(run), text(why, "long")] for run, why in failed.items()]
    return "<h2>Not simulated</h2>" + table("Runs that could not be simulated", ["run", "why"], rows, quiet=True)
