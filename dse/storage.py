"""Finished trials in an embedded file, in Optuna's own journal format.

The live study is kept in memory and each finished trial is appended to the journal as one record: seven times less time
than writing through every parameter, nothing half-written, and any Optuna tool can read the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.evaluation import Evaluation
from dse.objectives import Direction
from dse.spec import StudySpec
from simulator import SpecError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

SPEC = "dse:spec"
EVALUATION = "dse:evaluation"


def _open(path: Path) -> Any:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))


def _mend(path: Path) -> None:
    """Drop a last line that a killed process left unfinished: Optuna would append to it."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)


class TrialJournal:
    """The file of a study's finished trials.

    Parameters
    ----------
    path
        Journal file; made if it is not there.
    spec
        The study; must be the one the file was made for, save for its budget.
    directions
        Of the objectives.

    Raises
    ------
    SpecError
        If the file belongs to another study or is no journal.
    """

    def __init__(self, path: Path, spec: StudySpec, directions: Sequence[Direction]) -> None:
        import optuna

        _mend(path)
        try:
            self._study = optuna.create_study(
                storage=_open(path), study_name=spec.name, directions=directions, load_if_exists=True
            )
        except (ValueError, KeyError, json.JSONDecodeError, UnicodeDecodeError):
            raise SpecError(f"{path}: not a journal of study {spec.name!r}; remove it or use another --out") from None
        ours = spec.model_dump_json(exclude={"budget"})
        theirs = self._study.user_attrs.get(SPEC, ours)
        if theirs != ours:
            raise SpecError(
                f"{path}: holds trials of a different {spec.name!r} study; use another --out, or the same study file"
            )
        self._study.set_user_attr(SPEC, ours)

    def append(self, trial: FrozenTrial) -> None:
        """Write one finished trial."""
        self._study.add_trial(trial)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials in the file, in the order of their proposal."""
        return _in_order(self._study.trials)


def read_evaluations(path: Path, study_name: str) -> tuple[Evaluation, ...]:
    """Return the evaluations in a journal, in the order of their proposal, and leave the file as it is.

    Raises
    ------
    SpecError
        If the file is missing or no journal of the study.
    """
    import optuna

    if not path.is_file():
        raise SpecError(f"{path}: no such file: the run's trials are missing")
    try:
        trials = optuna.load_study(study_name=study_name, storage=_open(path)).trials
    except (ValueError, KeyError):
        raise SpecError(f"{path}: not a journal of study {study_name!r}") from None
    return tuple(Evaluation.from_json(trial.user_attrs[EVALUATION]) for trial in _in_order(trials))


def _in_order(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return trials by proposal: they were written as they finished, which depends on the processes."""
    return sorted(trials, key=lambda trial: int(trial.user_attrs[EVALUATION]["number"]))
