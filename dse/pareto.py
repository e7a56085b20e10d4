"""Pareto fronts: who is on it, how much it covers, and which point to recommend.

Here every objective is minimised; :func:`losses` turns maximised ones around.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dse.objectives import direction_of

Floats = npt.NDArray[np.float64]


def losses(values: Floats, objectives: Sequence[str]) -> Floats:
    """Return objective values, shape (n, objectives), with maximised ones negated."""
    signs = np.array([1.0 if direction_of(name) == "minimize" else -1.0 for name in objectives])
    turned: Floats = np.asarray(values, dtype=np.float64).reshape(-1, len(objectives)) * signs
    return turned


def non_dominated(points: Floats) -> npt.NDArray[np.intp]:
    """Return the indices of the points that no other dominates, in order of the first objective.

    a dominates b if it is nowhere worse and somewhere better; of equal points the first is kept.
    """
    import moocore

    if not len(points):
        return np.zeros(0, dtype=np.intp)
    keep = np.flatnonzero(moocore.is_nondominated(points, keep_weakly=False))
    return keep[np.lexsort(points[keep].T[::-1])]


def reference_point(points: Floats) -> Floats:
    """Return a point a tenth of the range worse than every point (a tenth of the value if there is no range)."""
    worst, span = points.max(axis=0), np.ptp(points, axis=0)
    return np.asarray(worst + 0.1 * np.where(span > 0, span, np.maximum(np.abs(worst), 1e-12)))


def hypervolume(points: Floats, reference: Floats) -> float:
    """Return the volume that points dominate up to a reference point."""
    import moocore

    inside = points[(points < reference).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0


def relative_hypervolume(points: Floats, ideal: Floats, reference: Floats) -> float:
    """Return the hypervolume as a share of the box between the ideal and the reference point."""
    box = float(np.prod(reference - ideal))
    return hypervolume(points, reference) / box if box > 0 else 0.0


def scaled(points: Floats, front: Floats) -> Floats:
    """Return points in units of a front's range, measured from its best value of each objective."""
    span = np.ptp(front, axis=0)
    inside: Floats = (points - front.min(axis=0)) / np.where(span > 0, span, 1.0)
    return inside


def knee(front: Floats) -> int:
    """Return the index of the front point nearest to the ideal point.

    The objectives are scaled to the front's range, so that units do not matter; the ideal has the best value of each.
    """
    return int(np.argmin(np.linalg.norm(scaled(front, front), axis=1)))


def evenly(count: int, most: int, always: int) -> list[int]:
    """Return places of a front, at most ``most`` spread evenly over it and the one that is always shown, in order."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)} | {always})
