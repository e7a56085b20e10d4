"""Whether claims hold."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dse.comparison.spec import Claim, Comparison, Operand, Relation

if TYPE_CHECKING:
    import pandas as pd

_RELATIONS: Final[dict[Relation, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Verdict:
    """A claim, and what came out.

    Attributes
    ----------
    claim
        What was expected.
    left, right
        Values of both sides, factors included.
    """

    claim: Claim
    left: float
    right: float

    @property
    def holds(self) -> bool:
        """Whether left stands to right as claimed; never if either is not a number."""
        return _RELATIONS[self.claim.relation](self.left, self.right)

    @property
    def failed(self) -> bool:
        """Whether the outcome is not the expected one: it does not hold and that was not known, or the reverse."""
        return self.holds == (self.claim.differs is not None)

    @property
    def words(self) -> str:
        """The outcome in words."""
        if self.holds:
            return "holds, though marked as differing" if self.claim.differs else "holds"
        return "does not hold, as known" if self.claim.differs else "does not hold"


def verdicts(spec: Comparison, table: pd.DataFrame) -> list[Verdict]:
    """Return the outcome of each claim of a comparison.

    Parameters
    ----------
    spec
        The comparison.
    table
        Of :func:`~dse.comparison.run_comparison`: a row for each case, a column for each figure.
    """

    def value(side: Operand) -> float:
        if side.value is not None:
            return side.value * side.times
        assert side.case is not None
        return float(table.loc[side.case, side.figure]) * side.times  # type: ignore[arg-type, index]

    return [Verdict(claim, value(claim.left), value(claim.right)) for claim in spec.expect]
