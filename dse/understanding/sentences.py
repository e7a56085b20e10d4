"""Answers in words, from their numbers: plain text, for the terminal and the page alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dse import words
from dse.evaluation import Evaluation
from dse.result import StudyResult, compare
from dse.understanding.binding import NOTHING
from dse.understanding.difference import ORDERS, Difference, order_of
from dse.understanding.importance import FEASIBLE, FRONT
from dse.understanding.picks import trial_of
from dse.understanding.rates import FirstFailure

if TYPE_CHECKING:
    import pandas as pd

NEGLIGIBLE = 5e-4
"""Share of a measure's value below which an effect is said to be next to nothing."""
LEADING = 3
"""Choices named where only the most important are."""
DOUBTFUL = 0.05
"""Probability of as much by chance from which an importance is called doubtful."""


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, index included."""
    return [{str(name): value for name, value in row.items()} for row in frame.reset_index().to_dict("records")]


def bounds_of(frame: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """Return the rows of :func:`dse.understanding.binding` by trial."""
    return {row["trial"]: row for row in rows_of(frame)}


def named(result: StudyResult, evaluation: Evaluation) -> str:
    """Return a design's trial and its hardware."""
    return f"trial {trial_of(result, evaluation)}, {words.short(result.deployment(evaluation))}"


def objectives(result: StudyResult, evaluation: Evaluation) -> str:
    """Return what a design reaches in every objective."""
    pairs = zip(result.spec.objectives, evaluation.objectives, strict=True)
    return ", ".join(f"{words.brief(name)} {words.quantity(name, value)}" for name, value in pairs)


def question(name: str) -> str:
    """Return what an importance is about."""
    if name == FEASIBLE:
        return "for keeping the SLOs"
    return "for coming near the front" if name == FRONT else f"for the best {words.label(name)}"


def bound(row: Mapping[str, Any]) -> str:
    """Return what bounds a front design, from its row of :func:`dse.understanding.binding`."""
    idle = all(part.endswith(NOTHING) for part in row["bottleneck"].split("; "))
    limited = "nothing limits it much" if idle else f"limited by {row['bottleneck']}"
    if not row["slo"]:
        return limited
    label = words.label(row["slo"])
    left = f"{words.percent(max(0.0, row['slack']))} of its limit left"
    if row["slack"] < 0:
        return f"{label} is missed by {words.percent(-row['slack'])}; {limited}"
    said = f"{label} binds, {left}" if row["binds"] else f"no SLO binds: {label} is nearest, {left}"
    return f"{said}; {limited}"


def relaxed(row: Mapping[str, Any]) -> str:
    """Return what would relax what bounds a front design."""
    said = str(row["relief"])
    if row["change"]:
        left = words.percent(row["neighbour_slack"])
        said += f"; seen: {row['change']} (trial {row['neighbour']}) leaves {left} of {words.label(row['slo'])}"
    return said


def important(table: pd.DataFrame, asked: str, count: int = LEADING) -> list[str]:
    """Return the most important choices of a question, a line each; none if nothing exceeds chance."""
    lines = []
    for row in _leading(table, asked, count):
        shares = f"{words.percent(row['share_of_best'])} of the best, {words.percent(row['share_of_all'])} of all"
        shares += "" if row["active"] == 1 else " that have this choice"
        doubt = f" (doubtful: by chance in {words.percent(row['p_value'])})" if row["p_value"] > DOUBTFUL else ""
        lines.append(f"{row['dimension']} {words.percent(row['importance'])}: {row['favoured']} in {shares}{doubt}")
    return lines


def leading(table: pd.DataFrame, asked: str, count: int = LEADING) -> str:
    """Return the most important choices of a question in short."""
    found = [
        f"{row['dimension']} {words.percent(row['importance'])} ({row['favoured']})"
        for row in _leading(table, asked, count)
    ]
    return ", ".join(found) or "none that chance would not explain"


def _leading(table: pd.DataFrame, asked: str, count: int) -> list[dict[str, Any]]:
    rows = [row for row in rows_of(table) if row["question"] == asked and row["importance"] > 0]
    return rows[:count]


