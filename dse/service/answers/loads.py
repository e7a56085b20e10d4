"""The requests of studies, built where they are needed and kept while the same study is asked about."""

from __future__ import annotations

from functools import lru_cache

from dse.spec import StudySpec
from simulator import Requests, Workload, build_requests
from simulator.files import named_file

KEPT = 4
"""Loads that a process keeps: a million requests of a plain workload take 40 MB."""


def load_of(spec: StudySpec) -> tuple[Requests, ...]:
    """Return the requests of each of a study's workloads, as :func:`dse.evaluation.build_load` does.

    Raises
    ------
    SpecError
        If a trace cannot be read.
    """
    return tuple(_built(case.workload.model_dump_json(), _file(case.workload)) for case in spec.cases)


def _file(workload: Workload) -> str:
    """Return where the trace of a workload lies: the same name may come to stand for another file."""
    return str(named_file(workload.trace.path, "trace")) if workload.trace else ""


@lru_cache(maxsize=KEPT)
def _built(workload: str, _file: str) -> Requests:
    return build_requests(Workload.model_validate_json(workload))
