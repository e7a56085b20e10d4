"""A worker: takes studies from the storage, one after the other, and sees to the process that runs each."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import Final, TypeVar

from dse.service.settings import Settings
from dse.service.storage.database import Database
from dse.service.storage.errors import Unavailable
from dse.service.storage.studies import Lease, Studies
from dse.service.storage.traces import Traces
from dse.service.storage.workers import Workers
from dse.service.work.job import SETTLED, STARVED, UNSETTLED, Job
from dse.service.work.runner_process import RunnerProcess

log = logging.getLogger("dse.service.worker")
Answer = TypeVar("Answer")

TURN_S: Final = 0.1
"""Seconds between two looks at a process and for signals."""
LOOK_S: Final = 1.0
"""Seconds between two looks into the database: for work, or for what a person asked."""
STOP_S: Final = 60.0
"""Seconds that a runner may take to stop; then it is killed, and what finished is kept."""
WRITTEN: Final = "written"
"""Why a runner is waited for that has written its outcome."""
BEATS: Final = 3
"""Signs of life for each time after which a worker counts as gone."""


def run_worker(
    settings: Settings,
    *,
    jobs: int,
    once: bool = False,
    stopping: Callable[[], bool] = bool,
    say: Callable[[str], None] = log.info,
) -> None:
    """Run studies until SIGTERM or SIGINT; the study that runs then is given back.

    Parameters
    ----------
    settings
        With the database, the lease and the limits.
    jobs
        Processes that simulate at the same time.
    once
        Whether to end after one study, or if there is none.
    stopping
        Tells whether to end, e.g. because whoever keeps the worker is gone.
    say
        Told in one line each of what a person may want to know.

    Raises
    ------
    SpecError
        If the database cannot be opened.
    """
    settings.prepared()
    with closing(Database(settings.url)) as database:
        database.migrate()
        worker = _Worker(settings, database, jobs, stopping, say)
        with worker.listening():
            worker.run(once)


class _Worker:
    """The state of a worker."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        jobs: int,
        stopping: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self._settings, self._database, self._jobs = settings, database, jobs
        self._stopping, self._say = stopping, say
        self._studies, self._workers = Studies(database), Workers(database)
        self._host = socket.gethostname()[:32]
        self._id = f"{self._host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._signals = 0
        self._away = False
        self._next_beat_s = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as the wish to end; outside the main thread others listen."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._signals += 1

    @property
    def _ends(self) -> bool:
        return self._signals > 0 or self._stopping()

    def run(self, once: bool) -> None:
        """Take studies until the end."""
        self._tried(self._register, None)
        log.info("worker started", extra={"worker": self._id, "jobs": self._jobs})
        try:
            while not self._ends:
                self._beat()
                lease = self._tried(lambda: self._studies.claim(self._id, self._settings.lease_s), None)
                if lease:
                    self._supervise(lease)
                if once:
                    return
                if not lease:
                    self._pause(LOOK_S)
        finally:
            self._tried(lambda: self._workers.remove(self._id), None)
            log.info("worker ended", extra={"worker": self._id})

    def _register(self) -> None:
        self._workers.register(self._id, self._host, os.getpid(), self._jobs)
        self._next_beat_s = time.monotonic() + self._settings.lease_s / BEATS

    def _beat(self) -> None:
        """Give a sign of life when it is time."""
        if time.monotonic() >= self._next_beat_s:
            self._next_beat_s = time.monotonic() + self._settings.lease_s / BEATS
            if not self._tried(lambda: self._workers.seen(self._id), True):
                self._tried(self._register, None)

    def _supervise(self, lease: Lease) -> None:
        """Run a study until it ends, somebody asks for its end, or the lease is lost."""
        extra = {"study": lease.study, "worker": self._id, "lease": lease.number}
        log.info("study started", extra=extra)
        self._say(f"study {lease.study}: started")
        self._tried(lambda: Traces(self._database).remove_copies(self._settings.data), None)
        runner = RunnerProcess(self._job(lease))
        try:
            asked = self._watch(lease, runner)
        finally:
            if runner.code is None:
                runner.kill()
            runner.close()
        if asked is None:
            log.warning("lease lost", extra=extra)
            self._say(f"study {lease.study}: another worker has it, or a person has ended it")
            return
        self._settle(lease, runner, asked)

    def _job(self, lease: Lease) -> Job:
        return Job(
            url=self._database.url,
            data=str(self._settings.data.absolute()),
            study=lease.study,
            lease=lease.number,
            worker=self._id,
            running_s=lease.running_s,
            jobs=self._jobs,
            memory_gb=self._settings.limits.memory_gb,
            parent=os.getpid(),
        )

    def _watch(self, lease: Lease, runner: RunnerProcess) -> str | None:
        """Wait for the end of a runner.

        Returns
        -------
        str or None
            Why it was to stop, ``''`` if it was not; ``WRITTEN`` if the outcome is there; None if the lease is lost.
        """
        lease_s, limit_s = self._settings.lease_s, self._settings.limits.study_s
        deadline = time.monotonic() + limit_s - lease.running_s
        why = ""
        answer: str | None = ""
        renewed = looked = kill_s = 0.0
        while runner.code is None:
            now = time.monotonic()
            if now - renewed >= lease_s / BEATS:
                renewed = looked = now
                # As long as the database is away, what it last said holds.
                answer = self._tried(lambda: self._studies.renew(lease, lease_s), answer)
                self._beat()
            elif now - looked >= LOOK_S:
                looked = now
                answer = self._tried(lambda: self._studies.asked(lease), answer)
            if answer is None:
                if not self._tried(lambda: self._studies.settled(lease), False):
                    return None
                # It has written the outcome, and is about to end; if it takes long, nothing is lost with it.
                self._pause(STOP_S, lambda: runner.code is not None)
                return WRITTEN
            if not why:
                why = "limit" if now >= deadline else answer or ("end" if self._ends else "")
                kill_s = now + STOP_S
            if why:
                runner.ask_to_stop()
                if now >= kill_s or self._signals > 1:
                    runner.kill()
            time.sleep(TURN_S)
        return why

    def _settle(self, lease: Lease, runner: RunnerProcess, asked: str) -> None:
        """Write down how a session ended, unless the runner did."""
        extra = {"study": lease.study, "worker": self._id, "code": runner.code}
        limits = self._settings.limits
        state: str | None = "ended"
        if runner.code == SETTLED or asked == WRITTEN:
            pass
        elif asked == "limit":
            state = self._fail(
                lease, f"it ran for {limits.study_s:g} s, the limit of this service; what it found is kept"
            )
        elif asked or runner.code == UNSETTLED:
            if self._insist(lambda: self._studies.finish(lease, "queued")):
                state = {"pause": "paused", "cancel": "cancelled"}.get(asked, "given back")
        elif runner.code == STARVED:
            state = self._fail(lease, f"a process needs more than {limits.memory_gb:g} GB of memory, the limit here")
        else:
            reason = f"{runner.end}; each may take {limits.memory_gb:g} GB of memory"
            state = self._insist(lambda: self._studies.lose(lease, reason))
            log.error("runner lost: %s", reason, extra=extra)
        log.info("study left", extra={**extra, "state": state})
        self._say(f"study {lease.study}: {state}")
        if runner.code == UNSETTLED and not asked:
            # Something is in the way here, e.g. a full disk: elsewhere it may go on.
            self._pause(self._settings.lease_s)

    def _fail(self, lease: Lease, reason: str) -> str:
        self._insist(lambda: self._studies.finish(lease, "failed", reason=reason))
        return "failed"

    def _tried(self, action: Callable[[], Answer], otherwise: Answer) -> Answer:
        """Do something in the database; if that is away, go on without."""
        try:
            answer = action()
        except Unavailable as error:
            if not self._away:
                self._away = True
                log.warning("database away: %s", error, extra={"worker": self._id})
                self._say(f"{error}; the worker waits")
            return otherwise
        if self._away:
            self._away = False
            log.warning("database back", extra={"worker": self._id})
            self._say("the database is back")
        return answer

    def _insist(self, action: Callable[[], Answer]) -> Answer | None:
        """Do something in the database as soon as it is there; not if the worker is to end before."""
        done: list[Answer] = []
        while not done:
            self._tried(lambda: done.append(action()), None)
            if not done and self._ends:
                return None
            if not done:
                self._beat()
                self._pause(LOOK_S)
        return done[0]

    def _pause(self, seconds: float, until: Callable[[], bool] = bool) -> None:
        """Wait, unless the worker is to end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._ends and not until():
            time.sleep(TURN_S)
