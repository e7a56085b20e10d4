"""Which choices tell good designs from others.

Conditional PED-ANOVA for dimensions of finitely many values, in closed form. For a dimension let p(v) be the share of
a value among all designs in which the dimension is active, and q(v) its share among the best of them. The Pearson
divergence

    D = Σ_v p(v) (q(v) / p(v) − 1)²

is 0 if the dimension does not tell the best from the rest. Where it is active in a share β of all designs and in a
share α of the best, it counts α²/β times: a choice inside a layout that no good design has explains nothing.

Sources: Watanabe, Bansal, Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
Subspaces" (IJCAI 2023, arXiv 2304.10255), and its conditional form (arXiv 2601.20800). Optuna's evaluator computes the
same from Parzen estimators, whose prior favours no value; here shares are counted, so that what chance alone would
give is known: with n designs of k values, m of them the best, D is on average

    (k − 1) / m · (n − m) / (n − 1)

(the variance of the hypergeometric distribution), and m D (n − 1) / (n − m) is χ² with k − 1 degrees of freedom. The
average is subtracted: without that, twelve counts of clients look more important than two layouts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dse.pareto import losses, non_dominated
from dse.result import StudyResult
from search_spaces.dimension import Value

if TYPE_CHECKING:
    import pandas as pd

Booleans = npt.NDArray[np.bool_]

TOP = 0.2
"""Share of feasible designs that count as the best."""
FEWEST = 5
"""Designs that must be among the best, and among the others, for a statement."""
FEASIBLE, FRONT = "feasible", "front"
"""Questions beside the objectives: what keeps the SLOs, and what comes near the front."""


@dataclass(frozen=True)
class Divergence:
    """How differently one dimension is chosen among the best designs.

    Attributes
    ----------
    value
        Conditional Pearson divergence; 0: not at all.
    by_chance
        Its mean if the best were drawn blindly from the designs in which the dimension is active.
    p_value
        Probability of at least this divergence by chance.
    favoured
        The value whose share among the best exceeds its share among all most; None if the dimension tells nothing.
    share_of_best, share_of_all
        Of the favoured value, where the dimension is active.
    active
        Share of all designs in which it is.
    """

    value: float
    by_chance: float
    p_value: float
    favoured: Value | None
    share_of_best: float
    share_of_all: float
    active: float


def divergence(designs: Sequence[Mapping[str, Value]], best: Booleans, dimension: str) -> Divergence:
    """Return how differently a dimension is chosen among the best of some designs.

    Parameters
    ----------
    designs
        Active choices of each.
    best
        Which of them count as the best, shape (designs,).
    dimension
        Its name; designs without it are those in which it is inactive.
    """
    from scipy.stats import chi2

    active = np.array([dimension in design for design in designs], dtype=np.bool_)
    n, m = int(active.sum()), int((active & best).sum())
    values = list(dict.fromkeys(design[dimension] for design in designs if dimension in design))
    if m == 0 or len(values) < 2:
        return Divergence(0.0, 0.0, 1.0, None, math.nan, math.nan, n / len(designs))
    code = {value: place for place, value in enumerate(values)}
    codes = np.array([code[design[dimension]] for design in designs if dimension in design])
    p = np.bincount(codes, minlength=len(values)) / n
    q = np.bincount(codes[best[active]], minlength=len(values)) / m
    within = float(np.sum((q - p) ** 2 / p))
    weight = (m / int(best.sum())) ** 2 / (n / len(designs))
    blind = (len(values) - 1) / m * (n - m) / (n - 1)
    likely = float(chi2.sf(m * within * (n - 1) / (n - m), len(values) - 1)) if n > m else 1.0
    first = int(np.argmax(q - p))
    return Divergence(
        weight * within, weight * blind, likely, values[first], float(q[first]), float(p[first]), n / len(designs)
    )


def near_front(points: npt.NDArray[np.float64], wanted: int) -> Booleans:
    """Return which points lie on the front, or on the fronts below it, until at least ``wanted`` do; minimised."""
    chosen = np.zeros(len(points), dtype=np.bool_)
    while chosen.sum() < wanted:
        left = np.flatnonzero(~chosen)
        chosen[left[non_dominated(points[left])]] = True
    return chosen


def questions(result: StudyResult) -> dict[str, tuple[list[Mapping[str, Value]], Booleans]]:
    """Return for each question the designs it is about and which of them are the best; without those too few answer."""
    asked: dict[str, tuple[list[Mapping[str, Value]], Booleans]] = {}
    kept = np.array([e.feasible for e in result.simulated], dtype=np.bool_)
    asked[FEASIBLE] = [e.design for e in result.simulated], kept
    if result.feasible:
        designs: list[Mapping[str, Value]] = [e.design for e in result.feasible]
        points = losses(np.array([e.objectives for e in result.feasible]), result.spec.objectives)
        wanted = max(FEWEST, math.ceil(TOP * len(designs)))
        if len(designs) > wanted:
            if points.shape[1] > 1:
                asked[FRONT] = designs, near_front(points, wanted)
            for name, column in zip(result.spec.objectives, points.T, strict=True):
                asked[name] = designs, np.asarray(column <= np.sort(column)[wanted - 1])
    return {
        name: (designs, best)
        for name, (designs, best) in asked.items()
        if FEWEST <= int(best.sum()) <= len(designs) - FEWEST
    }


def importance(result: StudyResult) -> pd.DataFrame:
    """Return which choices tell good designs from others, without any simulation.

    ``feasible`` asks what tells the feasible designs from all simulated ones; ``front`` and each objective ask what
    tells the best fifth of the feasible designs from all feasible ones (``front``: by the layers of dominance).

    What was searched counts, not what could have been: a sampler that soon leaves a value leaves little to compare.
    Only marginal effects count: two choices that help only together may both look unimportant.

    Returns
    -------
    pandas.DataFrame
        By question and dimension: ``importance`` (share of all divergence above chance, summing to 1 in each question
        unless nothing exceeds chance), ``divergence``, ``by_chance``, ``p_value``, and the ``favoured`` value with its
        ``share_of_best`` and ``share_of_all`` where the dimension is active, in a share ``active`` of all
        designs. Questions with fewer than 5 best or 5 other designs are left out.
    """
    import pandas as pd

    rows = []
    for question, (designs, best) in questions(result).items():
        found = {d.name: divergence(designs, best, d.name) for d in result.spec.space.space.dimensions}
        above = {name: max(0.0, each.value - each.by_chance) for name, each in found.items()}
        whole = sum(above.values())
        rows += [
            {
                "question": question,
                "dimension": name,
                "importance": above[name] / whole if whole else 0.0,
                "divergence": each.value,
                "by_chance": each.by_chance,
                "p_value": each.p_value,
                "favoured": each.favoured,
                "share_of_best": each.share_of_best,
                "share_of_all": each.share_of_all,
                "active": each.active,
            }
            for name, each in sorted(found.items(), key=lambda item: -above[item[0]])
        ]
    columns = ["importance", "divergence", "by_chance", "p_value", "favoured", "share_of_best", "share_of_all"]
    columns.append("active")
    return pd.DataFrame(rows, columns=["question", "dimension", *columns]).set_index(["question", "dimension"])
