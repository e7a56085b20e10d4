"""The page in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from dse.validation.reference.row import Finding, Options, Row, metric_name
from simulator.errors import SpecError

HEAD: Final = """# How far predictions can be trusted

Written by `python -m dse.validation.reference DIR -o docs/fidelity.md`, where DIR holds the reference measurements.
Errors are medians of absolute percentage errors over runs (or single measurements), with their 90th percentile and the
median of signed errors (bias: above 0 the simulator says more than was measured). Those of single operators and
collectives are in [cost-model.md](cost-model.md).
"""

SHORT: Final = """## In short

Median absolute errors of what no fit had seen, in percent; of several fits to the same data the worst. All metrics,
with bias and worst cases, stand below.
"""

SHORT_METRICS: Final = ("ttft_mean_s", "tpot_mean_s", "e2e_mean_s")
"""Columns of the short table; what has none of them is shown with the name of its metric."""

SILENT: Final = """Nothing here says how well routers, tiers, speculation, adapters, several stages together, or other
accelerators than those named are predicted: no measurements of them were at hand.
[What is not modelled](limits.md) says which way errors go. Judge by [your own runs](validation.md).
"""

TITLES: Final = {
    "validation": "## Not seen by the fit\n\nEach group is predicted by a fit to the others.",
    "calibration": "## Seen by the fit\n\nWhat is left when the coefficients of a profile are fitted to these data.",
}


def study(
    reference: Path, rows: Sequence[Row], options: Options, listener: Callable[[str], None] = lambda _: None
) -> tuple[list[Finding], dict[str, str]]:
    """Run the studies of some rows.

    Parameters
    ----------
    reference
        Folder of the reference measurements.
    rows
        Which.
    options
        How.
    listener
        Called with the name of each row before it is run.

    Returns
    -------
    list of Finding, dict
        What came out; and the rows that were not run, with what they lack.

    Raises
    ------
    SpecError
        If the folder does not exist, or a file cannot be used.
    """
    if not reference.is_dir():
        raise SpecError(f"{reference}: no folder of reference measurements")
    findings: list[Finding] = []
    absent: dict[str, str] = {}
    for row in rows:
        lacking = row.lacks(reference)
        if lacking is not None:
            absent[row.name] = lacking
            continue
        listener(row.name)
        findings += row.study(reference, options)
    return findings, absent


def render(findings: Sequence[Finding], absent: dict[str, str]) -> str:
    """Return the page; the same findings give the same text."""
    parts = [HEAD, *in_short(findings)]
    for kind, title in TITLES.items():
        some = [finding for finding in findings if finding.kind == kind]
        if not some:
            continue
        parts += [title, "", "| data | what was fitted | bar | result |", "|---|---|---|---|"]
        parts += [
            f"| {_cell(each.data)} | {_cell(each.fitted)} | {_cell(each.bar)} | {_cell(each.result)} |" for each in some
        ]
        parts.append("")
        for each in some:
            if each.worst or each.why:
                parts.append(f"**{_cell(each.data)}**" + (f". {each.why}" if each.why else "."))
                parts += ["", "Worst cases:", "", *(f"- {case}" for case in each.worst), ""]
    if absent:
        parts += ["## Not run", ""]
        parts += [f"- {name}: {lacking}" for name, lacking in absent.items()]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def in_short(findings: Sequence[Finding]) -> list[str]:
    """Return the lines of the summary: a row for each data set that a fit had not seen; none if there is none."""
    worst: dict[str, dict[str, float]] = {}
    for each in findings:
        if each.kind == "validation":
            row = worst.setdefault(each.data, {})
            for metric, error in each.medians.items():
                row[metric] = max(error, row.get(metric, 0.0))
    if not worst:
        return []
    lines = [SHORT, f"| data | {' | '.join(map(metric_name, SHORT_METRICS))} | other |", "|---|---:|---:|---:|---|"]
    for data, found in worst.items():
        cells = [f"{found[metric]:.1f}" if metric in found else "–" for metric in SHORT_METRICS]
        other = "" if any(metric in found for metric in SHORT_METRICS) else _others(found)
        lines.append(f"| {_cell(data)} | {' | '.join(cells)} | {other} |")
    return [*lines, "", SILENT]


def _others(found: dict[str, float]) -> str:
    return ", ".join(f"{metric_name(metric)} {error:.1f}" for metric, error in found.items())


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
