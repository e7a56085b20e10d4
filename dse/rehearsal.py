"""A study on the beginning of its traces, to choose whom the whole traces are worth.

Where one simulation takes a second, a tenth of the requests tell most designs apart. What a rehearsal finds is
simulated first on the whole traces. Nothing is excluded by it: a design that fell through may still be proposed, and
stays open in the certificate until it is simulated or excluded by proof.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dse.evaluation import Evaluation
from dse.pareto import losses, non_dominated
from dse.result import StudyResult
from dse.spec import Case, Rehearsal, StudySpec
from search_spaces import Design
from simulator.spec.workload import Workload


def rehearsed(spec: StudySpec, plan: Rehearsal) -> StudySpec:
    """Return a study on the first requests of its workloads, without certificate, warm starts and confidence."""

    def short(workload: Workload) -> Workload:
        count = workload.requests
        return workload.model_copy(update={"requests": min(plan.requests, count) if count else plan.requests})

    cases = tuple(Case.model_construct(**{**dict(each), "workload": short(each.workload)}) for each in spec.workloads)
    return spec.model_copy(
        update={
            "workload": short(spec.workload),
            "workloads": cases,
            "budget": spec.budget.model_copy(
                update={"trials": plan.trials, "certified": None, "rehearsal": None, "timeout_s": None}
            ),
            "confidence": None,
        }
    )


def promoted(result: StudyResult, plan: Rehearsal) -> tuple[Design, ...]:
    """Return the designs of a rehearsal that are promoted: its front, then the front of the others, and so on.

    If nothing was feasible there, those that missed their promises by least.
    """
    left: Sequence[Evaluation] = result.feasible
    chosen: list[Design] = []
    while left and len(chosen) < plan.promoted:
        values = losses(np.array([each.objectives for each in left]), result.spec.objectives)
        front = set(non_dominated(values).tolist())
        chosen += [left[place].design for place in sorted(front)]
        left = [each for place, each in enumerate(left) if place not in front]
    if not chosen:
        nearest = sorted(result.simulated, key=lambda each: sum(max(0.0, v) for v in each.constraints.values()))
        chosen = [each.design for each in nearest]
    return tuple(chosen[: plan.promoted])
