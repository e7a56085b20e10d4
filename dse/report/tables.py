"""HTML tables. Cells are made by functions of this module, which escape what they are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from dse import words
from dse.certificate.ledger import MEANINGS, Certificate
from dse.confidence.sureness import Sureness
from dse.evaluation import Evaluation
from dse.report.chosen import Chosen, Named
from dse.report.limits import hard, limit_of, metric_of, value_at
from simulator import Result
from simulator.metrics import PoolUse
from simulator.performance.price import pool_usd_per_hour, service_usd_per_hour

ROWS = 200
"""Rows of the front's table at most."""


@dataclass(frozen=True)
class Cell:
    """A cell: HTML, the number to sort by if there is one, and a class of the style sheet."""

    html: str
    value: float | None = None
    style: str = ""


def text(content: str, style: str = "") -> Cell:
    """Return a cell of plain text."""
    return Cell(escape(content), style=style)


def figure(name: str, value: float) -> Cell:
    """Return a cell with a metric's value and unit."""
    return Cell(escape(words.quantity(name, value)), value, "number")


def count(value: float) -> Cell:
    """Return a cell with a number."""
    return Cell(escape(words.number(value)), value, "number")


def share(value: float, style: str = "") -> Cell:
    """Return a cell with a percentage."""
    return Cell(escape(words.percent(value)), value, f"number {style}".strip())


def margin(excess: float) -> Cell:
    """Return a cell that says how much of an SLO's limit is left, or by how much it is exceeded."""
    if excess <= 0:
        return Cell(escape(f"{words.percent(-excess)} left"), -excess, "number good")
    return Cell(escape(f"{words.percent(excess)} over"), -excess, "number bad")


def signed_margin(excess: float) -> Cell:
    """Return a cell with the share of an SLO's limit that is left; negative if the limit is exceeded."""
    sign = "+" if excess <= 0 else "−"
    return Cell(escape(f"{sign}{words.percent(abs(excess))}"), -excess, "number good" if excess <= 0 else "number bad")


def bar(value: float) -> Cell:
    """Return a cell with a share as a bar and as a number."""
    width = max(0.0, min(1.0, value)) * 100
    return Cell(
        f'<span class="bar" aria-hidden="true"><i style="width:{width:.1f}%"></i></span>{escape(words.percent(value))}',
        value,
        "bars",
    )


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    sortable: bool = False,
    tall: bool = False,
    quiet: bool = False,
) -> str:
    """Return a table in a box of its own that scrolls where the window is narrow; first cells head their rows.

    A quiet caption is for screen readers only: a heading says the same.
    """
    button = '<button type="button">{}</button>' if sortable else "{}"
    heads = "".join(f'<th scope="col">{button.format(escape(title))}</th>' for title in head)
    body = []
    for first, *rest in rows:
        cells = [f'<th scope="row"{_attributes(first)}>{first.html}</th>']
        cells += [f"<td{_attributes(cell)}>{cell.html}</td>" for cell in rest]
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll{" tall" if tall else ""}" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f'<table class="{"sortable" if sortable else "plain"}">'
        f"<caption{' class=quiet' if quiet else ''}>{escape(caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _attributes(cell: Cell) -> str:
    style = f' class="{cell.style}"' if cell.style else ""
    return style + (f' data-value="{cell.value!r}"' if cell.value is not None else "")


def design_cell(chosen: Chosen, design: Named, *, link: bool) -> Cell:
    """Return a cell with a design's hardware, and below it batching, routing and the services that are searched."""
    title = f"<b>{escape(design.tag)}</b> {escape(words.short(design.deployment))}"
    if link:
        title = f'<a href="#designs" data-show="{escape(design.tag)}">{title}</a>'
    badge = ' <span class="badge">recommended</span>' if design.recommended else ""
    rest = escape(words.details(design.deployment, chosen.result.spec.space.services))
    order = float(design.tag[1:])
    return Cell(f"{title}{badge}<small>{rest}</small>", order, "design")


