"""What feasible designs reach, by the value of one dimension or of two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dse.objectives import direction_of
from dse.result import StudyResult
from search_spaces.dimension import Value
from simulator import SpecError
from simulator.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd


def values_of(result: StudyResult, name: str) -> tuple[Value, ...]:
    """Return the values of a dimension of a study's space.

    Raises
    ------
    SpecError
        If there is none of that name.
    """
    known = {each.name: tuple(each.values) for each in result.spec.space.space.dimensions}
    if name not in known:
        raise unknown_name("dimension", name, known)
    return known[name]


def slices(result: StudyResult, dimension: str) -> pd.DataFrame:
    """Return what designs with each value of a dimension reach, without any simulation.

    Parameters
    ----------
    result
        Of a study.
    dimension
        Name of a dimension of its space, e.g. ``main.tp``.

    Returns
    -------
    pandas.DataFrame
        By value, in the order of the space: ``simulated`` and ``feasible`` designs, and of the feasible ones
        ``<objective>_best`` and ``<objective>_median`` (NaN where none is). Other choices vary freely within a row, so
        rows differ by more than the value: :func:`~dse.understanding.difference` changes one choice alone.

    Raises
    ------
    SpecError
        If the space has no such dimension.
    """
    import pandas as pd

    choices = values_of(result, dimension)
    rows = []
    for value in choices:
        simulated = [e for e in result.simulated if e.design.get(dimension) == value]
        feasible = pd.DataFrame([e.objectives for e in simulated if e.feasible], columns=list(result.spec.objectives))
        row: dict[str, float] = {"simulated": len(simulated), "feasible": len(feasible)}
        for name in result.spec.objectives:
            lower = direction_of(name) == "minimize"
            row[f"{name}_best"] = feasible[name].min() if lower else feasible[name].max()
            row[f"{name}_median"] = feasible[name].median()
        rows.append(row)
    frame = pd.DataFrame(rows, index=pd.Index(choices, name=dimension))
    return frame.astype({"simulated": int, "feasible": int})


def pair_slices(result: StudyResult, first: str, second: str, objective: str) -> pd.DataFrame:
    """Return the best of an objective that feasible designs reach with each pair of values, without any simulation.

    Parameters
    ----------
    result
        Of a study.
    first, second
        Names of two dimensions of its space.
    objective
        One of the study's; the values are in its unit.

    Returns
    -------
    pandas.DataFrame
        Rows: values of ``first``; columns: those of ``second``; NaN where no feasible design has both.

    Raises
    ------
    SpecError
        If the space has no such dimension, both are the same, or the study no such objective.
    """
    import pandas as pd

    rows, columns = values_of(result, first), values_of(result, second)
    if first == second:
        raise SpecError(f"a pair needs two dimensions, given {first} twice")
    if objective not in result.spec.objectives:
        raise SpecError(f"no objective {objective!r}; known: {', '.join(result.spec.objectives)}")
    place = result.spec.objectives.index(objective)
    sign = 1.0 if direction_of(objective) == "minimize" else -1.0
    best = np.full((len(rows), len(columns)), np.nan)
    for e in result.feasible:
        if first in e.design and second in e.design:
            cell = rows.index(e.design[first]), columns.index(e.design[second])
            best[cell] = np.fmin(best[cell], sign * e.objectives[place])
    return pd.DataFrame(sign * best, index=pd.Index(rows, name=first), columns=pd.Index(columns, name=second))
