"""A journal of this machine beside a database for all: the study never waits for the database."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dse.objectives import Direction
from dse.patience import Patience
from dse.spec import StudySpec
from dse.storage.database import Database
from dse.storage.journal import TrialJournal
from dse.storage.records import EVALUATION, key_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

LOOK_S: Final = 0.5
"""Seconds between two looks for what other machines have finished."""


class Mirror:
    """A journal whose trials are mirrored into a database, and those of other machines from there.

    A trial is finished when the journal has it. A thread sends it to the database and, while that is away, tries again
    and again; what it could not send before the end is sent when the run is resumed.

    Parameters
    ----------
    path
        Journal file of this machine.
    url
        Of the database of all machines.
    spec
        The study; must be the one in both, save for its budget.
    directions
        Of the objectives.
    patience
        With a full disk, and at the end of the study with a database that is away.

    Raises
    ------
    SpecError
        If one of the two cannot be used.
    """

    def __init__(
        self,
        path: Path,
        url: str,
        spec: StudySpec,
        directions: Sequence[Direction],
        patience: Patience | None = None,
    ) -> None:
        patience = patience or Patience()
        self._limit_s = patience.limit_s
        self._deadline = time.monotonic() + self._limit_s
        self._closing = False

        def stopped() -> bool:
            return time.monotonic() > self._deadline or (self._closing and patience.stopped())

        in_background = replace(patience, limit_s=math.inf, stopped=stopped, meanwhile="the study goes on")
        # The database first: if it is refused, no journal is made.
        self._database = Database(url, spec, directions, in_background)
        self._journal = TrialJournal(path, spec, directions, patience)
        self._outgoing: queue.Queue[list[FrozenTrial] | None] = queue.Queue()
        self._arrived: queue.Queue[FrozenTrial] = queue.Queue()
        self._failure: Exception | None = None
        ours, theirs = self._journal.trials, self._database.refresh()
        self._known = {_key(trial) for trial in ours}
        stored = {_key(trial) for trial in theirs}
        self._take(theirs)
        if unsent := [trial for trial in ours if _key(trial) not in stored]:
            self._outgoing.put(unsent)
        self._deadline = math.inf
        self._thread = threading.Thread(target=self._serve, name="dse-database", daemon=True)
        self._thread.start()

    @property
    def session(self) -> int:
        """How many sessions opened the database before."""
        return self._database.session

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials known here, in the order of their proposal."""
        return self._journal.trials

    def append(self, trial: FrozenTrial) -> None:
        """Write one finished trial."""
        self.append_many([trial])

    def append_many(self, trials: Sequence[FrozenTrial]) -> None:
        """Write finished trials to the journal; the thread sends them to the database."""
        self._journal.append_many(trials)
        self._known.update(_key(trial) for trial in trials)
        self._outgoing.put(list(trials))
        self._check()

    def refresh(self) -> list[FrozenTrial]:
        """Return what other machines have finished since the last call, without designs that are known here."""
        self._check()
        arrived = []
        with suppress(queue.Empty):
            while True:
                arrived.append(self._arrived.get_nowait())
        return self._take(arrived)

    def close(self) -> None:
        """Send what is left to the database, wait for it if it is away, and end the thread.

        Raises
        ------
        CutOff
            If the database is away for too long: what it lacks is in the journal and is sent with ``--resume``.
        """
        self._deadline = time.monotonic() + self._limit_s
        self._closing = True
        self._outgoing.put(None)
        while self._thread.is_alive():
            self._thread.join(LOOK_S)
        self._database.close()
        self._check()

    def _check(self) -> None:
        """Raise what went wrong in the thread."""
        if self._failure is not None:
            raise self._failure

    def _take(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Note trials of others in the journal; return those whose design is new here."""
        new: dict[str, FrozenTrial] = {}
        for trial in trials:
            if (key := _key(trial)) not in self._known:
                new.setdefault(key, trial)
        self._journal.append_many(list(new.values()))
        self._known.update(new)
        return list(new.values())

    def _serve(self) -> None:
        """Write what was handed over, all that waits at once, and look for what others wrote."""
        last = False
        while not last:
            batch: list[FrozenTrial] = []
            with suppress(queue.Empty):
                given = self._outgoing.get(timeout=LOOK_S)
                while True:
                    last |= given is None
                    batch += given or []
                    given = self._outgoing.get_nowait()
            try:
                if batch:
                    self._database.append_many(batch)
                for trial in self._database.refresh():
                    self._arrived.put(trial)
            except Exception as error:
                self._failure = error
                return


def _key(trial: FrozenTrial) -> str:
    return key_of(trial.user_attrs[EVALUATION])
