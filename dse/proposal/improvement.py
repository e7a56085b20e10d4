"""Which designs promise to add most to a front."""

from __future__ import annotations

import numpy as np

from dse.pareto import non_dominated, reference_point
from dse.screening.directions import directions, most_added, reach
from dse.screening.outlook import Hope, Outlook
from dse.screening.pool_settings import Floats

OPTIMISM = 1.0
"""Standard errors by which a design may be better than expected when it is chosen."""
HOPELESS = 0.02
"""Probability of being feasible below which a design is not looked at."""
BOLD = 3.0
"""Standard errors by which a design may be better than expected once none is expected to be better."""
WORTHWHILE = 1e-3
"""Share of the hypervolume that a design must be expected to add to be chosen for its forecast."""


def expected(
    outlook: Outlook,
    hope: Hope,
    front: Floats,
    count: int,
    *,
    optimism: float = OPTIMISM,
    least: float = WORTHWHILE,
) -> list[int]:
    """Return the designs that are expected to add most to a front.

    Parameters
    ----------
    outlook, hope
        What to expect of the designs.
    front
        Losses of the front so far, shape (n, objectives).
    count
        Designs to choose at most.
    optimism
        Standard errors by which a design may be better than expected.
    least
        Share of the hypervolume that each must be expected to add.

    Returns
    -------
    list of int
        Places among the designs of ``hope``, best first.
    """
    rows = np.flatnonzero(hope.feasible > HOPELESS)
    if not len(rows):
        return []
    hope = hope.of(rows)
    likely = outlook.losses(hope, 0.0)[hope.feasible > 0.5]
    base = np.concatenate([front, likely]) if len(front) or len(likely) else outlook.losses(hope, 0.0)
    base = base[non_dominated(base)]
    return [int(rows[i]) for i in _chosen(outlook.losses(hope, optimism), hope.feasible, front, base, count, least)]


def possible(floors: Floats, likely: Floats, front: Floats, count: int) -> list[int]:
    """Return the designs that could add most to a front at best.

    Many designs have the same floor, and it is settled only when all of them are: so floors are chosen, and their
    designs one after the other, those first that are more likely to be feasible.

    Parameters
    ----------
    floors
        Losses that the designs cannot beat, shape (designs, objectives).
    likely
        Probability that they are feasible, shape (designs,).
    front
        Losses of the front so far, shape (n, objectives).
    count
        Designs to choose.
    """
    # Without a bound an objective may be as good as the best that any design may have, or better: nobody knows.
    least = np.where(np.isfinite(floors), floors, np.inf).min(axis=0, initial=np.inf)
    known = np.where(np.isfinite(floors), floors, np.where(np.isfinite(least), least, 0.0))
    different, which = np.unique(known, axis=0, return_inverse=True)
    base = np.concatenate([front, different])
    base = base[non_dominated(base)]
    best = _chosen(different, np.ones(len(different)), front, base, count, 0.0)
    place = np.full(len(different), len(different), dtype=np.intp)
    place[best] = np.arange(len(best))
    order = np.lexsort((-likely, which.reshape(-1)))
    group = which.reshape(-1)[order]
    turn = np.arange(len(order)) - np.searchsorted(group, group)
    wanted = place[group] < len(different)
    order, group, turn = order[wanted], group[wanted], turn[wanted]
    return [int(row) for row in order[np.lexsort((place[group], turn))[:count]]]


def _chosen(points: Floats, weight: Floats, front: Floats, base: Floats, count: int, least: float) -> list[int]:
    """Return the points that together add most to a front, in units of the range of a base."""
    reference, span = reference_point(base), np.ptp(base, axis=0)
    span = np.where(span > 0, span, np.maximum(np.abs(reference), 1e-12))
    along = directions(points.shape[1])
    covered = reach(front / span, reference / span, along).max(axis=0) if len(front) else np.zeros(len(along))
    whole = max(float(covered.mean()), float(reach(base / span, reference / span, along).max(axis=0).mean()))
    return most_added(reach(points / span, reference / span, along), covered, weight, count, least * whole)
