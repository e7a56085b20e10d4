"""All that is known of one trial without simulating it again."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dse import words
from dse.assessment import figures_of_cases
from dse.drawing import draw_deployment
from dse.evaluation import Evaluation
from dse.objectives import is_metric
from dse.service.answers.records import Figure, SloCheck, TrialDetail
from dse.service.answers.study_view import StudyView, finite_or_none
from dse.spec import Constraint, Promise, StudySpec
from simulator import Deployment, SpecError
from simulator.performance.engine_defaults import resolved

_COUNTS = ("requests", "sessions", "rejected", "span_s", "preemptions")
"""Figures of a simulation that no study can optimise."""


def detail(view: StudyView, number: int) -> TrialDetail:
    """Return all that is known of a trial.

    Raises
    ------
    KeyError
        If there is none of this number.
    """
    evaluation = view.by_number(number)
    deployment = view.deployment(evaluation)
    return TrialDetail(
        **dict(view.trial(evaluation)),
        sentence=words.sentence(deployment) if deployment else evaluation.reason,
        figures=list(_figures(evaluation, view.spec)),
        slos=list(_promises(evaluation, view.spec)),
        deployment=_written_out(deployment),
        drawing=draw_deployment(deployment, view.spec.workload.plan) if deployment else "",
        recommended=evaluation is view.recommended,
        on_front=any(evaluation is each for each in view.front_designs),
    )


def figure(name: str, value: float, label: str = "") -> Figure:
    """Return a figure of a simulation in words."""
    return Figure(
        name=name, label=label or words.label(name), value=finite_or_none(value), said=words.quantity(name, value)
    )


def _figures(evaluation: Evaluation, spec: StudySpec) -> Iterator[Figure]:
    """Yield the metrics and counts of a trial; of several workloads over all of them, then of each."""
    told = dict.fromkeys((*spec.objectives, *evaluation.figures))
    for name in told:
        if name in evaluation.figures and (is_metric(name) or name in _COUNTS):
            yield figure(name, evaluation.figures[name])
    if len(spec.cases) == 1 or not evaluation.simulated:
        return
    for case, figures in zip(spec.cases, figures_of_cases(evaluation.figures, spec), strict=True):
        for name, value in figures.items():
            if is_metric(name) or name in _COUNTS:
                yield figure(name, value, f"{case.name}: {words.label(name)}").model_copy(
                    update={"name": f"{case.name}.{name}"}
                )


def _promises(evaluation: Evaluation, spec: StudySpec) -> Iterator[SloCheck]:
    """Yield how each promise and bound is kept; of several workloads by the one that misses it most."""
    if not evaluation.simulated:
        return
    for each in spec.promises:
        excess = evaluation.figures[f"{each.name}_excess"]
        metric, limit, sign = _limit(each)
        value = limit * (1 + sign * excess)
        if excess == -1.0 and evaluation.figures.get(metric, math.nan) != value:
            value = math.nan  # no request has the latency: then the promise counts as kept with all of its limit left
        yield SloCheck(
            name=each.name,
            label=words.label(each.name),
            limit=limit,
            value=finite_or_none(value),
            limit_said=words.quantity(metric, limit),
            value_said=words.quantity(metric, value),
            holds=excess <= 0,
            soft=each.penalty is not None,
        )


def _limit(promise: Promise | Constraint) -> tuple[str, float, float]:
    """Return the metric of a promise or bound, its limit, and 1 for an upper limit, -1 for a lower one."""
    if isinstance(promise, Promise):
        return promise.name, promise.limit_s, 1.0
    if promise.at_most is not None:
        return promise.metric, promise.at_most, 1.0
    assert promise.at_least is not None
    return promise.metric, promise.at_least, -1.0


def _written_out(deployment: Deployment | None) -> dict[str, object] | None:
    """Return a deployment as plain data with its engines' defaults; None if it is impossible."""
    if deployment is None:
        return None
    try:
        return resolved(deployment).model_dump(mode="json", exclude_none=True)
    except SpecError:
        return None