def changed_by(now: float, before: float) -> str:
    """Return a change in percent with its sign."""
    share = now / before - 1
    return f"{'+' if share >= 0 else '−'}{words.percent(abs(share))}"


def prices(result: StudyResult, table: pd.DataFrame) -> list[str]:
    """Return at which prices the recommendation changes, from :func:`dse.understanding.break_even`."""
    import pandas as pd

    lines, without = [], []
    for name, row in table.iterrows():
        today, parts = row["usd_per_hour"], []
        for side, word in (("below", "below"), ("above", "above")):
            price, trial = row[side], row[f"trial_{side}"]
            if price == price:
                target = "nothing is feasible" if pd.isna(trial) else _target(result, trial)
                parts.append(f"{word} {price:.2f} ({changed_by(price, today)}): {target}")
        if parts:
            lines.append(f"{name}, {today:.2f} USD/h today: {'; '.join(parts)}")
        else:
            without.append(str(name))
    if without:
        lines.append(f"{', '.join(without)}: no price from a tenth to ten times today's changes it")
    return lines


def _target(result: StudyResult, trial: int) -> str:
    return named(result, result.evaluations[int(trial)])


def broken(names: str) -> str:
    """Return what a design breaks, from names with commas."""
    return ", ".join(words.promise(name) for name in names.split(", ")) if names else ""


def failure(found: FirstFailure) -> str:
    """Return up to which rate a design keeps its SLOs."""
    rate = f"{words.number(found.kept_rps)} requests/s, {words.number(found.factor)} times the study's"
    if math.isinf(found.broken_rps):
        return f"keeps every SLO up to {rate} at least"
    return f"keeps every SLO up to {rate}; then {words.promise(found.broken)} fails first"


def signed(name: str, value: float) -> str:
    """Return a change of a measure with its sign and unit."""
    if value == 0:
        return "0"
    return f"{'+' if value > 0 else '−'}{words.quantity(name, abs(value))}"


def effect(found: Difference, choice: str, measure: str) -> str:
    """Return what a choice contributes to a measure; what is next to nothing beside the values is said to be so."""
    value = float(found.effects[measure][choice])
    if value == 0 or abs(value) >= NEGLIGIBLE * _size(found, measure):
        return signed(measure, value)
    return "≈ 0"


def _size(found: Difference, measure: str) -> float:
    return max(abs(float(found.measures[column][measure])) for column in ("first", "second"))


def trade(result: StudyResult, found: Difference) -> str:
    """Return what the second design gives and takes against the first."""
    first, second = (trial_of(result, e) for e in (found.first, found.second))
    return f"trial {second} against trial {first}: {compare(result.spec, found.second, found.first)}"


def explained(found: Difference, measure: str, count: int = LEADING) -> str:
    """Return which choices explain the difference of a measure."""
    first, second, change = (float(found.measures[column][measure]) for column in ("first", "second", "change"))
    values = f"{words.quantity(measure, first)} → {words.quantity(measure, second)}"
    said = f"{words.label(measure)} {values} ({signed(measure, change)})"
    order = order_of(found.effects, measure)
    parts = []
    for name in order[:count]:
        if abs(float(found.effects[measure][name])) >= NEGLIGIBLE * _size(found, measure):
            here, there = (found.choices[column][name] for column in ("first", "second"))
            parts.append(f"{name} {here} → {there} {effect(found, name, measure)}")
    rest = float(sum(found.effects[measure][name] for name in order[len(parts) :]))
    if abs(rest) >= NEGLIGIBLE * _size(found, measure):
        parts.append(f"{words.plural(len(order) - len(parts), 'other')} {signed(measure, rest)}")
    return f"{said}: {', '.join(parts)}" if parts else said


def method(found: Difference) -> str:
    """Return how the attribution was made."""
    orders = "all orders" if found.exact else f"{2 * ORDERS} random orders"
    said = (
        f"each choice changed one at a time, averaged over {orders}: {words.plural(found.simulated, 'design')} between"
    )
    if found.impossible:
        said += f"; {found.impossible:,} more cannot be simulated, and the choices around them share their effect"
    if len(found.choices) > len(found.effects):
        said += "; what only one of the two chooses counts to the choice that decides so"
    return said
