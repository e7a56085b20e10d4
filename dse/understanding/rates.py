"""What another rate of requests does to the designs of a front: simulated, those designs only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dse.capacity.trial import at_rate
from dse.evaluation import Evaluation, evaluate
from dse.result import StudyResult
from dse.understanding.picks import need_front, trial_of
from simulator import Requests, SpecError

if TYPE_CHECKING:
    import pandas as pd

FACTORS = (0.8, 0.9, 1.1, 1.2)
"""Changes of the rate that are looked at."""
MOST_FACTOR = 64.0
"""Rate at which the search for the first failure ends, by today's."""
PRECISION = 0.01
"""Relative width to which the rate of the first failure is found."""


def rate_of(result: StudyResult) -> float:
    """Return the mean rate at which requests (sessions) arrive, per second; of several workloads that of the first."""
    return result.requests.rate_rps


def need_rate(result: StudyResult) -> None:
    """Refuse a study that has no rate to change.

    Raises
    ------
    SpecError
        If all requests of a workload arrive at once.
    """
    if any(math.isinf(requests.rate_rps) for requests in result.load):
        raise SpecError(f"{result.spec.name}: all requests arrive at once, so there is no rate to change")


def load_at(result: StudyResult, factor: float) -> tuple[Requests, ...]:
    """Return a study's requests at another rate: the same ones, closer together or farther apart.

    Of several workloads each changes by the same factor.

    Raises
    ------
    SpecError
        If the factor is not above zero, or all requests arrive at once.
    """
    if not (factor > 0 and math.isfinite(factor)):
        raise SpecError(f"rate: must be above 0, given {factor:g} times the study's")
    need_rate(result)
    return tuple(at_rate(requests, requests.rate_rps * factor) for requests in result.load)


def rate_sensitivity(
    result: StudyResult, factors: Sequence[float] = FACTORS, designs: Sequence[Evaluation] | None = None
) -> pd.DataFrame:
    """Return which designs of the front keep their SLOs at other rates. Simulates each design once a rate.

    Parameters
    ----------
    result
        A study with a front.
    factors
        New rate by today's.
    designs
        Designs to look at; the front if absent.

    Returns
    -------
    pandas.DataFrame
        By ``trial`` and ``factor``: ``rate_rps``, ``feasible``, ``broken`` (SLOs and limits that do not hold, the
        worst first, with commas), ``least_slack`` (least share of an SLO's limit that is left; NaN if not simulated),
        and the objectives. Designs beyond today's front are not looked at: at a lower rate smaller ones, not feasible
        today, may be better.

    Raises
    ------
    SpecError
        If nothing is feasible, or a rate impossible.
    """
    import pandas as pd

    need_front(result)
    rows = []
    for factor in factors:
        load = load_at(result, factor)
        for e in result.front if designs is None else designs:
            found = evaluate(e.design, result.spec, load)
            slacks = [-found.figures[f"{slo.name}_excess"] for slo in result.spec.slos if found.simulated]
            rows.append(
                {
                    "trial": trial_of(result, e),
                    "factor": factor,
                    "rate_rps": rate_of(result) * factor,
                    "feasible": found.feasible,
                    "broken": ", ".join(found.broken),
                    "least_slack": min(slacks, default=math.nan),
                    **dict(zip(result.spec.objectives, found.objectives, strict=True)),
                }
            )
    return pd.DataFrame(rows).set_index(["trial", "factor"])


@dataclass(frozen=True)
class FirstFailure:
    """The rate up to which a design keeps every SLO.

    Attributes
    ----------
    kept_rps
        Highest rate at which it was seen to keep all.
    broken_rps
        Lowest rate at which it was seen to break one, at most 1 % above; infinite if it never did.
    broken
        What it breaks there: an SLO, or another constraint.
    factor
        ``kept_rps`` by the study's rate.
    simulations
        How many it took.
    """

    kept_rps: float
    broken_rps: float
    broken: str
    factor: float
    simulations: int


def first_failure(result: StudyResult, evaluation: Evaluation) -> FirstFailure:
    """Return up to which rate a feasible design keeps every SLO, and which one fails first.

    The rate is doubled until something fails, up to 64 times, then bisected to 1 %: about 12 simulations with the
    same requests, closer together. It takes for granted that what fails at a rate fails at all higher ones, and judges
    as the study does: a queue that grows but breaks nothing before the last request is not seen. ``dse capacity`` finds
    the rate that is sustained for good.

    Parameters
    ----------
    result
        The study it is from.
    evaluation
        A feasible design, e.g. ``result.recommended``.

    Raises
    ------
    SpecError
        If the design is not feasible at the study's own rate, or all requests arrive at once.
    """
    if not evaluation.feasible:
        broken = ", ".join(evaluation.broken)
        raise SpecError(f"trial {trial_of(result, evaluation)}: breaks {broken} at the study's own rate")
    base, simulations = rate_of(result), 0
    failure = ""

    def fails(factor: float) -> bool:
        nonlocal simulations, failure
        simulations += 1
        broken = evaluate(evaluation.design, result.spec, load_at(result, factor)).broken
        failure = broken[0] if broken else failure
        return bool(broken)

    kept, lost = 1.0, 2.0
    while not fails(lost):
        kept, lost = lost, 2 * lost
        if lost > MOST_FACTOR:
            return FirstFailure(kept * base, math.inf, "", kept, simulations)
    while lost / kept - 1 > PRECISION:
        middle = math.sqrt(kept * lost)
        kept, lost = (kept, middle) if fails(middle) else (middle, lost)
    return FirstFailure(kept * base, lost * base, failure, kept, simulations)
