"""The folder of a run: what is written there, and how it is read back.

===================  =================================================================
``report.html``      self-contained report
``front.csv``        designs on the Pareto front, by the first objective
``trials.parquet``   every distinct design with its figures
``study.json``       the study, the recommendation with its deployment, provenance
``trials.journal``   finished trials in Optuna's journal format; ``--resume`` goes on from it
===================  =================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dse.evaluation import Evaluation
from dse.objectives import direction_of
from dse.result import Clock, StudyResult
from dse.spec import StudySpec
from dse.storage import TrialJournal
from simulator import SpecError, build_requests

JOURNAL, STUDY, FRONT, TRIALS, REPORT = (
    "trials.journal",
    "study.json",
    "front.csv",
    "trials.parquet",
    "report.html",
)


def prepare_folder(folder: Path, *, resume: bool, overwrite: bool) -> Path:
    """Make the folder of a run and return its journal's path.

    Raises
    ------
    SpecError
        If the folder cannot be written to, or holds a run that is neither resumed nor overwritten.
    """
    journal = folder / JOURNAL
    if journal.exists() and not (resume or overwrite):
        raise SpecError(f"{folder}: holds an earlier run; go on with --resume, or replace it with --overwrite")
    if resume and not journal.exists():
        raise SpecError(f"{folder}: no run to resume, {JOURNAL} is missing")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
        if overwrite:
            for name in (JOURNAL, STUDY, FRONT, TRIALS, REPORT):
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise SpecError(f"{folder}: cannot write there: {error.strerror or error}") from None
    return journal


def free_folder(wanted: Path) -> Path:
    """Return the wanted folder, or with a number appended if it holds a run already."""
    folder, number = wanted, 2
    while (folder / JOURNAL).exists():
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return folder


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there, so that it is never seen half-written."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save(result: StudyResult, folder: Path) -> None:
    """Write everything but the journal, which the study itself wrote."""
    write_whole(folder / FRONT, lambda path: result.front_table.to_csv(path))
    write_whole(folder / TRIALS, lambda path: result.trials.to_parquet(path))
    text = json.dumps(to_json(result), indent=2)
    write_whole(folder / STUDY, lambda path: path.write_text(text, encoding="utf-8"))
    save_report(result, folder / REPORT)


def save_report(result: StudyResult, path: Path) -> None:
    """Write the report."""
    from dse.report import render_report

    page = render_report(result)
    write_whole(path, lambda target: target.write_text(page, encoding="utf-8"))


def to_json(result: StudyResult) -> dict[str, Any]:
    """Return the study, what it recommends and where it comes from as plain data."""

    def with_deployment(evaluation: Evaluation) -> dict[str, Any]:
        return {
            **evaluation.to_json(),
            "deployment": result.deployment(evaluation).model_dump(mode="json", exclude_none=True),
        }

    return {
        "study": result.spec.model_dump(mode="json", exclude_none=True),
        "recommended": with_deployment(result.recommended) if result.recommended else None,
        "front": [with_deployment(evaluation) for evaluation in result.front],
        "simulated": len(result.simulated),
        "excluded": len(result.evaluations) - len(result.simulated),
        "feasible": len(result.feasible),
        "interrupted": result.interrupted,
        "requests": {"count": len(result.requests), "fingerprint": result.requests.fingerprint()},
        "clock": vars(result.clock),
        "versions": {name: version(name) for name in ("dse-llm", "optuna", "numba", "numpy")},
    }


def load(folder: Path) -> StudyResult:
    """Return the result of a run from its folder.

    Raises
    ------
    SpecError
        If the folder holds no finished run.
    """
    try:
        data = json.loads((folder / STUDY).read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{folder}: no finished run: {STUDY}: {error.strerror}") from None
    except ValueError:
        raise SpecError(f"{folder / STUDY}: not valid JSON") from None
    spec = StudySpec.parse(data.get("study"), source=str(folder / STUDY))
    journal = TrialJournal(folder / JOURNAL, spec, [direction_of(name) for name in spec.objectives])
    return StudyResult(
        spec,
        journal.evaluations(),
        build_requests(spec.workload),
        Clock(**data["clock"]),
        bool(data["interrupted"]),
    )
