"""What may go wrong while a study runs: nothing that finished is lost, nothing is counted twice, and it goes on.

Nothing is simulated here: processes are killed, disks are full, servers are stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from dse.evaluation import Evaluation
from dse.execution import open_workers
from dse.patience import CutOff, Patience
from dse.result import StudyResult
from dse.spec import StudySpec
from dse.storage import EVALUATION, TrialJournal, open_store, read_evaluations
from dse.study import Nobody, run_study
from search_spaces import Design
from simulator import Requests, build_requests

from .conftest import SMALL, small
from .postgres import PostgreSQL, binaries, free_port, make_folder
from .test_execution import HEAVY, children_of, designs, found, runs
from .test_storage import DIRECTIONS, finished

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
needs_dask = pytest.mark.skipif(not find_spec("distributed"), reason="dask is not installed")
needs_postgresql = pytest.mark.skipif(
    not (binaries() and find_spec("psycopg")),
    reason="PostgreSQL's programs initdb and pg_ctl are not on this machine" if find_spec("psycopg") else "no psycopg",
)


@pytest.fixture(scope="module")
def heavy() -> tuple[StudySpec, Requests]:
    """A study whose designs take long enough to be killed in the middle."""
    spec = small(workload=HEAVY)
    return spec, build_requests(spec.workload)


@pytest.fixture(scope="module")
def expected(heavy: tuple[StudySpec, Requests]) -> dict[Design, Any]:
    with open_workers("sequential", None, *heavy) as workers:
        return found(workers.submit(designs(heavy[0], 60)))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    folder = make_folder()
    with PostgreSQL(folder) as server:
        yield server
    shutil.rmtree(folder)


class Said:
    """What a person was told."""

    def __init__(self, limit_s: float = 60) -> None:
        self.lines: list[str] = []
        self.patience = Patience(limit_s, self.lines.append)

    def has(self, words: str) -> bool:
        return any(words in line for line in self.lines)


def loky_pids() -> list[int]:
    """Return joblib's processes of this one."""
    return [pid for pid in children_of(os.getpid()) if b"LokyProcess" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def wait_until(true: Callable[[], object], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def record(result: StudyResult) -> list[object]:
    return [{**e.to_json(), "cpu_s": 0} for e in result.evaluations]


# Workers


@pytest.mark.parametrize("when", ["in the middle", "idle"])
def test_killed_process_changes_nothing(
    when: str, heavy: tuple[StudySpec, Requests], expected: dict[Design, Any]
) -> None:
    said = Said()
    with open_workers("loky", 2, *heavy, patience=said.patience) as workers:
        if when == "idle":
            list(workers.submit(list(expected)[:4]))
            os.kill(loky_pids()[0], signal.SIGKILL)
        batch, killed = [], when == "idle"
        for evaluations in workers.submit(list(expected)):
            batch.append(evaluations)
            if not killed:
                os.kill(loky_pids()[0], signal.SIGKILL)
                killed = True
        assert found(iter(batch)) == expected
        assert found(workers.submit(list(expected)[:10])) == dict(list(expected.items())[:10])
    if when == "in the middle":
        assert said.has("evaluated again")


class Deadly(Design):
    """A design that kills any other process that looks at it."""

    def __init__(self, design: Design, home: int | None = None) -> None:
        self.home = home or os.getpid()
        super().__init__(design)

    def __reduce__(self) -> tuple[Any, ...]:
        return Deadly, (Design(self), self.home)

    def __getitem__(self, name: str) -> Any:
        if os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(name)


@pytest.mark.parametrize("backend", ["loky", pytest.param("dask", marks=needs_dask)])
def test_design_that_kills_its_worker_is_given_up(
    backend: str, heavy: tuple[StudySpec, Requests], expected: dict[Design, Any]
) -> None:
    wanted = list(expected)[:12]
    deadly = Deadly(wanted[5])
    with open_workers(backend, 2, *heavy, patience=Said().patience) as workers:
        outcome = [e for batch in workers.submit([*wanted[:5], deadly, *wanted[6:]]) for e in batch]
    by_design = {e.design: e for e in outcome}
    assert len(outcome) == len(wanted)
    given_up = by_design.pop(deadly)
    assert not given_up.simulated
    assert not given_up.feasible
    assert "given up" in given_up.reason
    assert {d: {**e.to_json(), "cpu_s": 0} for d, e in by_design.items()} == {
        d: expected[d] for d in wanted if d != deadly
    }


@needs_dask
def test_killed_dask_worker_changes_nothing(heavy: tuple[StudySpec, Requests], expected: dict[Design, Any]) -> None:
    with open_workers("dask", 2, *heavy, patience=Said().patience) as workers:
        pids = list(workers._engine._client.run(os.getpid).values())  # type: ignore[attr-defined]
        batch: list[list[Evaluation]] = []
        for evaluations in workers.submit(list(expected)):
            if not batch:
                os.kill(pids[0], signal.SIGKILL)
            batch.append(evaluations)
        assert found(iter(batch)) == expected
        assert found(workers.submit(list(expected)[:10])) == dict(list(expected.items())[:10])


class Cluster:
    """A scheduler and workers as a person starts them, in processes of their own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *arguments]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=ROOT
        )
        self._processes.append(process)
        return process

    def start_scheduler(self) -> None:
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self._start("worker", self.address, "--nthreads", "1", "--no-dashboard", "--memory-limit", "0")

    def __enter__(self) -> Cluster:
        self.start_scheduler()
        for _ in range(2):
            self.start_worker()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


ROOT = Path(__file__).parents[2]


@needs_dask
def test_scheduler_that_is_started_again_is_found_again(
    heavy: tuple[StudySpec, Requests], expected: dict[Design, Any]
) -> None:
    said = Said()
    with Cluster() as cluster, open_workers("dask", 2, *heavy, scheduler=cluster.address, patience=said.patience) as w:
        batch: list[list[Evaluation]] = []
        for evaluations in w.submit(list(expected)):
            if not batch:
                os.killpg(cluster.scheduler.pid, signal.SIGKILL)
                threading.Timer(2, lambda: cluster.__enter__()).start()
            batch.append(evaluations)
        assert found(iter(batch)) == expected
    assert said.has("cannot be reached")
    assert said.has("goes on")


@needs_dask
def test_scheduler_that_stays_away_ends_the_study_so_that_it_can_go_on(
    heavy: tuple[StudySpec, Requests], expected: dict[Design, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Cluster() as cluster,
        open_workers("dask", 2, *heavy, scheduler=cluster.address, patience=Said(1).patience) as workers,
    ):
        batch = workers.submit(list(expected))
        next(batch)
        monkeypatch.setattr("dse.execution.dask_cluster.CONNECT_S", 1.0)
        os.killpg(cluster.scheduler.pid, signal.SIGKILL)
        with pytest.raises(CutOff, match="--resume"):
            list(batch)


# Disks


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 256 KiB."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(command, check=False, capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("mounting a small disk is not allowed here; the test with a limited file size stands for it")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Use all room of a disk."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    return filler


def test_full_disk_is_waited_for(tmp_path: Path, spec: StudySpec) -> None:
    said, trials = Said(), finished(spec, 40)
    with small_disk(tmp_path / "disk") as disk:
        journal = TrialJournal(disk / "j", spec, DIRECTIONS, said.patience)
        journal.append_many(trials[:20])
        filler = fill(disk)
        threading.Timer(1, filler.unlink).start()
        start = time.monotonic()
        journal.append_many(trials[20:])
        assert time.monotonic() - start > 0.9
        assert said.has("the disk is full; the study pauses")
        assert said.has("goes on")
        assert numbers(disk / "j") == list(range(40))


def test_disk_that_stays_full_ends_the_study_so_that_it_can_go_on(tmp_path: Path, spec: StudySpec) -> None:
    trials = finished(spec, 40)
    with small_disk(tmp_path / "disk") as disk:
        journal = TrialJournal(disk / "j", spec, DIRECTIONS, Said(0.5).patience)
        journal.append_many(trials[:20])
        filler = fill(disk)
        with pytest.raises(CutOff, match="the disk is full; what finished is kept: go on with --resume"):
            journal.append_many(trials[20:])
        assert (disk / "j").read_bytes().endswith(b"}\n")
        filler.unlink()
        again = TrialJournal(disk / "j", spec, DIRECTIONS)
        assert len(again.trials) == 20
        again.append_many(trials[20:])
        assert numbers(disk / "j") == list(range(40))


def test_limited_file_size_is_waited_for(tmp_path: Path, spec: StudySpec) -> None:
    """The same where nothing may be mounted: the system refuses to let files grow, in the middle of a batch."""
    said, trials, path = Said(), finished(spec, 40), tmp_path / "j"
    journal = TrialJournal(path, spec, DIRECTIONS, said.patience)
    journal.append_many(trials[:20])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def lift() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    timer = threading.Timer(1, lift)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 1500, before[1]))
        timer.start()
        journal.append_many(trials[20:])
    finally:
        timer.join()
        lift()
    assert said.has("pauses")
    assert numbers(path) == list(range(40))


def test_control_c_ends_the_wait_for_a_disk(tmp_path: Path, spec: StudySpec) -> None:
    path = tmp_path / "j"
    start = time.monotonic()
    patience = Patience(600, lambda _: None, stopped=lambda: time.monotonic() > start + 1)
    journal = TrialJournal(path, spec, DIRECTIONS, patience)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
        with pytest.raises(CutOff):
            journal.append_many(finished(spec, 5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert time.monotonic() - start < 5
    assert numbers(path) == []


def numbers(journal: Path) -> list[int]:
    return [evaluation.number for evaluation in read_evaluations(journal, "small")]


# Databases


def stored(server: PostgreSQL, name: str) -> list[dict[str, Any]]:
    """Return the evaluations in a database as any Optuna tool sees them, in the order of their writing."""
    study = optuna.load_study(study_name=name, storage=server.url)
    assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
    return [trial.user_attrs[EVALUATION] for trial in study.trials]


def each_once(evaluations: Sequence[dict[str, Any]]) -> bool:
    return len(set(map(designs_of, evaluations))) == len(evaluations)


@needs_postgresql
@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_database_that_goes_away_is_waited_for(server: PostgreSQL, mode: str) -> None:
    """Without a journal the study waits."""
    said, spec = Said(), small(name=f"away-{mode}")
    store = open_store(None, server.url, spec, DIRECTIONS, patience=said.patience)
    assert store
    trials = finished(spec, 60)
    for start in range(0, 60, 10):
        if start == 20:
            server.stop(mode)
            threading.Timer(3, server.start).start()
        store.append_many(trials[start : start + 10])
    assert [trial.user_attrs for trial in store.trials] == [trial.user_attrs for trial in trials]
    store.close()
    assert each_once(stored(server, spec.name))
    assert said.has("the study pauses")


@needs_postgresql
def test_study_goes_on_while_the_database_is_away_for_ten_seconds(server: PostgreSQL, tmp_path: Path) -> None:
    spec = small(name="ten-seconds", sampler="nsga2", budget={"trials": 200})
    alone = run_study(spec, jobs=2)
    said: list[str] = []

    class Stop(Nobody):
        seen = 0

        def evaluated(self, evaluation: Evaluation) -> None:  # noqa: ARG002
            Stop.seen += 1
            if Stop.seen == 40:
                server.stop()
                threading.Timer(10, server.start).start()

    start = time.monotonic()
    path = tmp_path / "trials.journal"
    result = run_study(spec, jobs=2, journal=path, storage=server.url, listener=Stop(), say=said.append)
    assert time.monotonic() - start > 9
    assert record(result) == record(alone)
    in_database = stored(server, spec.name)
    assert each_once(in_database)
    kept = read_evaluations(path, spec.name)
    assert sorted(each["number"] for each in in_database) == [each.number for each in kept]
    assert len(kept) == len(result.evaluations)
    assert any("the study goes on" in line for line in said)


@needs_postgresql
def test_what_the_database_lacks_is_sent_when_the_run_is_resumed(server: PostgreSQL, tmp_path: Path) -> None:
    said, spec, path = Said(0.5), small(name="lacks"), tmp_path / "j"
    store = open_store(path, server.url, spec, DIRECTIONS, patience=said.patience)
    assert store
    trials = finished(spec, 30)
    store.append_many(trials[:10])
    wait_until(lambda: len(stored(server, spec.name)) == 10)
    server.stop()
    try:
        store.append_many(trials[10:])
        with pytest.raises(CutOff, match="--resume"):
            store.close()
    finally:
        server.start()
    assert len(read_evaluations(path, spec.name)) == 30
    again = open_store(path, server.url, spec, DIRECTIONS)
    assert again
    assert len(again.trials) == 30
    again.close()
    assert len(stored(server, spec.name)) == 30
    assert each_once(stored(server, spec.name))


# The main process


def start(study: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dse", "run", str(study), *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=study.parent, text=True, stdout=pipe, stderr=pipe, start_new_session=True)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "sampler": "nsga2"}))
    return path


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def resumed(study: Path, out: str, trials: int) -> tuple[Evaluation, ...]:
    again = start(study, "--out", out, "--resume", "--trials", str(trials), "--jobs", "2", "-q")
    _, complaint = again.communicate(timeout=120)
    assert again.returncode == 0, complaint
    return read_evaluations(study.parent / out / "trials.journal", "small")


def test_control_c_twice_stops_at_once_and_the_study_goes_on(study: Path) -> None:
    run = start(study, "--trials", "100000", "--jobs", "2", "--out", "twice")
    journal = study.parent / "twice" / "trials.journal"
    wait_until(lambda: lines(journal) >= 50)
    os.killpg(run.pid, signal.SIGINT)
    time.sleep(0.02)
    os.killpg(run.pid, signal.SIGINT)
    stopped = time.monotonic()
    _, complaint = run.communicate(timeout=60)
    assert run.returncode == 130
    assert time.monotonic() - stopped < 20
    assert "Traceback" not in complaint
    before = read_evaluations(journal, "small")
    simulated = sum(each.simulated for each in before)
    after = resumed(study, "twice", simulated + 30)
    assert after[: len(before)] == before
    assert sum(each.simulated for each in after) == simulated + 30
    assert each_once([each.to_json() for each in after])


def test_killed_main_process_loses_nothing_finished(study: Path) -> None:
    run = start(study, "--trials", "100000", "--jobs", "2", "--out", "killed")
    journal = study.parent / "killed" / "trials.journal"
    wait_until(lambda: lines(journal) >= 50)
    children = children_of(run.pid)
    run.kill()
    run.communicate()
    before = [json.loads(line) for line in journal.read_bytes().split(b"\n")[:-1]]
    kept = [each["user_attrs"][EVALUATION]["number"] for each in before if EVALUATION in each.get("user_attrs", {})]
    simulated = sum(each.simulated for each in read_evaluations(journal, "small"))
    after = resumed(study, "killed", simulated + 30)
    assert set(kept) <= {each.number for each in after}
    assert sum(each.simulated for each in after) == simulated + 30
    assert each_once([each.to_json() for each in after])
    wait_until(lambda: not any(map(runs, children)))


# Several machines


@needs_postgresql
def test_two_machines_share_a_study(server: PostgreSQL, tmp_path: Path) -> None:
    """Two commands with the same study and database: each design once, and both know all of it."""
    path = tmp_path / "shared.yaml"
    changes = {"name": "shared", "workload": HEAVY, "sampler": "nsga2", "budget": {"trials": 160}}
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    machines = [start(path, "--jobs", "1", "--storage", server.url, "--out", out) for out in ("one", "two")]
    for machine in machines:
        _, complaint = machine.communicate(timeout=120)
        assert machine.returncode == 0, complaint
    in_database = stored(server, "shared")
    assert each_once(in_database)
    simulated = sum(not each["reason"] for each in in_database)
    assert 160 <= simulated <= 160 + 3 * 20  # what was under way when the other one finished
    later = start(path, "--jobs", "1", "--storage", server.url, "--out", "three", "-q")
    _, complaint = later.communicate(timeout=120)
    assert later.returncode == 0, complaint
    kept = [each.to_json() for each in read_evaluations(tmp_path / "three" / "trials.journal", "shared")]
    assert sorted(map(designs_of, kept)) == sorted(map(designs_of, in_database))
    for out in ("one", "two"):
        own = [each.to_json() for each in read_evaluations(tmp_path / out / "trials.journal", "shared")]
        assert each_once(own)
        assert sum(not each["reason"] for each in own) >= 160
        assert set(map(designs_of, own)) <= set(map(designs_of, in_database))


def designs_of(evaluation: dict[str, Any]) -> str:
    return json.dumps(evaluation["design"], sort_keys=True)


# All of it


@needs_dask
@needs_postgresql
def test_dask_cluster_with_postgresql_and_a_killed_worker_finds_the_same_front(
    server: PostgreSQL, tmp_path: Path
) -> None:
    """Two workers, a database, one worker killed in the middle: the same trials as alone on one process."""
    spec = small(name="cluster", sampler="nsga2", workload=HEAVY, budget={"trials": 100})
    requests = build_requests(spec.workload)
    alone = run_study(spec, jobs=1, requests=requests)
    with Cluster() as cluster:
        victim = cluster._processes[-1]

        class Kill(Nobody):
            seen = 0

            def evaluated(self, evaluation: Evaluation) -> None:  # noqa: ARG002
                Kill.seen += 1
                if Kill.seen == 30:
                    # A little later, in the middle of the next batch.
                    threading.Timer(0.05, os.killpg, (victim.pid, signal.SIGKILL)).start()

        result = run_study(
            spec,
            journal=tmp_path / "trials.journal",
            requests=requests,
            listener=Kill(),
            backend="dask",
            scheduler=cluster.address,
            storage=server.url,
        )
    assert victim.poll() is not None
    assert record(result) == record(alone)
    assert result.front_table.equals(alone.front_table)
    in_database = stored(server, spec.name)
    assert each_once(in_database)
    assert len(in_database) == len(alone.evaluations)
