"""Which designs of a study might be on its front, if the draw had been another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from dse.confidence.interval import Floats
from dse.confidence.judgement import Record
from dse.evaluation import Evaluation
from dse.pareto import losses, non_dominated

NEAREST: Final = 5
"""Designs that replications begin with where none is feasible: those that miss least."""


def first_designs(simulated: Sequence[Evaluation], objectives: Sequence[str]) -> list[int]:
    """Return the indices of the front's designs, or of the nearest to feasible if there is no front."""
    feasible = [index for index, each in enumerate(simulated) if each.feasible]
    if not feasible:
        worst = [max(each.constraints.values(), default=0.0) for each in simulated]
        return [int(index) for index in np.argsort(worst, kind="stable")[:NEAREST]]
    points = losses(np.array([simulated[index].objectives for index in feasible]), objectives)
    return [feasible[place] for place in non_dominated(points)]


def deviations(records: Sequence[Record]) -> tuple[Floats, dict[str, float]]:
    """Return how much single runs vary: in each objective the difference of two designs, relative; each promise alone.

    All designs meet the same requests, so what a draw does to all of them alike changes no front. Of all designs (and
    pairs) the largest standard deviation is taken; of a single design its own.

    Parameters
    ----------
    records
        Replications of the first designs, all equally many.

    Returns
    -------
    tuple
        Shape (objectives,), relative to the value; by promise, in its unit.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.array([each.losses / np.abs(np.mean(each.losses, axis=0)) for each in records])
    relative = np.where(np.isfinite(relative), relative, 0.0)  # of a value that is 0, say
    pairs = list(combinations(relative, 2))
    differences = [one - other for one, other in pairs] or list(relative)
    missed: dict[str, float] = {}
    for record in records:
        for name, values in record.missed.items():
            missed[name] = max(missed.get(name, 0.0), float(np.std(values, ddof=1)))
    return np.max([np.std(each, axis=0, ddof=1) for each in differences], axis=0), missed


def distances(
    simulated: Sequence[Evaluation],
    front: Sequence[int],
    objectives: Sequence[str],
    deviation: Floats,
    missed_deviation: dict[str, float],
) -> Floats:
    """Return by how many standard deviations of a run each design is away from the front, shape (designs,).

    0 for the front's own designs. A design needs enough luck to keep its promises, and against every design of the
    front enough of it in some objective. What does not vary (a price) no luck can change: infinite.
    """
    points = losses(np.array([each.objectives for each in simulated]), objectives)
    away = np.zeros(len(simulated))
    for index, each in enumerate(simulated):
        for name, value in each.constraints.items():
            if value > 0:
                spread = missed_deviation.get(name, 0.0)
                away[index] = max(away[index], value / spread if spread > 0 else math.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = deviation * np.abs(points)
        for other in front:
            behind = points - points[other]
            needed = np.where(behind < 0, 0.0, np.where(unit > 0, behind / unit, math.inf)).min(axis=1)
            # Who is equal to a design of the front, a twin, needs as much luck as one just behind.
            away = np.maximum(away, np.where(np.isnan(needed), math.inf, needed))
    away[list(front)] = 0.0
    return away


def near(
    simulated: Sequence[Evaluation], front: Sequence[int], away: Floats, reach: float, most: int
) -> tuple[list[int], int]:
    """Return the front and the designs within ``reach`` of it, nearest first, and how many were left out.

    Of designs that are the same in all objectives and promises the first is taken: they are one design by another
    name (a batch limit that never binds).
    """
    seen = {_fingerprint(simulated[index]) for index in front}
    kept, left = list(front), 0
    for index in np.argsort(away, kind="stable"):
        place = int(index)
        if away[place] > reach or place in front or _fingerprint(simulated[place]) in seen:
            continue
        seen.add(_fingerprint(simulated[place]))
        if len(kept) < max(most, len(front)):
            kept.append(place)
        else:
            left += 1
    return kept, left


def _fingerprint(evaluation: Evaluation) -> tuple[object, ...]:
    return (evaluation.objectives, tuple(sorted(evaluation.constraints.items())))
