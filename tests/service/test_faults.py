"""Processes are killed and the database is restarted while studies run: nothing that finished is lost, and they end.

What a worker does is in ``test_worker.py``.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dse.service.settings import Settings
from dse.service.storage.database import Database
from dse.service.storage.studies import Studies

from ..dse.postgres import PostgreSQL
from .conftest import created, emptied
from .workers import check_whole, evaluations, is_over, lasting, runs, wait_until, worker_processes, worker_thread

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture
def settings(tmp_path: Path, url: str) -> Settings:
    return Settings(data=tmp_path / "data", storage=url, lease_s=2.0).prepared()


@pytest.fixture
def studies(settings: Settings) -> Iterator[Studies]:
    database = Database(settings.url)
    database.migrate()
    yield Studies(database)
    database.close()


def test_killed_runner_is_started_again(settings: Settings, studies: Studies) -> None:
    id = created(studies, lasting()).id
    with worker_processes(settings) as (worker,):
        wait_until(lambda: studies.get(id).evaluated >= 40)
        os.kill(worker.runners[0], signal.SIGKILL)
        before = evaluations(studies, id)
        assert len(before) >= 40
        wait_until(is_over(studies, id))
        assert studies.get(id).lease == 2
    check_whole(studies, id, before)


def test_study_of_a_killed_worker_is_taken_over(settings: Settings, studies: Studies) -> None:
    id = created(studies, lasting()).id
    with worker_processes(settings, jobs=2) as (first,):
        wait_until(lambda: studies.get(id).evaluated >= 40)
        started = first.descendants
        assert len(started) >= 3  # the runner and its processes
        first.process.kill()
        killed = time.monotonic()
        wait_until(lambda: not any(map(runs, started)), limit_s=10)
        before, worker = evaluations(studies, id), studies.get(id).worker
        assert len(before) >= 40
        assert studies.get(id).simulated < 200
        with worker_processes(settings) as _:
            wait_until(lambda: studies.get(id).worker != worker, limit_s=60)
            assert time.monotonic() - killed > 1  # not before the lease ended
            wait_until(is_over(studies, id))
    check_whole(studies, id, before)
    assert studies.get(id).lease == 2


def test_worker_that_wakes_up_again_writes_nothing(settings: Settings, studies: Studies) -> None:
    """Stopped as by a machine that sleeps, together with its runner: another takes over, and is not disturbed."""
    id = created(studies, lasting()).id
    with worker_processes(settings) as (sleeper,):
        wait_until(lambda: studies.get(id).evaluated >= 40)
        asleep = [sleeper.process.pid, *sleeper.runners]
        wait_until(lambda: stopped_between_writes(asleep, settings.url))
        before = evaluations(studies, id)
        with worker_thread(settings) as said:
            wait_until(lambda: studies.get(id).evaluated > len(before))
            for pid in asleep:
                os.kill(pid, signal.SIGCONT)
            wait_until(lambda: not runs(asleep[1]), limit_s=30)
            wait_until(is_over(studies, id))
        assert any(line.endswith("started") for line in said)
    check_whole(studies, id, before)


def test_study_that_kills_its_runners_has_failed(settings: Settings, studies: Studies) -> None:
    id = created(studies, lasting()).id
    with worker_processes(settings) as (worker,):
        killed: set[int] = set()

        def over() -> bool:
            for pid in worker.runners:
                if pid not in killed:
                    killed.add(pid)
                    os.kill(pid, signal.SIGKILL)
            return studies.get(id).state == "failed"

        wait_until(over)
    row = studies.get(id)
    reason = "given up after 3 attempts without a new trial: its process was ended by SIGKILL; each may take 8 GB"
    assert row.reason.startswith(reason)
    assert len(killed) == 3


def stopped_between_writes(pids: list[int], url: str) -> bool:
    """Stop processes, unless one is in the middle of a write: whoever sleeps then keeps all others from writing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    if _nobody_writes(url):
        return True
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    return False


def _nobody_writes(url: str) -> bool:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0.1)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
        return True
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        try:
            connection.execute("SELECT id FROM service_studies FOR UPDATE NOWAIT")
        except psycopg.errors.LockNotAvailable:
            return False
    return True


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_restarted_postgresql_is_waited_for(postgresql: PostgreSQL, tmp_path: Path, mode: str) -> None:
    settings = Settings(data=tmp_path / "data", storage=emptied(postgresql), lease_s=2.0).prepared()
    database = Database(settings.url)
    database.migrate()
    studies = Studies(database)
    running, waiting = created(studies, lasting()).id, created(studies, lasting(40)).id
    with worker_processes(settings, jobs=2) as (worker,):
        wait_until(lambda: studies.get(running).evaluated >= 40)
        before, runner = evaluations(studies, running), worker.runners
        assert studies.get(running).simulated < 200
        postgresql.stop(mode)
        try:
            time.sleep(3)
            assert runs(runner[0])
        finally:
            postgresql.start()
        wait_until(is_over(studies, running))
        check_whole(studies, running, before)
        # The same process went on: nobody else took the lease that lapsed meanwhile.
        assert studies.get(running).lease == 1
        wait_until(is_over(studies, waiting))
        check_whole(studies, waiting, [])
        assert worker.process.poll() is None
    database.close()


def test_worker_ends_while_the_database_is_away(postgresql: PostgreSQL, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", storage=emptied(postgresql), lease_s=2.0).prepared()
    database = Database(settings.url)
    database.migrate()
    studies = Studies(database)
    id = created(studies, lasting(100_000)).id
    with worker_processes(settings) as (worker,):
        wait_until(lambda: studies.get(id).evaluated >= 20)
        before = evaluations(studies, id)
        postgresql.stop()
        try:
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(60) == 0
        finally:
            postgresql.start()
    assert evaluations(studies, id)[: len(before)] == before
    wait_until(lambda: studies.claim("other", 60))
    database.close()
