"""Studies through a worker: the same as without, paused, cancelled, given back, failed with a reason."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dse.service.settings import Limits, Settings
from dse.service.storage.database import Database
from dse.service.storage.studies import Studies, StudyRow
from dse.service.storage.traces import Traces
from dse.service.storage.workers import Workers
from dse.service.work.worker import run_worker
from dse.spec import StudySpec
from dse.study import run_study

from .conftest import changed, created
from .workers import check_whole, evaluations, is_over, lasting, runs, wait_until, worker_processes, worker_thread

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture
def settings(tmp_path: Path, url: str) -> Settings:
    return Settings(data=tmp_path / "data", storage=url, lease_s=2.0).prepared()


@pytest.fixture
def one_dialect(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", lease_s=2.0).prepared()


def opened(settings: Settings) -> tuple[Database, Studies]:
    database = Database(settings.url)
    database.migrate()
    return database, Studies(database)


def run_one(settings: Settings, spec: StudySpec, jobs: int = 1) -> tuple[Studies, StudyRow]:
    _, studies = opened(settings)
    id = created(studies, spec).id
    run_worker(settings, jobs=jobs, once=True)
    return studies, studies.get(id)


def plain(evaluations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**each, "cpu_s": 0} for each in sorted(evaluations, key=lambda each: int(each["number"]))]


def test_study_through_a_worker_is_the_study_itself(settings: Settings, spec: StudySpec) -> None:
    studies, row = run_one(settings, spec)
    alone = run_study(spec, jobs=1)
    assert (row.state, row.reason) == ("finished", "")
    assert plain(evaluations(studies, row.id)) == plain([each.to_json() for each in alone.evaluations])
    counts = len(alone.evaluations), len(alone.simulated), len(alone.feasible), len(alone.front)
    assert (row.evaluated, row.simulated, row.feasible, row.front) == counts
    assert row.outcome
    outcome = json.loads(row.outcome)
    assert alone.certificate
    assert outcome["certificate"] == alone.certificate.to_json()
    assert outcome["sureness"] is None
    assert outcome["clock"]["wall_s"] > 0
    assert row.running_s > 0
    assert row.started_s
    assert row.ended_s
    assert row.worker is None


def test_paused_study_goes_on_where_it_was(settings: Settings) -> None:
    database, studies = opened(settings)
    id = created(studies, lasting()).id
    with worker_thread(settings) as said:
        wait_until(lambda: studies.get(id).evaluated >= 40)
        assert studies.get(id).state == "running"
        assert [worker.jobs for worker in Workers(database).living(settings.lease_s)] == [1]
        studies.pause(id)
        wait_until(lambda: studies.get(id).state == "paused")
        row, before = studies.get(id), evaluations(studies, id)
        assert row.evaluated == len(before)
        assert row.simulated < row.trials
        assert (row.losses, row.asked, row.worker) == (0, "", None)
        time.sleep(2)
        assert evaluations(studies, id) == before
        studies.resume(id)
        wait_until(is_over(studies, id))
    check_whole(studies, id, before)
    assert studies.get(id).running_s > row.running_s
    assert [line.rpartition(": ")[2] for line in said] == ["started", "paused", "started", "ended"]
    assert Workers(database).living(1e6) == []


def test_cancelled_study_keeps_what_it_found(one_dialect: Settings) -> None:
    _, studies = opened(one_dialect)
    id = created(studies, lasting(100_000)).id
    with worker_thread(one_dialect):
        wait_until(lambda: studies.get(id).evaluated >= 20)
        studies.cancel(id)
        wait_until(lambda: studies.get(id).state == "cancelled")
    row = studies.get(id)
    assert row.evaluated == len(evaluations(studies, id)) >= 20
    assert row.ended_s
    studies.delete(id)


def test_worker_that_is_asked_to_end_gives_the_study_back(one_dialect: Settings) -> None:
    database, studies = opened(one_dialect)
    id = created(studies, lasting()).id
    with worker_processes(one_dialect, jobs=2) as (worker,):
        wait_until(lambda: studies.get(id).evaluated >= 40)
        started = worker.descendants
        assert len(worker.runners) == 1
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(60) == 0
        row, before = studies.get(id), evaluations(studies, id)
        assert (row.state, row.losses, row.worker) == ("queued", 0, None)
        assert Workers(database).living(1e6) == []
        wait_until(lambda: not any(map(runs, started)), limit_s=10)
    run_worker(one_dialect, jobs=1, once=True)
    check_whole(studies, id, before)


def test_worker_ends_when_its_keeper_says_so(one_dialect: Settings) -> None:
    start = time.monotonic()
    run_worker(one_dialect, jobs=1, stopping=lambda: time.monotonic() > start + 1)
    assert 1 <= time.monotonic() - start < 10


def test_impossible_study_fails_with_the_reason(one_dialect: Settings) -> None:
    huge = changed(budget={"certified": 0.01}, space={"accelerators": ["h100-sxm"], "clients": {"high": 30_000}})
    _, row = run_one(one_dialect, huge)
    assert row.state == "failed"
    assert row.reason.startswith("budget: certified: the space has")
    assert "\n" not in row.reason


def test_unexpected_error_is_one_line_for_people_and_whole_in_the_log(
    one_dialect: Settings, spec: StudySpec, caplog: pytest.LogCaptureFixture
) -> None:
    database, studies = opened(one_dialect)
    id = created(studies, spec).id
    run_worker(one_dialect, jobs=1, once=True)
    with database.writing() as connection:
        connection.execute(text("UPDATE service_studies SET state = 'queued'"))
        connection.execute(text("""UPDATE trial_user_attributes SET value_json = '{"design": {}, "number": 1}'"""))
    with caplog.at_level(logging.INFO, "dse.service"):
        run_worker(one_dialect, jobs=1, once=True)
    row = studies.get(id)
    assert row.state == "failed"
    assert row.reason.startswith("unexpected ")
    assert "\n" not in row.reason
    (record,) = [each for each in caplog.records if "traceback" in vars(each)]
    assert vars(record)["study"] == id
    assert "Traceback" in vars(record)["traceback"]


def test_too_little_memory_fails_with_the_reason(one_dialect: Settings, spec: StudySpec) -> None:
    small = one_dialect.model_copy(update={"limits": Limits(memory_gb=0.3)})
    _, studies = opened(small)
    id = created(studies, spec).id
    with worker_thread(small):
        wait_until(is_over(studies, id), limit_s=120)
    assert studies.get(id).state == "failed"
    assert "0.3 GB" in studies.get(id).reason


def test_load_beyond_the_memory_fails_with_the_reason(one_dialect: Settings) -> None:
    """The processes start, but the requests do not fit."""
    workload = {**lasting().workload.model_dump(mode="json", exclude_none=True), "requests": 20_000_000}
    limited = one_dialect.model_copy(update={"limits": Limits(memory_gb=1.0)})
    _, row = run_one(limited, changed(workload=workload))
    assert row.state == "failed"
    assert row.reason == "a process needs more than 1 GB of memory, the limit here"


def test_study_that_runs_for_too_long_fails_and_keeps_what_it_found(one_dialect: Settings) -> None:
    limited = one_dialect.model_copy(update={"limits": Limits(study_s=15.0)})
    studies, row = run_one(limited, lasting(100_000))
    assert row.state == "failed"
    assert row.reason.startswith("it ran for 15 s, the limit")
    assert row.evaluated == len(evaluations(studies, row.id)) > 0


def test_front_is_confirmed_where_that_was_asked_for(one_dialect: Settings) -> None:
    _, row = run_one(one_dialect, changed(confidence={"initial": 4, "most": 4}))
    assert row.state == "finished"
    assert row.outcome
    assert "found on the front" in json.loads(row.outcome)["sureness"]["summary"]


def test_uploaded_trace_is_found_by_its_name(settings: Settings, tmp_path: Path) -> None:
    database, studies = opened(settings)
    path = tmp_path / "upload"
    lines = "".join(f"{number * 0.1:.1f},{200 + number},{20 + number % 50}\n" for number in range(300))
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + lines)
    spec = changed(workload={"trace": {"path": str(path)}})
    alone = run_study(spec, jobs=1)
    Traces(database).add("mine.csv", path, format="plain", requests=300, span_s=30.0, most_bytes=10**9)
    path.unlink()
    named = spec.model_dump(mode="json", exclude_none=True)
    named["workload"]["trace"]["path"] = "mine.csv"
    id = created(studies, StudySpec.parse(named), traces=["mine.csv"]).id
    run_worker(settings, jobs=1, once=True)
    assert studies.get(id).state == "finished", studies.get(id).reason
    assert plain(evaluations(studies, id)) == plain([each.to_json() for each in alone.evaluations])


def test_two_workers_share_the_studies(settings: Settings) -> None:
    _, studies = opened(settings)
    short = {"sampler": "random", "budget": {"trials": 20}}
    ids = [created(studies, changed(**short, seed=seed)).id for seed in range(3)]
    with worker_thread(settings) as one, worker_thread(settings) as two:
        wait_until(lambda: all(is_over(studies, id)() for id in ids))
    started = [line for line in (*one, *two) if line.endswith("started")]
    assert len(started) == 3
    assert one
    assert two
    for id in ids:
        check_whole(studies, id, [])


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this system has no groups of sessions")
def test_a_study_gives_way_to_the_server() -> None:
    """Niceness alone counts only within a session, and a study has its own."""
    code = (
        "import os, pathlib; from dse.service.work.confined import confine; "
        "confine(parent=os.getppid(), memory_gb=8); "
        "print(os.nice(0), pathlib.Path('/proc/self/autogroup').read_text().split()[-1])"
    )
    done = subprocess.run([sys.executable, "-c", code], start_new_session=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(min(19, os.nice(0) + 5)), "5"], done.stderr
