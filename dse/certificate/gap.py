"""The largest hypervolume that designs could still add to a front, from what they cannot beat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dse.pareto import Floats, hypervolume, non_dominated, reference_point


def gap(front: Floats, floors: Floats) -> float:
    """Return by which share of a front's hypervolume the designs with some floors could raise it at most.

    The reference point lies a tenth of the range beyond the worst of the front; and, as a design may extend the front,
    beyond the worst of the front that the floors would make. The larger of the two shares counts. With one objective
    it is the share by which the best value could improve.

    Parameters
    ----------
    front
        Losses of the designs of the front, shape (n, objectives).
    floors
        Losses that open designs cannot beat, shape (m, objectives).

    Returns
    -------
    float
        0 if none could add anything; infinite without a front while a design is open.
    """
    if not len(floors):
        return 0.0
    if not len(front) or not np.isfinite(floors).all():
        return float("inf")
    if front.shape[1] == 1:
        best = float(front.min())
        return max(0.0, best - float(floors.min())) / max(abs(best), 1e-300)
    both = np.concatenate([front, floors])
    reached = both[non_dominated(both)]
    near = reference_point(front)
    return max(_added(front, reached, near), _added(front, reached, np.maximum(near, reference_point(reached))))


def _added(front: Floats, best: Floats, reference: Floats) -> float:
    """Return the hypervolume of the best front over that of the front, less one."""
    now = hypervolume(front, reference)
    return hypervolume(best, reference) / now - 1.0 if now > 0 else float("inf")


def dominated(floors: Floats, front: Floats) -> npt.NDArray[np.bool_]:
    """Tell which designs cannot add anything to a front: some design of it is nowhere worse than their floors.

    Parameters
    ----------
    floors, front
        Losses, shapes (m, objectives) and (n, objectives).

    Returns
    -------
    ndarray of bool, shape (m,)
    """
    beaten = np.zeros(len(floors), dtype=np.bool_)
    for point in front:
        beaten |= (point <= floors).all(axis=1)
    return beaten
