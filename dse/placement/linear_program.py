"""A mixed-integer linear program, row by row, and its solution by HiGHS with what the solver proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

INFINITE: Final = float("inf")

NOTHING: Final = 1e-9
"""Relative gap below which a solution is optimal: what is left of it is rounding of the solver's sums."""

Status = Literal["optimal", "feasible", "infeasible", "unknown"]
"""Solved and proved; the best that was found in the time given; proved to have no solution; none found in time."""


@dataclass(frozen=True)
class Solution:
    """What the solver found and proved of a minimum.

    Attributes
    ----------
    status
        Whether it is proved.
    values
        Of all variables, shape (variables,); empty without a solution.
    objective
        Of the solution; infinite without one.
    bound
        No solution is below it (HiGHS's dual bound).
    nodes
        Nodes of the branch-and-bound tree.
    """

    status: Status
    values: npt.NDArray[np.float64]
    objective: float
    bound: float
    nodes: int

    @property
    def gap(self) -> float:
        """``(objective - bound) / objective``, not negative; infinite without a solution."""
        if self.objective == INFINITE:
            return INFINITE
        return max(0.0, self.objective - self.bound) / max(abs(self.objective), 1e-300)


@dataclass
class LinearProgram:
    """Variables, rows ``low <= sum of coefficients * variables <= high`` and a sum to minimise."""

    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)
    cost: dict[int, float] = field(default_factory=dict)

    def variable(self, lower: float = 0.0, upper: float = INFINITE, *, integer: bool = False) -> int:
        """Add a variable; return its number."""
        self.lower.append(lower)
        self.upper.append(upper)
        self.integer.append(integer)
        return len(self.lower) - 1

    def at_most(self, terms: Mapping[int, float], limit: float) -> None:
        """Add the row ``sum of coefficient * variable <= limit``."""
        self.rows.append((dict(terms), -INFINITE, limit))

    def at_least(self, terms: Mapping[int, float], limit: float) -> None:
        """Add the row ``sum of coefficient * variable >= limit``."""
        self.rows.append((dict(terms), limit, INFINITE))

    def equal(self, terms: Mapping[int, float], value: float) -> None:
        """Add the row ``sum of coefficient * variable = value``."""
        self.rows.append((dict(terms), value, value))

    def minimise(self, time_limit_s: float) -> Solution:
        """Solve it with HiGHS (Huangfu and Hall, Mathematical Programming Computation 10, 2018) through SciPy.

        Parameters
        ----------
        time_limit_s
            After which the best solution so far is returned with the bound proved so far.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        count = len(self.lower)
        cost = np.zeros(count)
        for variable, coefficient in self.cost.items():
            cost[variable] = coefficient
        places = [(row, column) for row, (terms, _, _) in enumerate(self.rows) for column in terms]
        coefficients = [value for terms, _, _ in self.rows for value in terms.values()]
        matrix = csr_array((coefficients, tuple(zip(*places, strict=True))), shape=(len(self.rows), count))
        found = milp(
            cost,
            integrality=np.array(self.integer, dtype=np.int64),
            bounds=Bounds(np.array(self.lower), np.array(self.upper)),
            constraints=LinearConstraint(matrix, [row[1] for row in self.rows], [row[2] for row in self.rows]),
            options={"mip_rel_gap": 0.0, "time_limit": time_limit_s},
        )
        nodes = int(found.get("mip_node_count") or 0)
        if found.status == 2:
            return Solution("infeasible", np.empty(0), INFINITE, INFINITE, nodes)
        bound = -INFINITE if found.get("mip_dual_bound") is None else float(found.mip_dual_bound)
        if found.x is None:
            return Solution("unknown", np.empty(0), INFINITE, bound, nodes)
        solution = Solution("feasible", np.asarray(found.x), float(found.fun), bound, nodes)
        if solution.gap > NOTHING:
            return solution
        return Solution("optimal", solution.values, solution.objective, bound, nodes)
