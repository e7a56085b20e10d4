"""Whether a study is taken: what it consists of, held against the limits, and what its author should know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dse.evaluation import deployment_of
from dse.proposal.finite import LISTABLE
from dse.provenance import caveat
from dse.service.answers.records import Dimension, StudyCheck
from dse.service.answers.study_view import objectives_of
from dse.service.settings import Limits
from dse.service.storage.studies import LARGEST
from dse.spec import MOST_TRIALS, StudySpec
from search_spaces import Space
from simulator import Pool
from simulator.errors import Problem, SpecError
from simulator.workload.size import requests_of


@dataclass(frozen=True)
class Admitted:
    """A study that is within the limits.

    Attributes
    ----------
    spec
        As it will run.
    space
        Its dimensions.
    designs, requests
        In the space; of all workloads together, at most.
    """

    spec: StudySpec
    space: Space
    designs: int
    requests: int


def admit(spec: StudySpec, limits: Limits) -> Admitted:
    """Hold a study against the limits; nothing is built.

    Raises
    ------
    SpecError
        If it is larger than allowed.
    """
    spec = _within(spec, limits.trials)
    requests = sum(requests_of(case.workload) for case in spec.cases)
    if requests > limits.requests:
        given = "workload.requests" if len(spec.cases) == 1 else "workloads"
        raise _refused(given, f"up to {requests:,} requests together; allowed here: {limits.requests:,}")
    space = spec.space.space
    return Admitted(spec, space, min(space.size, LARGEST), requests)


def _within(spec: StudySpec, most: int) -> StudySpec:
    """Return a study with no more trials than are allowed."""
    budget = spec.budget
    if budget.certified is not None and budget.trials == MOST_TRIALS:
        # As many as it takes: that is, as many as there may be.
        budget = budget.model_copy(update={"trials": most})
    if budget.trials > most:
        raise _refused("budget.trials", f"given {budget.trials:,}; allowed here: {most:,}")
    if budget.rehearsal and budget.rehearsal.trials > most:
        given = budget.rehearsal.trials
        raise _refused("budget.rehearsal.trials", f"given {given:,}; allowed here: {most:,}")
    return spec.model_copy(update={"budget": budget})


def _refused(field: str, message: str) -> SpecError:
    return SpecError(f"{field}: {message}", [Problem(field, message)])


def check(admitted: Admitted) -> StudyCheck:
    """Return what a study consists of."""
    return StudyCheck(
        designs=admitted.designs,
        dimensions=[
            Dimension(name=each.name, label=each.meaning, values=list(each.values)) for each in admitted.space.closed
        ],
        requests=admitted.requests,
        objectives=objectives_of(admitted.spec),
        warnings=list(_warnings(admitted)),
        spec=admitted.spec.model_dump(mode="json", exclude_unset=True),
    )


def _warnings(admitted: Admitted) -> Iterator[str]:
    """Yield what the author of a study should know before it runs."""
    spec, designs = admitted.spec, admitted.designs
    if designs > LISTABLE:
        yield f"the space has {designs:,} designs, too many to list: nothing is proved of those that are not simulated"
    if spec.budget.trials > designs:
        yield f"the budget of {spec.budget.trials:,} trials is larger than the space of {designs:,} designs"
    if said := caveat(_pools(admitted)):
        yield said


def _pools(admitted: Admitted) -> Iterator[Pool]:
    """Yield a pool with each accelerator of the space, as far as the first choices of all else allow."""
    first = {each.name: each.values[0] for each in admitted.space.closed}
    for varied in admitted.space.closed:
        if not varied.name.endswith("accelerator"):
            continue
        for value in varied.values:
            try:
                design = admitted.space.design({**first, varied.name: value})
                yield from deployment_of(design, admitted.spec).pools
            except ValueError:
                continue
