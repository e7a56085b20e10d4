"""The answer on one page: what to deploy, what it costs and keeps, and what would change it, in sentences."""

from __future__ import annotations

from dataclasses import dataclass

from dse import words
from dse.provenance import caveat
from dse.report.chosen import Chosen, Named
from dse.report.document import facts
from dse.report.outlook import Outlook, prices_said, rates_said
from dse.report.promises import how_sure
from dse.report.spending import kilowatts, parts_of
from dse.report.stays import said as stays_said


@dataclass(frozen=True)
class Point:
    """A sentence or two, and what they are about."""

    topic: str
    said: str


def summary(chosen: Chosen, found: Outlook) -> tuple[Point, ...]:
    """Return the answer of a study that has one."""
    best = chosen.recommended
    assert best
    points = [
        Point("Deploy", f"{best.tag}: {words.sentence(best.deployment)}"),
        Point("Chosen from", _from(chosen)),
        Point("It costs", _costs(chosen, best)),
        Point("It keeps", _keeps(chosen, best)),
        Point("Requests take", stays_said(chosen, best)),
        Point("It is limited by", limited(best)),
        Point("Instead", _instead(chosen)),
        Point("Other prices", prices_said(chosen, found)),
        Point("Other rates", rates_said(chosen, found)),
        Point("How sure", _sure(chosen, best)),
        Point("It rests on", _basis(best)),
    ]
    return tuple(point for point in points if point.said)


def section(chosen: Chosen, found: Outlook) -> str:
    """Return the HTML of the summary."""
    return "<h2>In short</h2>" + facts((point.topic, point.said) for point in summary(chosen, found))


def limited(design: Named) -> str:
    """Return what limits a design."""
    limit = design.evaluation.bottleneck
    if limit.endswith("nothing"):
        return "Nothing much: there is room for more load."
    return f"{limit[0].upper()}{limit[1:]}."


def _from(chosen: Chosen) -> str:
    result = chosen.result
    text = (
        f"{words.plural(len(result.evaluations), 'design')}, of which {len(result.simulated):,} were simulated and "
        f"{len(result.feasible):,} keep every promise."
    )
    if len(result.spec.objectives) == 1:
        return f"{text} It has the best {words.label(result.spec.objectives[0])}."
    if len(result.front) == 1:
        return f"{text} None of the others is better in any objective."
    return (
        f"{text} {len(result.front):,} of them are on the front, where each is better than every other in something; "
        "this one is nearest to the best of every objective."
    )


def _costs(chosen: Chosen, best: Named) -> str:
    simulations = chosen.simulations(best)
    parts = parts_of(best.deployment, simulations)
    usd_per_hour = sum(part.usd_per_hour for part in parts)
    means = [simulation.power_mean_w / 1e3 for simulation in simulations]
    low, high = min(means), max(means)
    mean = kilowatts(low) if low == high else f"{kilowatts(low)} to {kilowatts(high)}"
    figures = best.evaluation.figures
    token = "usd_per_million_output_tokens"
    return (
        f"{words.quantity('usd_per_hour', usd_per_hour)} per hour, {words.quantity(token, figures[token])} per million "
        f"output tokens. It draws {mean} on "
        f"average, at most {kilowatts(sum(part.peak_kw for part in parts))}."
    )


def _keeps(chosen: Chosen, best: Named) -> str:
    spec = chosen.result.spec
    if not spec.promises:
        return "The study promises nothing."
    figures = best.evaluation.figures
    missed = [each for each in spec.promises if figures[f"{each.name}_excess"] > 0]
    if missed:
        names = ", ".join(words.label(each.name) for each in missed)
        return f"Every promise that is hard; {names} is missed and made its objectives worse."
    if not spec.slos:
        return "Every promise."
    said = []
    for slo in spec.slos:
        excess = figures[f"{slo.name}_excess"]
        reached = words.seconds(slo.limit_s * (1 + excess))
        said.append(
            f"{words.label(slo.name)} {reached} of {words.seconds(slo.limit_s)} ({words.percent(-excess)} left)"
        )
    worst = " in the worst workload" if len(chosen.cases) > 1 else ""
    return f"Every promise: {', '.join(said)}{worst}."


def _instead(chosen: Chosen) -> str:
    said = [
        f"{rival.design.tag} ({words.short(rival.design.deployment)}), {rival.role}: {rival.trade}"
        for rival in chosen.rivals
    ]
    return f"{'; or '.join(said)}." if said else "No other design comes close."


def _sure(chosen: Chosen, best: Named) -> str:
    result = chosen.result
    sure = how_sure(chosen, best)
    if result.certificate:
        sure += f" Of the space, {words.open_designs(result.certificate)}."
    if result.interrupted:
        sure += " The study was stopped before its budget was used."
    return sure


def _basis(best: Named) -> str:
    doubt = caveat(best.deployment.pools)
    if doubt:
        return f"A simulation; its {doubt}. Try it before you buy."
    return "A simulation, with coefficients fitted to measurements of these accelerators and this engine."
