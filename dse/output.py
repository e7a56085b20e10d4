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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from dse.certificate.ledger import Certificate
from dse.confidence.sureness import Sureness
from dse.evaluation import Evaluation, build_load
from dse.family import FamilySpec
from dse.provenance import trace_sha256
from dse.result import Clock, StudyResult
from dse.spec import StudySpec
from dse.storage import read_evaluations
from simulator import SpecError
from simulator.performance.engine_defaults import resolved

JOURNAL, STUDY, FRONT, TRIALS, REPORT = (
    "trials.journal",
    "study.json",
    "front.csv",
    "trials.parquet",
    "report.html",
)
FAMILY = "family.json"
"""By which the folder of a family is known; its members' runs are below (:mod:`dse.family.folder`)."""
MEMBERS = "members.csv"
"""Of a family."""
MARKDOWN = "report.md"
"""Not written by the run of a study: by ``dse report --format markdown``."""
OTHER = {JOURNAL: FAMILY, FAMILY: JOURNAL}
"""The mark of a run of the other kind, which a folder cannot hold as well."""


@contextmanager
def claim(
    folder: Path, *, resume: bool, overwrite: bool, numbered: bool = False, mark: str = JOURNAL
) -> Iterator[Path]:
    """Hold a folder for one run: nobody else writes there meanwhile, and nothing is left if no trial was written.

    Parameters
    ----------
    folder
        Made if it is not there.
    resume, overwrite
        Whether to go on with the run that is there, or to replace it, be it of a study or of a family.
    numbered
        Whether to append a number to the name if there is a run already.
    mark
        File by which a folder is known to hold a run: that of a study, or of a family.

    Yields
    ------
    Path
        The folder, perhaps numbered.

    Raises
    ------
    SpecError
        If the folder cannot be written to, is in use, or holds a run that is neither resumed nor overwritten.
    """
    wanted, number = folder, 2
    while True:
        marked, other = folder / mark, folder / OTHER[mark]
        if resume and not marked.exists():
            raise SpecError(f"{folder}: no run to resume, {mark} is missing")
        try:
            made = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            if other.exists() and not (resume or overwrite):
                raise FileExistsError
            # Whoever makes the mark has the folder: two runs that start together do not both make it.
            marked.touch(exist_ok=resume or overwrite)
            break
        except FileExistsError:
            if not (numbered and (marked.exists() or other.exists())):
                raise _taken(marked, other) from None
            folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
        except OSError as error:
            raise SpecError(f"{folder}: cannot write there: {error.strerror or error}") from None
    ours = False
    try:
        with _holding(marked) as held:
            ours = not resume
            if overwrite:
                with _holding(other) if other.exists() else nullcontext():
                    _clear(folder)
                other.unlink(missing_ok=True)
                held.truncate(0)
            yield folder
    finally:
        if ours and not _has_trials(folder, mark):
            marked.unlink(missing_ok=True)
            with suppress(OSError):
                for path in (folder, *made[1:]):
                    path.rmdir()


def _taken(marked: Path, other: Path) -> SpecError:
    """Return what is said of a folder that cannot be had."""
    folder = marked.parent
    if marked.exists():
        return SpecError(f"{folder}: holds an earlier run; go on with --resume, or replace it with --overwrite")
    if other.exists():
        kind = "family of studies" if other.name == FAMILY else "single study"
        return SpecError(f"{folder}: holds the run of a {kind}; replace it with --overwrite, or use another --out")
    return SpecError(f"{folder}: cannot write there: it is no folder")


@contextmanager
def _holding(marked: Path) -> Iterator[IO[bytes]]:
    """Hold the file by which a folder is known."""
    with marked.open("r+b") as held:
        if not _lock(held):
            raise SpecError(f"{marked.parent}: another run is using it; wait for its end or use another --out")
        yield held


def _clear(folder: Path) -> None:
    """Remove what runs wrote in a folder and in those of a family's members, save for marks; nothing else."""
    for label in _member_labels(folder):
        if (folder / label / JOURNAL).exists():
            with claim(folder / label, resume=False, overwrite=True):
                # Without a trial nothing of it is left.
                pass
            with suppress(OSError):
                (folder / label).parent.rmdir()
    for name in (STUDY, FRONT, TRIALS, REPORT, MARKDOWN, MEMBERS):
        (folder / name).unlink(missing_ok=True)


def _has_trials(folder: Path, mark: str) -> bool:
    """Return whether a run wrote a trial, or that of a member did."""
    journals = [folder / label / JOURNAL for label in (_member_labels(folder) if mark == FAMILY else [""])]
    return any(journal.exists() and journal.stat().st_size for journal in journals)


