"""A trial's design as files that deploy it, as ``dse export`` writes them."""

from __future__ import annotations

from typing import Any

from dse.evaluation import Evaluation, deployment_of
from dse.export.bundle import bundle, zipped
from dse.service.answers.records import Deployable
from dse.spec import StudySpec
from simulator.errors import Problem, SpecError
from simulator.workload.size import requests_of


def deployable(
    spec: StudySpec,
    evaluation: dict[str, Any],
    target: str,
    *,
    load: bool = False,
    requests: int | None = None,
    most_requests: int | None = None,
) -> Deployable:
    """Return the files of a trial for a target.

    Parameters
    ----------
    spec
        The study; of several workloads the first is replayed.
    evaluation
        The trial, as :meth:`Evaluation.to_json` wrote it.
    target
        One of :data:`dse.export.TARGETS`, or ``all``.
    load
        Also what replays the workload.
    requests
        How many of its requests; all if absent.
    most_requests
        How many are allowed.

    Raises
    ------
    SpecError
        If the target cannot hold the design, or more requests are asked for than allowed.
    """
    workload = None
    if load:
        workload = spec.cases[0].workload
        if requests is not None:
            workload = workload.model_copy(update={"requests": requests})
        asked = requests_of(workload)
        if most_requests is not None and asked > most_requests:
            message = f"up to {asked:,}; allowed here: {most_requests:,}"
            raise SpecError(f"requests: {message}", [Problem("requests", message)])
    found = bundle(deployment_of(Evaluation.from_json(evaluation).design, spec), target, workload)
    notes = {name: list(sentences) for name, sentences in found.notes.items()}
    return Deployable(target=target, files=dict(found.files), notes=notes)


def deployable_zip(folder: str, found: Deployable) -> bytes:
    """Return the files as a zip archive in which they lie in a folder."""
    return zipped(found.files, folder)
