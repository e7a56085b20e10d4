"""The store of a study that is run under a lease: trials and counts are written together, or not at all."""

from __future__ import annotations

import time
from collections.abc import Sequence

from optuna.trial import FrozenTrial
from sqlalchemy import Connection

from dse.evaluation import Evaluation
from dse.objectives import direction_of
from dse.patience import Patience
from dse.progress import Progress
from dse.service.storage.studies import Counts, Lease, Studies
from dse.spec import StudySpec
from dse.storage import EVALUATION
from dse.storage.database import Database


class LeaseLost(Exception):
    """Somebody else runs the study now, or a person has ended it."""


class LeasedStore:
    """Trials of a study in the service's database, as long as the lease holds.

    The transaction that writes trials also updates the study's row, on the condition that the lease is still ours. So
    of two processes that believe they run a study only one writes.

    Parameters
    ----------
    url
        Of the database.
    spec
        The study.
    studies, lease
        Where the counts go, and under which lease.
    patience
        With a database that is away.
    """

    def __init__(self, url: str, spec: StudySpec, studies: Studies, lease: Lease, patience: Patience) -> None:
        self._spec, self._studies, self._lease = spec, studies, lease
        self._began_s = time.monotonic()
        self._progress = Progress(spec)
        directions = [direction_of(name) for name in spec.objectives]
        self._database = Database(url, spec, directions, patience, name=lease.study, alongside=self._note)

    @property
    def session(self) -> int:
        """How many sessions opened the study before."""
        return self._database.session

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order of their proposal."""
        found = self._database.trials
        self._progress = Progress(self._spec)
        for trial in found:
            self._progress.restored(_evaluation(trial))
        return found

    def append(self, trial: FrozenTrial) -> None:
        """Write one finished trial."""
        self.append_many([trial])

    def append_many(self, trials: Sequence[FrozenTrial]) -> None:
        """Write finished trials and how far the study is.

        Raises
        ------
        LeaseLost
            If the study is somebody else's; nothing is written then.
        CutOff
            If the database is away and the study is to end.
        """
        for trial in trials:
            self._progress.evaluated(_evaluation(trial))
        self._database.append_many(trials)

    def refresh(self) -> list[FrozenTrial]:
        """Return nothing: nobody else writes while the lease holds."""
        return []

    def close(self) -> None:
        """End the connections."""
        self._database.close()

    @property
    def counts(self) -> Counts:
        """How far the study is."""
        seen = self._progress
        running_s = self._lease.running_s + time.monotonic() - self._began_s
        return Counts(seen.simulated + seen.excluded, seen.simulated, seen.feasible, seen.front_size, running_s)

    def _note(self, connection: Connection) -> None:
        if not self._studies.note(connection, self._lease, self.counts):
            raise LeaseLost(f"study {self._lease.study}: the lease is lost")


def _evaluation(trial: FrozenTrial) -> Evaluation:
    return Evaluation.from_json(trial.user_attrs[EVALUATION])