def _member_labels(folder: Path) -> list[str]:
    """Return the members of the family that ran in a folder; none if that cannot be told."""
    try:
        data = json.loads((folder / FAMILY).read_text(encoding="utf-8"))
        family = FamilySpec.parse(data["family"], source=str(folder / FAMILY))
    except (OSError, ValueError, KeyError, TypeError, SpecError):
        return []
    return [member.label for member in family.members if member.label]


def _lock(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed; tell whether nobody else has. Without locks (Windows) believe so."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def check_place(path: Path) -> None:
    """Check that a file has a folder to be written to.

    Raises
    ------
    SpecError
        Naming both.
    """
    if not path.parent.is_dir():
        raise SpecError(f"{path}: cannot write there: no folder {path.parent}")
    if path.is_dir():
        raise SpecError(f"{path}: cannot write there: it is a folder")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there, so that it is never seen half-written.

    What is written has the same ending: by it pandas and others tell that a file is to be compressed.
    """
    check_place(path)
    partial = path.with_name(f".partial-{path.name}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save(result: StudyResult, folder: Path) -> None:
    """Write everything but the journal, which the study itself wrote."""
    write_whole(folder / FRONT, lambda path: result.front_table.to_csv(path))
    write_whole(folder / TRIALS, lambda path: result.trials.to_parquet(path))
    text = json.dumps(to_json(result), indent=2, allow_nan=False)
    write_whole(folder / STUDY, lambda path: path.write_text(text, encoding="utf-8"))
    save_report(result, folder / REPORT)


def save_report(result: StudyResult, path: Path) -> None:
    """Write the report."""
    from dse.report import render_report

    page = render_report(result)
    write_whole(path, lambda target: target.write_text(page, encoding="utf-8"))


def save_markdown(result: StudyResult, path: Path) -> None:
    """Write the report as Markdown."""
    from dse.report import render_markdown

    text = render_markdown(result)
    write_whole(path, lambda target: target.write_text(text, encoding="utf-8"))


def to_json(result: StudyResult) -> dict[str, Any]:
    """Return the study, what it recommends and where it comes from as plain data."""

    def with_deployment(evaluation: Evaluation) -> dict[str, Any]:
        return {
            **evaluation.to_json(),
            "deployment": resolved(result.deployment(evaluation)).model_dump(mode="json", exclude_none=True),
        }

    return {
        "study": result.spec.model_dump(mode="json", exclude_none=True),
        "recommended": with_deployment(result.recommended) if result.recommended else None,
        "front": [with_deployment(evaluation) for evaluation in result.front],
        "simulated": len(result.simulated),
        "excluded": len(result.evaluations) - len(result.simulated),
        "feasible": len(result.feasible),
        "interrupted": result.interrupted,
        "requests": [
            {"count": len(each), "fingerprint": each.fingerprint(), "trace_sha256": trace_sha256(case.workload)}
            for case, each in zip(result.spec.cases, result.load, strict=True)
        ],
        "sureness": result.sureness.to_json() if result.sureness else None,
        "certificate": result.certificate.to_json() if result.certificate else None,
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
    data = _read(folder)
    spec = StudySpec.parse(data.get("study"), source=str(folder / STUDY))
    return StudyResult(
        spec,
        read_evaluations(folder / JOURNAL, spec.name),
        build_load(spec),
        _clock(folder, data["clock"]),
        bool(data.get("interrupted")),
        Certificate.from_json(data["certificate"]) if data.get("certificate") else None,
        Sureness.from_json(data["sureness"]) if data.get("sureness") else None,
    )


def front_designs(folder: Path) -> list[dict[str, Any]]:
    """Return the choices of the designs on the front of a run, the recommended one first.

    Raises
    ------
    SpecError
        If the folder holds no finished run.
    """
    data = _read(folder)
    found = [data["recommended"]] if data.get("recommended") else []
    return [dict(each["design"]) for each in (*found, *data.get("front", ()))]


def _read(folder: Path) -> dict[str, Any]:
    """Return what was saved of a run."""
    try:
        data = json.loads((folder / STUDY).read_text(encoding="utf-8"))
    except OSError as error:
        if (folder / FAMILY).exists():
            members = sorted(str(path.parent) for path in folder.rglob(STUDY))
            raise SpecError(f"{folder}: holds the runs of several studies, name one: {', '.join(members)}") from None
        raise SpecError(f"{folder}: no finished run: {STUDY}: {error.strerror}") from None
    except ValueError:
        raise SpecError(f"{folder / STUDY}: not valid JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("clock"), dict):
        raise SpecError(f"{folder / STUDY}: not written by dse run: it has no clock")
    return data


def _clock(folder: Path, data: dict[str, Any]) -> Clock:
    try:
        return Clock(**data)
    except TypeError:
        raise SpecError(
            f"{folder / STUDY}: written by another version of dse: its clock has {', '.join(data)}"
        ) from None
