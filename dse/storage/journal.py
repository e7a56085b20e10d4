"""Finished trials in an embedded file, in Optuna's own journal format.

The live study is kept in memory and a batch of finished trials is appended to the journal in one write: any Optuna
tool can read the file. A trial counts as finished when its batch is written and on the disk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dse.evaluation import Evaluation
from dse.objectives import Direction
from dse.patience import Patience
from dse.spec import StudySpec
from dse.storage.records import EVALUATION, claim_study, in_order
from simulator import SpecError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


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
    patience
        With a full disk.

    Attributes
    ----------
    session
        0: nobody else works on the file.

    Raises
    ------
    SpecError
        If the file belongs to another study or is no journal.
    """

    session = 0

    def __init__(
        self, path: Path, spec: StudySpec, directions: Sequence[Direction], patience: Patience | None = None
    ) -> None:
        import optuna
        from optuna.storages import JournalStorage

        from dse.storage.journal_file import JournalFile

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self._file = JournalFile(path, patience or Patience())
            self._study = optuna.create_study(
                storage=JournalStorage(self._file), study_name=spec.name, directions=directions, load_if_exists=True
            )
        except (ValueError, KeyError, json.JSONDecodeError, UnicodeDecodeError) as error:
            if isinstance(error, SpecError):
                raise
            raise SpecError(f"{path}: not a journal of study {spec.name!r}; remove it or use another --out") from None
        claim_study(self._study, spec, str(path))

    def append(self, trial: FrozenTrial) -> None:
        """Write one finished trial."""
        self.append_many([trial])

    def append_many(self, trials: Sequence[FrozenTrial]) -> None:
        """Write finished trials in one go; when it returns, they are on the disk.

        Raises
        ------
        CutOff
            If the disk is full for too long; the file then holds all trials written before.
        """
        with self._file.together():
            self._study.add_trials(trials)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials in the file, in the order of their proposal."""
        return in_order(self._study.get_trials(deepcopy=False))

    def refresh(self) -> list[FrozenTrial]:
        """Return nothing: nobody else writes to the file."""
        return []

    def close(self) -> None:
        """Do nothing: all is written."""


def read_evaluations(path: Path, study_name: str) -> tuple[Evaluation, ...]:
    """Return the evaluations in a journal, in the order of their proposal, and leave the file as it is.

    Raises
    ------
    SpecError
        If the file is missing or no journal of the study.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if not path.is_file():
        raise SpecError(f"{path}: no such file: the run's trials are missing")
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        trials = optuna.load_study(study_name=study_name, storage=storage).get_trials(deepcopy=False)
    except (ValueError, KeyError):
        raise SpecError(f"{path}: not a journal of study {study_name!r}") from None
    return tuple(Evaluation.from_json(trial.user_attrs[EVALUATION]) for trial in in_order(trials))
