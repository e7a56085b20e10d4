"""The front at other prices, and at another rate of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from dse import words
from dse.evaluation import Evaluation, evaluate
from dse.pareto import losses, scaled
from dse.report.chosen import spread
from dse.repricing import DEVICES, Prices, reprice
from dse.result import StudyResult
from dse.service.answers.loads import load_of
from dse.service.answers.records import WhatIf, WhatIfAnswer
from dse.service.answers.study_view import StudyView, finite_or_none
from dse.spec import StudySpec
from dse.understanding.rates import load_at, rate_of

MOST_DESIGNS: Final = 12
"""Designs that are simulated at another rate."""


def what_if(view: StudyView, question: WhatIf) -> WhatIfAnswer:
    """Return the front at other prices, from the trials alone; the rate stays as it is.

    Raises
    ------
    SpecError
        If a device is unknown or a price no price, or the trials are of an earlier version.
    """
    prices = _prices(question)
    found = view.at(prices)
    given = view.spec.workload.arrivals or view.spec.workload.trace
    return _answer(view, found, prices, today=_numbers(view.front_designs), rate_rps=given.rate_rps if given else None)


def candidates(view: StudyView, question: WhatIf) -> list[Evaluation]:
    """Return the designs to simulate at another rate: the front at the prices asked about, or a dozen spread over it.

    Raises
    ------
    SpecError
        As :func:`what_if`.
    """
    found = view.at(_prices(question))
    front, best = found.front, found.recommended
    if best is None:
        return []
    points = losses(np.array([evaluation.objectives for evaluation in front]), view.spec.objectives)
    picked = spread(scaled(points, points), MOST_DESIGNS, [front.index(best)])
    return [view.by_number(front[place].number) for place in picked]


def what_if_at_rate(
    spec: StudySpec, designs: Sequence[dict[str, Any]], today: Sequence[int], question: WhatIf
) -> WhatIfAnswer:
    """Return which designs of a front are on it at another rate; simulates each of them once.

    Parameters
    ----------
    spec
        The study. Its load is built, and kept for the next question.
    designs
        :func:`candidates`, each as :meth:`Evaluation.to_json` wrote it.
    today
        Numbers of the trials on today's front.
    question
        The rate, and prices.

    Raises
    ------
    SpecError
        If the rate or a price is impossible, or all requests arrive at once.
    """
    prices = _prices(question)
    view = StudyView(spec)
    view.add(designs)
    whole = view.result(load_of(spec))
    load = load_at(whole, question.rate_factor)
    again = StudyView(spec)
    for known in whole.evaluations:
        evaluation = reprice(evaluate(known.design, spec, load), spec, prices)
        again.add([{**evaluation.to_json(), "number": known.number}])
    looked = _numbers(whole.evaluations)
    answer = _answer(
        again,
        again.result(),
        prices,
        today=[number for number in today if number in looked],
        rate_rps=rate_of(whole) * question.rate_factor,
    )
    several = f"{words.plural(len(looked), 'design')} of the front simulated at {words.number(question.rate_factor)}"
    kept = f"{again.feasible} of them {'keeps' if again.feasible == 1 else 'keep'} every promise"
    return answer.model_copy(update={"said": f"{several} times the rate: {kept}. {answer.said}"})


def _prices(question: WhatIf) -> Prices:
    return Prices(question.usd_per_hour, question.electricity_usd_per_kwh)


def _numbers(evaluations: Sequence[Evaluation]) -> list[int]:
    return [evaluation.number for evaluation in evaluations]


def _answer(
    view: StudyView, found: StudyResult, prices: Prices, *, today: Sequence[int], rate_rps: float | None
) -> WhatIfAnswer:
    """Return what is said of the front of a result."""
    front, best = _numbers(found.front), found.recommended
    joined = [number for number in front if number not in today]
    used = dict.fromkeys(name for each in found.simulated for name in each.figures if name.startswith(DEVICES))
    devices = sorted(name.removeprefix(DEVICES) for name in used)
    return WhatIfAnswer(
        trials=[view.trial(evaluation) for evaluation in found.front],
        recommended=best.number if best else None,
        joined=joined,
        left=[number for number in today if number not in front],
        devices={name: prices.of(name) for name in devices},
        rate_rps=None if rate_rps is None else finite_or_none(rate_rps),
        said=_said(view, found, joined),
    )


def _said(view: StudyView, found: StudyResult, joined: Sequence[int]) -> str:
    best = found.recommended
    if best is None:
        return "No design keeps every promise."
    new = f", {len(joined)} of them new" if joined else ""
    front = f"{words.plural(len(found.front), 'design')} on the front{new}"
    values = zip(view.spec.objectives, best.objectives, strict=True)
    reached = ", ".join(f"{words.brief(name)} {words.quantity(name, value)}" for name, value in values)
    return f"{front}. Recommended: trial {best.number}, {view.label(best)}, {reached}."
