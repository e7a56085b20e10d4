"""What the bench computes about studies. Whole studies it reads itself: thousands of trials need not be sent."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from dse.service.answers.comparison import explain
from dse.service.answers.deployable import deployable, deployable_zip
from dse.service.answers.exports import export, report_html
from dse.service.answers.records import Explanation, WhatIf
from dse.service.answers.simulation import simulation
from dse.service.answers.study_view import StudyView
from dse.service.answers.what_if import what_if_at_rate
from dse.service.storage.database import Database
from dse.service.storage.studies import Studies
from dse.spec import StudySpec

Outcome = dict[str, Any] | None


@cache
def _studies(url: str) -> Studies:
    return Studies(Database(url))


def _read(url: str, id: str) -> tuple[StudySpec, list[dict[str, Any]], Outcome]:
    """Return a study's specification, its trials, and what only its end knows."""
    studies = _studies(url)
    row = studies.get(id)
    spec = row.read_spec()
    evaluations, _ = studies.evaluations_since(id, 0)
    return spec, evaluations, json.loads(row.outcome) if row.outcome else None


def reported(url: str, id: str) -> bytes:
    """Return a study's report as HTML."""
    return report_html(*_read(url, id)).encode()


def exported(url: str, id: str, name: str) -> tuple[bytes, str]:
    """Return a study as a file, and its media type."""
    spec, evaluations, outcome = _read(url, id)
    view = StudyView(spec)
    view.add(evaluations)
    return export(view, name, outcome)


def simulated(spec: StudySpec, evaluation: dict[str, Any]) -> bytes:
    """Return a trial simulated again, as JSON."""
    return simulation(spec, evaluation).model_dump_json().encode()


def deployed(
    spec: StudySpec,
    evaluation: dict[str, Any],
    target: str,
    folder: str,
    load: bool,
    requests: int | None,
    most_requests: int,
) -> bytes:
    """Return the files that deploy a trial: a zip archive in which they lie in a folder, as JSON if it has no name."""
    found = deployable(spec, evaluation, target, load=load, requests=requests, most_requests=most_requests)
    return deployable_zip(folder, found) if folder else found.model_dump_json().encode()


def explained(url: str, id: str, first: int, second: int) -> bytes:
    """Return which choices make the difference between two trials, as JSON."""
    spec, evaluations, _ = _read(url, id)
    said = explain(spec, evaluations, first, second)
    return Explanation(first=first, second=second, said=said).model_dump_json().encode()


def at_rate(spec: StudySpec, designs: list[dict[str, Any]], today: list[int], question: WhatIf) -> bytes:
    """Return the front at another rate, as JSON."""
    return what_if_at_rate(spec, designs, today, question).model_dump_json().encode()
