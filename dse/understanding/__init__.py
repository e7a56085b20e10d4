"""Why a study found what it found: picks, importance, slices, what binds, differences, prices, rates.

Every function takes a :class:`~dse.result.StudyResult` (of ``run_study``, or ``dse.output.load`` of a run's folder) and
returns a table or a frozen record. Only :func:`difference`, :func:`resources`, :func:`rate_sensitivity` and
:func:`first_failure` simulate, and say how often.
"""

from dse.understanding.binding import binding
from dse.understanding.difference import Difference, difference
from dse.understanding.importance import importance
from dse.understanding.picks import ends, find, weighted_pick
from dse.understanding.prices import break_even, price_sensitivity, repriced
from dse.understanding.rates import FirstFailure, first_failure, rate_sensitivity
from dse.understanding.resources import resources
from dse.understanding.slices import pair_slices, slices

__all__ = [
    "Difference",
    "FirstFailure",
    "binding",
    "break_even",
    "difference",
    "ends",
    "find",
    "first_failure",
    "importance",
    "pair_slices",
    "price_sensitivity",
    "rate_sensitivity",
    "repriced",
    "resources",
    "slices",
    "weighted_pick",
]
