"""A study as files: the report, tables, and all of it as data."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dse.certificate.ledger import Certificate
from dse.confidence.sureness import Sureness
from dse.once import finite
from dse.output import to_json
from dse.result import Clock, StudyResult
from dse.service.answers.loads import load_of
from dse.service.answers.study_view import StudyView
from dse.spec import StudySpec
from simulator import Requests

if TYPE_CHECKING:
    import pandas as pd

FRONT_CSV, TRIALS_CSV, TRIALS_PARQUET = "front.csv", "trials.csv", "trials.parquet"
STUDY_JSON, STUDY_YAML = "study.json", "study.yaml"
MEDIA_TYPES: Final = {
    FRONT_CSV: "text/csv; charset=utf-8",
    TRIALS_CSV: "text/csv; charset=utf-8",
    TRIALS_PARQUET: "application/vnd.apache.parquet",
    STUDY_JSON: "application/json",
    STUDY_YAML: "application/yaml",
}
"""Names of exports, and what they are."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet compute a cell."""


def export(view: StudyView, name: str, outcome: dict[str, Any] | None = None) -> tuple[bytes, str]:
    """Return a study as a file, and its media type.

    Parameters
    ----------
    view
        The study's trials.
    name
        One of :data:`MEDIA_TYPES`.
    outcome
        What only the end knows, as :func:`result_with` takes it.

    Raises
    ------
    KeyError
        If there is no such file.
    SpecError
        If the study itself is asked for, which says what its requests were, and a trace of it cannot be read.
    """
    media_type = MEDIA_TYPES[name]
    if name == STUDY_YAML:
        return view.spec.to_yaml().encode(), media_type
    if name == STUDY_JSON:
        data = to_json(result_with(view, outcome, load_of(view.spec)))
        return json.dumps(finite(data), indent=2, allow_nan=False).encode(), media_type
    result = result_with(view, outcome)
    if name == TRIALS_PARQUET:
        buffer = io.BytesIO()
        _numbered(result).to_parquet(buffer)
        return buffer.getvalue(), media_type
    table = _numbered(result)
    if name == FRONT_CSV:
        table = table.loc[[evaluation.number for evaluation in result.front]].dropna(axis="columns", how="all")
    return _inert(table).to_csv().encode(), media_type


def report_html(spec: StudySpec, evaluations: Sequence[dict[str, Any]], outcome: dict[str, Any] | None = None) -> str:
    """Return the report as one HTML document; simulates the designs that it shows.

    Parameters
    ----------
    spec
        The study. Its load is built, and kept for the next question.
    evaluations
        The trials, as :meth:`Evaluation.to_json` wrote them.
    outcome
        What only the end knows, as :func:`result_with` takes it.
    """
    from dse.report import render_report

    view = StudyView(spec)
    view.add(evaluations)
    return render_report(result_with(view, outcome, load_of(spec)))


def result_with(view: StudyView, outcome: dict[str, Any] | None = None, load: tuple[Requests, ...] = ()) -> StudyResult:
    """Return the result of a study with what only its end knows.

    Parameters
    ----------
    view
        The study's trials.
    outcome
        ``certificate`` and ``sureness`` as their ``to_json`` wrote them, or null, ``clock`` with the fields of
        :class:`dse.result.Clock`, and ``interrupted``; None before the end.
    load
        Requests of the workloads, for who wants to simulate.
    """
    known = outcome or {}
    certificate, sureness, clock = (known.get(name) for name in ("certificate", "sureness", "clock"))
    return StudyResult(
        view.spec,
        view.result().evaluations,
        load,
        Clock(**clock) if clock else Clock(0.0, 0.0, 0.0),
        bool(known.get("interrupted")),
        Certificate.from_json(certificate) if certificate else None,
        Sureness.from_json(sureness) if sureness else None,
    )


def _numbered(result: StudyResult) -> pd.DataFrame:
    """Return the trials by the numbers that name them."""
    import pandas as pd

    numbers = pd.Index([evaluation.number for evaluation in result.evaluations], name="trial")
    return result.trials.set_index(numbers)


def _inert(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose words no spreadsheet takes for formulas: an apostrophe stands before those it would."""

    def harmless(cell: object) -> object:
        return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell

    words = table.select_dtypes(exclude="number").columns
    table = table.assign(**{name: table[name].map(harmless) for name in words})
    return table.rename(columns=harmless)
