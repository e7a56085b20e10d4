"""Which arithmetic, memory bandwidth, memory and links does a chip need for a use case?"""

from dse.requirements.bounds import Bound, bounds_of
from dse.requirements.chip import Chip, Resource
from dse.requirements.demand import Demand
from dse.requirements.judge import Judge, Verdict
from dse.requirements.requirements import Candidate, Requirements, requirements_of
from dse.requirements.solver import Solution
from dse.requirements.use_case import UseCase

__all__ = [
    "Bound",
    "Candidate",
    "Chip",
    "Demand",
    "Judge",
    "Requirements",
    "Resource",
    "Solution",
    "UseCase",
    "Verdict",
    "bounds_of",
    "requirements_of",
]
