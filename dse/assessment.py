"""A design's figures held against what a study promises; other prices need no new simulation for that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dse.objectives import direction_of, is_metric
from dse.spec import StudySpec

Figures = dict[str, float]


@dataclass(frozen=True)
class Assessment:
    """What figures are worth in a study.

    Attributes
    ----------
    objectives
        Values in the study's order, over all workloads, soft promises' penalties included; the worst imaginable where
        there is no finite value.
    constraints
        By name, how far each hard promise or bound is missed: zero or less if it holds, else at most 1.
    figures
        What there is to know over all workloads, without penalties; of several workloads also that of each, as
        ``NAME.FIGURE``.
    """

    objectives: tuple[float, ...]
    constraints: dict[str, float]
    figures: Figures


def assess(cases: Sequence[Figures], spec: StudySpec) -> Assessment:
    """Hold the figures of every workload against the promises of a study.

    The penalties of a workload make only its own objectives worse; then those of several workloads become one.

    Parameters
    ----------
    cases
        Figures of each of ``spec.cases``: every objective, every bounded metric, and for every SLO the fraction by
        which it is missed as ``<name>_excess``.
    spec
        The study.
    """
    cases = [{**figures, **_excesses(figures, spec)} for figures in cases]
    values = [
        _aggregated(name, [_penalised(name, figures, spec) for figures in cases], spec) for name in spec.objectives
    ]
    constraints: Figures = {}
    for each in spec.promises:
        if each.penalty is None:
            constraints[each.name] = _violation(max(figures[f"{each.name}_excess"] for figures in cases))
    if not all(map(math.isfinite, values)):
        # Rejected requests make latencies infinite, and where no request has two tokens there is no TPOT.
        constraints["finite"] = 1.0
    return Assessment(
        objectives=tuple(
            value if math.isfinite(value) else worst for value, worst in zip(values, worst_of(spec), strict=True)
        ),
        constraints=constraints,
        figures=_over_all(cases, spec),
    )


def figures_of_cases(figures: Figures, spec: StudySpec) -> list[Figures]:
    """Return the figures of each workload from those of :attr:`Assessment.figures`."""
    if len(spec.cases) == 1:
        return [figures]
    starts = [f"{case.name}." for case in spec.cases]
    return [
        {name.removeprefix(start): value for name, value in figures.items() if name.startswith(start)}
        for start in starts
    ]


def worst_of(spec: StudySpec) -> tuple[float, ...]:
    """Return the worst imaginable value of each objective of a study."""
    return tuple(math.inf if direction_of(name) == "minimize" else -math.inf for name in spec.objectives)


def _excesses(figures: Figures, spec: StudySpec) -> Figures:
    """Return by which fraction each bound is missed."""
    return {f"{bound.name}_excess": bound.excess(figures[bound.metric]) for bound in spec.constraints}


def _violation(excess: float) -> float:
    """Return a miss by the fraction ``v`` as ``v / (1 + v)``, so that no miss counts more than 1."""
    if excess <= 0:
        return excess
    return excess / (1 + excess) if math.isfinite(excess) else 1.0


def _penalised(name: str, figures: Figures, spec: StudySpec) -> float:
    """Return an objective, made worse by the factor ``1 + sum of penalty * excess`` over the soft promises missed.

    No metric is negative, so that a penalised value is never better than the value itself.
    """
    factor = 1.0 + sum(
        each.penalty * max(0.0, figures[f"{each.name}_excess"]) for each in spec.promises if each.penalty is not None
    )
    if not math.isfinite(factor):
        return math.nan
    value = figures[name]
    return value * factor if direction_of(name) == "minimize" else value / factor


def over_cases(
    losses: Sequence[float] | Sequence[npt.NDArray[np.float64]] | npt.NDArray[np.float64], spec: StudySpec
) -> npt.NDArray[np.float64]:
    """Return losses over all workloads: those of the worst, or the mean by weight; NaN where one has none.

    Parameters
    ----------
    losses
        Less is better; shape (workloads, ...).
    spec
        The study.
    """
    values = np.asarray(losses)
    if spec.robust == "weighted":
        return np.asarray(np.average(values, axis=0, weights=[case.weight for case in spec.cases]))
    return np.asarray(values.max(axis=0))


def _aggregated(name: str, values: Sequence[float], spec: StudySpec) -> float:
    """Return one value of a metric for all workloads; NaN if one has none."""
    if len(values) == 1:
        return values[0]
    sign = 1.0 if direction_of(name) == "minimize" else -1.0
    return sign * float(over_cases([sign * value for value in values], spec))


def _over_all(cases: Sequence[Figures], spec: StudySpec) -> Figures:
    """Return the figures of one workload; of several their metrics as one, the worst excesses, and those of each.

    What is neither a metric nor an excess stands there for all if it is the same in all: counts of devices.
    """
    if len(cases) == 1:
        return cases[0]
    whole: Figures = {}
    for name in cases[0]:
        values = [figures[name] for figures in cases if name in figures]
        if len(values) < len(cases):
            continue  # e.g. a latency of sessions, where only one workload has any
        if is_metric(name):
            whole[name] = _aggregated(name, values, spec)
        elif name.endswith("_excess"):
            whole[name] = max(values)
        elif len(set(values)) == 1:
            whole[name] = values[0]
    for case, figures in zip(spec.cases, cases, strict=True):
        whole |= {f"{case.name}.{name}": value for name, value in figures.items()}
    return whole
