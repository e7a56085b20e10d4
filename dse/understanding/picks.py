"""Designs picked from a front: by weights, the best of each objective, by a name that a person gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dse.evaluation import Evaluation
from dse.pareto import Floats, losses, scaled
from dse.result import StudyResult
from simulator import SpecError

CHEAPEST, FASTEST, RECOMMENDED = "cheapest", "fastest", "recommended"


def trial_of(result: StudyResult, evaluation: Evaluation) -> int:
    """Return a design's row in ``trials.parquet`` and ``front.csv``: its place among all distinct designs."""
    return next(place for place, known in enumerate(result.evaluations) if known is evaluation)


def need_front(result: StudyResult) -> None:
    """Check that something is feasible.

    Raises
    ------
    SpecError
        If nothing is.
    """
    if not result.front:
        raise SpecError(
            f"{result.spec.name}: no design keeps every SLO, so there is no front to ask about; "
            f"{len(result.simulated)} were simulated"
        )


def front_losses(result: StudyResult) -> Floats:
    """Return the front's losses in units of its range, from its best values; shape (front, objectives)."""
    points = losses(np.array([e.objectives for e in result.front]), result.spec.objectives)
    return scaled(points, points)


def weighted_pick(result: StudyResult, weights: Mapping[str, float]) -> Evaluation:
    """Return the front design with the least weighted loss.

    The loss of an objective is 0 at the front's best value and 1 at its worst, so weights have no units; what is not
    named has weight 0. A weighted sum finds only designs on the convex side of a front: between two picks there may be
    front designs that no weights pick.

    Parameters
    ----------
    result
        A study with a front.
    weights
        By objective, zero or more, one above zero.

    Raises
    ------
    SpecError
        If a weight names no objective, is negative or not finite, all are zero, or nothing is feasible.

    Examples
    --------
    >>> from dse.understanding import weighted_pick
    >>> weighted_pick(result, {"usd_per_hour": 2, "e2e_p90_s": 1})  # doctest: +SKIP
    """
    names = result.spec.objectives
    for name, weight in weights.items():
        if name not in names:
            known = ", ".join(names)
            raise SpecError(f"weights: {name!r} is no objective of {result.spec.name}; known: {known}")
        if not (weight >= 0 and np.isfinite(weight)):
            raise SpecError(f"weights: {name}: must be zero or more, given {weight:g}")
    if not any(weight > 0 for weight in weights.values()):
        raise SpecError("weights: at least one must be above 0")
    need_front(result)
    points = front_losses(result)
    total = points @ np.array([weights.get(name, 0.0) for name in names])
    # Equal by the weights: the one that is better in what has none.
    return result.front[int(np.lexsort((points.sum(axis=1), total))[0])]


def ends(result: StudyResult) -> dict[str, Evaluation]:
    """Return the front design that is best in each objective, by objective."""
    need_front(result)
    points = front_losses(result)
    best = (int(np.lexsort((points.sum(axis=1), column))[0]) for column in points.T)
    return {name: result.front[place] for name, place in zip(result.spec.objectives, best, strict=True)}


def role(objective: str) -> str:
    """Return what the best design by an objective is called."""
    if objective in ("usd_per_hour", "usd_per_million_output_tokens"):
        return CHEAPEST
    from dse.words import label

    return FASTEST if objective.endswith("_s") and not objective.endswith("_per_s") else f"best {label(objective)}"


def find(result: StudyResult, name: str) -> Evaluation:
    """Return the design that a person means.

    Parameters
    ----------
    result
        Of a study.
    name
        A trial's number as in ``front.csv`` and ``trials.parquet``, a front design as the report calls it (``F3``), or
        ``recommended``, ``cheapest`` (by the first objective in USD), ``fastest`` (by the first latency).

    Raises
    ------
    SpecError
        If there is no such design, or it was not simulated.
    """
    wanted = name.strip()
    if wanted == RECOMMENDED or wanted in (CHEAPEST, FASTEST):
        need_front(result)
        if wanted == RECOMMENDED:
            assert result.recommended
            return result.recommended
        for objective, evaluation in ends(result).items():
            if role(objective) == wanted:
                return evaluation
        names = ", ".join(result.spec.objectives)
        raise SpecError(f"{wanted}: no objective of {result.spec.name} says so; given: {names}")
    if wanted[:1] in "Ff" and wanted[1:].isdecimal():
        if not 1 <= int(wanted[1:]) <= len(result.front):
            raise SpecError(f"{wanted}: the front has F1 to F{len(result.front)}")
        return result.front[int(wanted[1:]) - 1]
    last = len(result.evaluations) - 1
    if not wanted.isdecimal() or int(wanted) > last:
        raise SpecError(
            f"{name}: no trial; allowed: 0 to {last}, F1 to F{len(result.front)}, {RECOMMENDED}, {CHEAPEST}, {FASTEST}"
        )
    evaluation = result.evaluations[int(wanted)]
    if not evaluation.simulated:
        raise SpecError(f"trial {wanted}: was not simulated: {evaluation.reason}")
    return evaluation
