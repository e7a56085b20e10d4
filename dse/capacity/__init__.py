"""Questions of capacity: the highest rate a design sustains, what a rate costs at least, a sweep of rates."""

from dse.capacity.capacity import Capacity, capacity_of
from dse.capacity.least_cost import least_cost, scaled
from dse.capacity.search import Search, search
from dse.capacity.sweep import knee_of, sweep
from dse.capacity.trial import Load, Trial, at_rate, attempt

__all__ = [
    "Capacity",
    "Load",
    "Search",
    "Trial",
    "at_rate",
    "attempt",
    "capacity_of",
    "knee_of",
    "least_cost",
    "scaled",
    "search",
    "sweep",
]
