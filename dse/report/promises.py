"""The table of promises: what was reached of each, how sure that is, what is left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import Any

from dse import words
from dse.confidence.percentiles import slo_interval
from dse.report import limits
from dse.report.chosen import Chosen, Named
from dse.report.tables import Cell, figure, margin, share, table, text
from dse.spec import Constraint
from simulator import SLO, Result

CONFIDENCE = 0.95
"""Of the intervals from one run."""


def promises(chosen: Chosen, design: Named) -> str:
    """Return the table of promises by workload: limit, value reached with its interval, margin, attainment.

    An interval of replications is of their mean; where there were none it is of the one run, by
    :func:`dse.confidence.slo_interval`, and says so.
    """
    spec, several = chosen.result.spec, len(chosen.cases) > 1
    replicated = None if several else chosen.replicated(design)
    rows = []
    for number, case in enumerate(chosen.cases):
        simulation = chosen.simulation(design, number)
        workload = [text(case.name)] if several else []
        rows += [[*workload, *_slo(simulation, slo, replicated)] for slo in spec.slos]
        figures = design.evaluation.figures
        start = f"{case.name}." if several else ""
        rows += [[*workload, *_bound(bound, figures[f"{start}{bound.metric}"])] for bound in spec.constraints]
    head = ("Promise", "Limit", "Reached", "95 % interval", "Margin", "Attainment", "Verdict")
    return table(f"SLOs of {design.tag}", ["Workload", *head] if several else head, rows)


def how_sure(chosen: Chosen, design: Named) -> str:
    """Return in a sentence what the intervals of :func:`promises` are of."""
    found = chosen.replicated(design)
    if found is None:
        each = " of each workload" if len(chosen.cases) > 1 else ""
        return (
            f"Figures are of one run{each}. Its intervals hold the percentile of an endless run of the same kind in "
            "about 95 of 100 runs; gaps between tokens have none. Replications in the study tell more."
        )
    if len(chosen.cases) > 1:
        return f"{_judged(found)} Intervals are of one run of each workload."
    return f"{_judged(found)} Intervals are of the mean of these replications, wide enough for every look at them."


def _judged(found: dict[str, Any]) -> str:
    count = words.plural(int(found["replications"]), "replication")
    return f"Simulated again with {count} of the load: {found['feasibility']}, {found['place']}."


def _slo(simulation: Result, slo: SLO, replicated: dict[str, Any] | None) -> Iterator[Cell]:
    reached, excess = simulation.percentile_s(slo.metric, slo.percentile), simulation.violation(slo)
    yield Cell(f"<b>{escape(words.label(slo.name))}</b><small>{escape(words.slo_words(slo))}</small>")
    yield figure(slo.name, slo.limit_s)
    yield figure(slo.name, reached)
    yield text(_interval(simulation, slo, replicated), "long")
    yield margin(excess)
    yield share(simulation.attainment(slo))
    yield _verdict(excess)


def _interval(simulation: Result, slo: SLO, replicated: dict[str, Any] | None) -> str:
    if replicated is not None and f"{slo.name}_missed_low" in replicated:
        low, high = (_seconds(slo, replicated[f"{slo.name}_missed_{side}"]) for side in ("low", "high"))
        return f"{_range(low, high)} ({words.plural(int(replicated['replications']), 'replication')})"
    if slo.metric == "itl":
        return "one run, no interval"
    found = slo_interval(simulation, slo, CONFIDENCE)
    return f"{_range(found.low, found.high)} (one run)"


def _seconds(slo: SLO, missed: float | None) -> float:
    """Return the latency from by how much a limit is missed; infinite if unknown."""
    if missed is None or missed >= 1:
        return math.inf
    return slo.limit_s * (1 + (missed if missed <= 0 else missed / (1 - missed)))


def _range(low: float, high: float) -> str:
    if not math.isfinite(high):
        return f"at least {words.seconds(low)}" if 0 < low < math.inf else "not known"
    return f"{words.seconds(low)} to {words.seconds(high)}"


def _bound(bound: Constraint, value: float) -> Iterator[Cell]:
    side = "at most" if bound.at_least is None else "at least"
    excess = bound.excess(value)
    yield Cell(f"<b>{escape(words.label(bound.metric))}</b><small>{side} {escape(limits.said(bound))}</small>")
    yield figure(bound.metric, limits.limit_of(bound))
    yield figure(bound.metric, value)
    yield text("one run, no interval", "long")
    yield margin(excess)
    yield text("–")
    yield _verdict(excess)


def _verdict(excess: float) -> Cell:
    return text("kept" if excess <= 0 else "broken", "good" if excess <= 0 else "bad")