def pools(design: Named) -> str:
    """Return the table of a design's pools."""
    rows = []
    # A degree of parallelism has a column if any pool has it.
    degrees = list(dict.fromkeys(name for pool in design.deployment.pools for name in words.degrees(pool)))
    for pool in design.deployment.pools:
        price = pool_usd_per_hour(pool) / pool.accelerators
        rows.append(
            [
                text(words.serves(design.deployment, pool)),
                text(words.accelerators_of(pool)),
                count(pool.clients),
                *(count(words.degrees(pool).get(name, 1)) for name in degrees),
                count(pool.accelerators),
                text(words.batching(pool), "long"),
                figure("usd_per_hour", price * pool.accelerators),
            ]
        )
    head = ("Serves", "Accelerator", "Clients", *degrees, "Accelerators", "Batching, a step", "Cost per hour")
    return table(f"Pools of {design.tag}", head, rows)


def rivals(chosen: Chosen) -> str:
    """Return the table of designs that lost against the recommended one, and why."""
    spec, best = chosen.result.spec, chosen.recommended
    assert best
    rows = []
    shown = {design.tag for design in chosen.shown}
    for rival in chosen.rivals:
        cells = [
            design_cell(chosen, rival.design, link=rival.design.tag in shown),
            text(rival.role, "long"),
            text(rival.trade, "long"),
        ]
        if len(spec.objectives) > 1:
            gains = [
                f"{'gains' if gain > 0 else 'gives up'} {words.percent(abs(gain))} in {words.brief(name)}"
                for name, gain in zip(spec.objectives, rival.gains, strict=True)
            ]
            cells += [text(", ".join(gains), "long"), Cell(f"{rival.distance:.3f}", rival.distance, "number")]
        rows.append(cells)
    head = ["Design", "Role", f"Against {best.tag}"]
    head += ["On the front's range it", "Distance to the ideal"] if len(spec.objectives) > 1 else []
    title = "Why the neighbours lost" if len(spec.objectives) > 1 else "Runners-up"
    return table(title, head, rows, quiet=True)


def front(chosen: Chosen) -> str:
    """Return the sortable table of the front (or of the least violating designs)."""
    spec = chosen.result.spec
    shown = {design.tag for design in chosen.shown}
    rows = []
    designs = chosen.front or chosen.nearest
    judged = spec.slos if chosen.front else spec.promises
    for design in designs[:ROWS]:
        e = design.evaluation
        rows.append(
            [
                design_cell(chosen, design, link=design.tag in shown),
                count(design.deployment.accelerators),
                *(figure(name, value) for name, value in zip(spec.objectives, e.objectives, strict=True)),
                *(signed_margin(e.figures[f"{each.name}_excess"]) for each in judged),
                text(e.bottleneck),
            ]
        )
    head = [
        "Design",
        "Accelerators of the LLM" if any(design.deployment.services for design in designs) else "Accelerators",
        *(words.label(name) for name in spec.objectives),
        *(f"{words.label(each.name)} margin" for each in judged),
        "Limited by",
    ]
    title = f"Front of {words.plural(len(designs), 'design')}" if chosen.front else "Least violating designs"
    if len(designs) > ROWS:
        title += f", the first {ROWS}"
    return table(title, [name[0].upper() + name[1:] for name in head], rows, sortable=True, tall=len(rows) > 14)


def use(design: Named, uses: Sequence[PoolUse]) -> str:
    """Return the table of what each pool of a design did."""
    rows = [
        [text(title[0].upper() + title[1:]), *(bar(getattr(use, field)) for use in uses)]
        for field, title in words.USES.items()
    ]
    if any(pool.prefix_cache for pool in design.deployment.pools):
        rows.append([text("Prompt tokens spared by the prefix cache"), *(bar(use.cache_hits) for use in uses)])
    rows.append([text("Preemptions"), *(count(use.preemptions) for use in uses)])
    rows.append([text("Limited by"), *(text(use.bottleneck) for use in uses)])
    names = [f"{pool.name}: {words.clients(pool)}" for pool in design.deployment.pools]
    return table(f"What limits {design.tag}: share of time, by pool", ["Resource", *names], rows)


