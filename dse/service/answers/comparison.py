"""Two trials side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from dse import words
from dse.evaluation import Evaluation
from dse.objectives import direction_of, is_metric
from dse.result import SAME
from dse.result import compare as trade_of
from dse.service.answers.loads import load_of
from dse.service.answers.records import Comparison, Row
from dse.service.answers.study_view import StudyView
from dse.spec import StudySpec
from dse.understanding.binding import NOTHING, relief
from dse.understanding.difference import difference, measured
from dse.understanding.sentences import explained
from search_spaces import Design
from simulator import SpecError

_ALSO: Final = (
    "accelerators",
    "usd_per_hour",
    "usd_per_million_output_tokens",
    "energy_j_per_output_token",
    "output_tokens_per_s",
)
"""Figures that are compared beside objectives, promises and latencies."""


def compare(view: StudyView, first: int, second: int) -> Comparison:
    """Return what differs between two trials, in choices and figures, and what follows from it; simulates nothing.

    Raises
    ------
    KeyError
        If there is no such trial.
    """
    one, other = view.by_number(first), view.by_number(second)
    return Comparison(
        first=first,
        second=second,
        choices=list(_choices(view.spec, one.design, other.design)),
        figures=list(_figures(view.spec, one, other)),
        said=list(_said(view, one, other)),
    )


def explain(spec: StudySpec, evaluations: Iterable[dict[str, Any]], first: int, second: int) -> list[str]:
    """Return how much each choice contributes to the difference of two trials, a sentence for each objective.

    Simulates designs between the two, see :func:`dse.understanding.difference`.

    Parameters
    ----------
    spec
        The study. Its load is built, and kept for the next question.
    evaluations
        The trials, both among them, as :meth:`Evaluation.to_json` wrote them: what is among them is not simulated
        again.
    first, second
        Numbers of the two trials.

    Raises
    ------
    KeyError
        If there is no such trial.
    SpecError
        If one was not simulated, both are the same, or one rejected requests.
    """
    view = StudyView(spec)
    view.add(evaluations)
    pair = [view.by_number(number) for number in (first, second)]
    for evaluation in pair:
        if not evaluation.simulated:
            raise SpecError(f"trial {evaluation.number}: was not simulated: {evaluation.reason}")
    found = difference(view.result(load_of(spec)), *pair)
    return [_sentence(explained(found, name)) for name in spec.objectives]


def _choices(spec: StudySpec, one: Design, other: Design) -> Iterator[Row]:
    """Yield the choices in which two designs differ, in the order of the space."""
    for dimension in spec.space.space.dimensions:
        name = dimension.name
        if one.get(name) != other.get(name):
            here, there = (_value(design, name) for design in (one, other))
            yield Row(name=name, label=dimension.meaning, first=here, second=there, better="", ratio=None)


def _value(design: Mapping[str, object], name: str) -> str:
    value = design.get(name, "–")
    return ("no", "yes")[value] if isinstance(value, bool) else words.spoken(str(value))


def _figures(spec: StudySpec, one: Evaluation, other: Evaluation) -> Iterator[Row]:
    """Yield objectives, promises and other figures of two simulated trials."""
    if not (one.simulated and other.simulated):
        return
    here, there = (_values(spec, evaluation) for evaluation in (one, other))
    latencies = (f"{metric}_p{rank}_s" for metric in words.METRICS for rank in (50, 90, 99))
    for name in dict.fromkeys((*measured(spec, one), *_ALSO, *latencies)):
        if is_metric(name) and name in here and name in there:
            yield _row(name, here[name], there[name])


def _values(spec: StudySpec, evaluation: Evaluation) -> dict[str, float]:
    """Return all figures; of objectives those with the penalties of soft promises."""
    figures = {name: value for name, value in evaluation.figures.items() if name not in spec.objectives}
    return {**measured(spec, evaluation), **figures}


def _row(name: str, here: float, there: float) -> Row:
    better: Literal["first", "second", "same", ""] = ""
    if not (math.isnan(here) or math.isnan(there)):
        if here == there or math.isclose(here, there, rel_tol=SAME):
            better = "same"
        else:
            better = "first" if (here < there) == (direction_of(name) == "minimize") else "second"
    ratio = there / here if here and math.isfinite(here) and math.isfinite(there) else None
    said = (words.quantity(name, value) for value in (here, there))
    return Row(name=name, label=words.label(name), first=next(said), second=next(said), better=better, ratio=ratio)


def _said(view: StudyView, one: Evaluation, other: Evaluation) -> Iterator[str]:
    """Yield what the second trial gives and takes, what each breaks and what limits it."""
    if one.design == other.design:
        yield "Both are the same design."
        return
    for evaluation in (one, other):
        if not evaluation.simulated:
            yield _sentence(f"trial {evaluation.number} was not simulated: {evaluation.reason}")
    if not (one.simulated and other.simulated):
        return
    if all(math.isfinite(value) for value in (*one.objectives, *other.objectives)):
        trade = trade_of(view.spec, other, one)
        yield _sentence(f"trial {other.number} against trial {one.number}: {trade}")
    for evaluation in (one, other):
        if evaluation.broken:
            broken = ", ".join(words.promise(name) for name in evaluation.broken)
            yield _sentence(f"trial {evaluation.number} breaks {broken}")
    if one.bottleneck == other.bottleneck:
        yield _sentence(_limited("both are", one.bottleneck))
    else:
        for evaluation in (one, other):
            yield _sentence(_limited(f"trial {evaluation.number} is", evaluation.bottleneck))
    changed = [row.name for row in _choices(view.spec, one.design, other.design)]
    if len(changed) == 1:
        yield _sentence(f"they differ in {changed[0]} alone, so all of the difference comes from it")


def _limited(who: str, bottleneck: str) -> str:
    """Return what limits a design, and what would help."""
    if all(part.endswith(NOTHING) for part in bottleneck.split("; ")):
        return f"{who} limited by nothing much: there is room for more load"
    return f"{who} limited by {bottleneck}; what helps: {relief(bottleneck)}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
