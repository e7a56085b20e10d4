"""Hypervolume along directions: what a point would add to a front, for very many points at once.

The hypervolume of points below a reference ``r`` is, up to a constant, the mean over directions ``d`` of
``max over points z of min over objectives j of (r_j − z_j)/d_j`` to the power of the number of objectives
(Deng and Zhang, "Approximating Hypervolume and Hypervolume Contributions Using Polar Coordinate", IEEE TEVC 2019).
"""

from __future__ import annotations

import heapq

import numpy as np
from scipy.stats import norm, qmc

from dse.screening.pool_settings import Floats

DIRECTIONS = 64
"""Directions along which hypervolume is measured."""


def directions(objectives: int, count: int = DIRECTIONS) -> Floats:
    """Return directions of length 1, spread evenly over the positive orthant, shape (count, objectives)."""
    uniform = qmc.Halton(objectives, scramble=False).random(count + 1)[1:]
    spread = np.abs(norm.ppf(0.5 + 0.5 * np.clip(uniform, 1e-4, 1 - 1e-4)))
    return np.asarray(spread / np.linalg.norm(spread, axis=1, keepdims=True))


def reach(points: Floats, reference: Floats, along: Floats) -> Floats:
    """Return how far points reach along directions, to the power of objectives, shape (points, directions)."""
    room = np.maximum(reference - points, 0.0)
    far = np.multiply.outer(room[:, 0], 1.0 / along[:, 0])
    for column in range(1, points.shape[1]):
        np.minimum(far, np.multiply.outer(room[:, column], 1.0 / along[:, column]), out=far)
    return np.asarray(far ** points.shape[1])


def most_added(reaches: Floats, covered: Floats, weight: Floats, count: int, least: float = 0.0) -> list[int]:
    """Return the points that together add most to what is covered, chosen one after the other.

    What a point adds only shrinks as others are chosen, so only the best of the last ranking is computed anew.

    Parameters
    ----------
    reaches
        Of each point along each direction, shape (points, directions).
    covered
        Reach of the front along each direction, shape (directions,); left as it is.
    weight
        Weight of what each point adds, e.g. the probability that it is feasible, shape (points,).
    count
        Points to choose at most.
    least
        What a point must add, averaged over directions and weighted, to be chosen.
    """
    covered = covered.copy()
    added = np.maximum(reaches - covered, 0.0).mean(axis=1) * weight
    heap = [(-added[i], i) for i in np.argsort(-added, kind="stable")[: 20 * count].tolist() if added[i] > least]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < count:
        _, i = heapq.heappop(heap)
        now = float(np.maximum(reaches[i] - covered, 0.0).mean() * weight[i])
        if now <= least:
            continue
        if heap and now < -heap[0][0]:
            heapq.heappush(heap, (-now, i))
            continue
        chosen.append(i)
        covered = np.maximum(covered, reaches[i] * min(1.0, 2.0 * weight[i]))
    return chosen