def services(chosen: Chosen, simulation: Result) -> str:
    """Return the table of the services around the LLM; empty if the pipeline has none."""
    plans = simulation.lowered.services
    if not plans:
        return ""
    rows = [
        [
            text(plan.service.stage),
            text(plan.service.device),
            count(plan.service.clients),
            bar(use.busy),
            text(f"{use.mean_batch:.1f} of {plan.service.max_batch_requests}"),
            figure("usd_per_hour", service_usd_per_hour(plan.service, plan.stage)),
            text(use.bottleneck),
        ]
        for plan, use in zip(plans, simulation.services, strict=True)
    ]
    head = ("Service", "Device", "Clients", "Busy", "Requests a batch", "Cost per hour", "Limited by")
    same = "" if chosen.result.spec.space.services else ", the same in every design"
    return table(f"Services around the LLM{same}", head, rows)


def percentiles(design: Named) -> str:
    """Return the table of latency percentiles of a design."""
    figures = design.evaluation.figures
    rows = [
        [
            Cell(f"<b>{words.metric_name(metric)}</b><small>{escape(meaning)}</small>"),
            *(figure(f"{metric}_p{rank}_s", figures[f"{metric}_p{rank}_s"]) for rank in (50, 90, 99)),
        ]
        for metric, meaning in words.METRICS.items()
        if f"{metric}_p50_s" in figures
    ]
    return table(f"Latencies of {design.tag}", ("Latency", "p50", "p90", "p99"), rows)


def excluded(evaluations: Sequence[Evaluation]) -> str:
    """Return the table of why designs were not simulated."""
    left = [e for e in evaluations if not e.simulated]
    kinds = Counter(next(iter(e.constraints)) for e in left)
    rows = []
    for kind, total in sorted(kinds.items(), key=lambda item: -item[1]):
        reasons = Counter(e.reason for e in left if kind in e.constraints)
        often, times = reasons.most_common(1)[0]
        rows.append(
            [
                text(words.exclusion(kind)),
                count(total),
                share(total / len(evaluations)),
                text(f"{often} ({times:,} times)", "long"),
            ]
        )
    head = ("Reason", "Designs", "Of all proposed", "Most frequent in full")
    return table("Designs excluded before simulation", head, rows, quiet=True)


def broken(chosen: Chosen) -> str:
    """Return the table of what made simulated designs infeasible: hard promises, and objectives without a value."""
    simulated = chosen.result.simulated

    def row(name: str, limit: Cell, best: Cell) -> list[Cell]:
        broke = [e for e in simulated if e.constraints.get(name, 0.0) > 0]
        alone = [e for e in broke if len(e.broken) == 1]
        of_all = share(len(broke) / max(1, len(simulated)))
        return [text(words.label(name)), limit, count(len(broke)), of_all, count(len(alone)), best]

    rows = []
    for promise in hard(chosen.result.spec):
        metric = metric_of(promise)
        best = min((e.figures[f"{promise.name}_excess"] for e in simulated), default=float("nan"))
        rows.append(row(promise.name, figure(metric, limit_of(promise)), figure(metric, value_at(promise, best))))
    if any("finite" in e.constraints for e in simulated):
        rows.append(row("finite", text("–"), text("–")))
    head = ("Promise", "Limit", "Broken by", "Of all simulated", "By nothing else", "Best reached")
    return table("Promises that simulated designs broke", head, rows, quiet=True)


def proved(certificate: Certificate) -> str:
    """Return the table of what became of every design of a space."""
    rows = [
        [text(meaning), count(certificate.counts[status]), share(certificate.counts[status] / certificate.designs)]
        for status, meaning in MEANINGS.items()
        if certificate.counts[status]
    ]
    return table("What is proved of the space", ("Designs that", "Number", "Of the space"), rows, quiet=True)


def sureness(found: Sureness, objectives: Sequence[str]) -> str:
    """Return the table of what replications say of the designs on and near the front."""

    def interval(row: dict[str, Any], name: str) -> Cell:
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        about = f" ({words.quantity(name, low)} to {words.quantity(name, high)})" if None not in (low, high) else ""
        return Cell(escape(words.quantity(name, row[name]) + about), row[name], "number")

    rows = [
        [
            text(row["design"]),
            text(row["feasibility"]),
            text(row["place"]),
            count(row["replications"]),
            *(interval(row, name) for name in objectives),
        ]
        for row in found.rows
    ]
    head = ("Design", "Promises", "Front", "Replications", *(words.heading(name) for name in objectives))
    return table("How sure the front is", head, rows, quiet=True, tall=True)
