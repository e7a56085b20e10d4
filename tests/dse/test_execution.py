"""Engines: the same evaluations everywhere, requests that travel once, tasks of a useful size."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.evaluation import Evaluation, precheck
from dse.execution import BACKENDS, Workers, check_backend, open_workers
from dse.execution.processes import Processes
from dse.execution.task import MappedFile, Payload, _mapped
from dse.execution.task_size import TASK_S, TASKS_PER_WORKER, TaskSize
from dse.spec import StudySpec
from search_spaces import Design
from simulator import Requests, SpecError, build_requests

from .conftest import SMALL, small

needs = {name: pytest.mark.skipif(not find_spec(name), reason=f"{name} is not installed") for name in ("dask", "ray")}
HEAVY = {**SMALL["workload"], "requests": 5000}
"""Some 10 ms a design."""


def designs(spec: StudySpec, count: int) -> list[Design]:
    """Return possible designs from all over the space."""
    possible = (design for design in spec.space.space if precheck(design, spec) is None)
    found = [design for _, design in zip(range(20 * count), possible, strict=False)]
    return found[:: len(found) // count][:count]


def found(batches: Iterator[list[Evaluation]]) -> dict[Design, Any]:
    """Return everything that does not depend on the clock, by design; none twice."""
    evaluations = [evaluation for batch in batches for evaluation in batch]
    by_design = {each.design: {**each.to_json(), "cpu_s": 0} for each in evaluations}
    assert len(by_design) == len(evaluations)
    return by_design


@pytest.fixture(scope="module")
def requests() -> Requests:
    return build_requests(small().workload)


@pytest.fixture(scope="module")
def expected(requests: Requests) -> dict[Design, Any]:
    with open_workers("sequential", None, small(), requests) as workers:
        return found(workers.submit(designs(small(), 40)))


@pytest.mark.parametrize(
    "backend", ["loky", pytest.param("dask", marks=needs["dask"]), pytest.param("ray", marks=needs["ray"])]
)
def test_engines_agree_and_batches_overlap(
    backend: str, requests: Requests, expected: dict[Design, Any], spec: StudySpec
) -> None:
    wanted = list(expected)
    with open_workers(backend, 2, spec, requests) as workers:
        assert workers.jobs == 2
        assert found(workers.submit(wanted)) == expected
        first, second = workers.submit(wanted[:17]), workers.submit(wanted[17:])
        assert {**found(first), **found(second)} == expected
        assert found(workers.submit([])) == {}


def test_batches_start_when_they_are_submitted(requests: Requests, spec: StudySpec, tmp_path: Path) -> None:
    """So designs are proposed while others are evaluated."""
    with Workers(2, spec, requests) as workers:
        marks = [Marking(design, tmp_path / str(index)) for index, design in enumerate(designs(spec, 4))]
        batch = workers.submit(marks)
        deadline = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(found(batch)) == 4


class Marking(Design):
    """A design that leaves a file where it is looked at in another process."""

    def __init__(self, design: Design, path: Path, home: int | None = None) -> None:
        self.path, self.home = path, home or os.getpid()
        super().__init__(design)

    def __reduce__(self) -> tuple[Any, ...]:
        return Marking, (Design(self), self.path, self.home)

    def __getitem__(self, name: str) -> Any:
        if os.getpid() != self.home:
            self.path.touch()
        return super().__getitem__(name)


def probe(source: MappedFile) -> tuple[int, bool, int, int]:
    """Return what a worker knows of its requests."""
    requests = source.fetch().requests
    assert isinstance(requests, Requests)
    return os.getpid(), isinstance(requests.arrival_ps, np.memmap), _mapped.cache_info().misses, len(requests)


def test_requests_are_mapped_once_a_process_and_not_sent(spec: StudySpec) -> None:
    requests = build_requests(small(workload=HEAVY).workload)
    payload = Payload(spec, requests)
    engine = Processes(2, payload)
    engine.open()
    try:
        for _ in engine.start([[design] for design in designs(spec, 10)]):
            pass
        task = pickle.dumps((engine._source, designs(spec, 5)))
        assert len(task) < len(pickle.dumps(payload)) / 10
        before = {
            pid: misses
            for pid, _, misses, _ in engine._parallel()(joblib.delayed(probe)(engine._source) for _ in range(20))
        }
        for pid, mapped, misses, count in engine._parallel()(joblib.delayed(probe)(engine._source) for _ in range(20)):
            assert mapped
            assert count == len(requests)
            assert misses == before.get(pid, misses)
        (copy,) = [payload.requests for payload in [engine._source.fetch()]]
        assert isinstance(copy, Requests)
        assert copy.fingerprint() == requests.fingerprint()
    finally:
        folder = engine._folder
        engine.close()
    assert folder
    assert not folder.exists()


def test_sessions_and_prefixes_travel_too() -> None:
    """Everything that requests may have survives the way into the file and out of it."""
    chat = {"turns": 3, "wait_s": 5, "prompt_tokens": 50}
    spec = small(workload={**SMALL["workload"], "requests": 100, "session": chat})
    requests = build_requests(spec.workload)
    assert requests.sessions is not None
    with Workers(2, spec, requests) as there, open_workers("sequential", 1, spec, requests) as here:
        some = designs(spec, 6)
        assert found(there.submit(some)) == found(here.submit(some))


STAY = """
import time
from tests.dse.conftest import small
from tests.dse.test_execution import designs
from dse.execution import Workers
from simulator import build_requests
if __name__ == "__main__":
    spec = small()
    with Workers(2, spec, build_requests(spec.workload)) as workers:
        for _ in workers.submit(designs(spec, 4)):
            pass
        print(workers._engine._folder, flush=True)
        time.sleep(600)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_killed_main_process_leaves_nothing_behind() -> None:
    with subprocess.Popen([sys.executable, "-c", STAY], stdout=subprocess.PIPE, text=True, cwd=ROOT) as main:
        assert main.stdout
        folder = Path(main.stdout.readline().strip())
        assert (folder / "payload").exists()
        workers = children_of(main.pid)
        assert workers
        main.send_signal(signal.SIGKILL)
        main.wait()
    deadline = time.monotonic() + 30
    while folder.exists() or any(map(runs, workers)):
        assert time.monotonic() < deadline, "files or processes are left"
        time.sleep(0.1)


ROOT = Path(__file__).parents[2]


def children_of(pid: int) -> list[int]:
    """Return the processes that a process started."""
    task = Path(f"/proc/{pid}/task")
    return [int(child) for thread in task.iterdir() for child in (thread / "children").read_text().split()]


def runs(pid: int) -> bool:
    """Tell whether a process is there and not only waiting for its parent to take notice of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Unreadable(Design):
    """A design whose evaluation meets an error that a lost connection could cause, too."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Unreadable, (dict(self),)

    def text(self, name: str) -> str:
        raise FileNotFoundError(name)


@pytest.mark.parametrize("backend", ["loky", pytest.param("dask", marks=needs["dask"])])
def test_a_mistake_in_a_task_is_not_taken_for_a_lost_worker(backend: str, requests: Requests, spec: StudySpec) -> None:
    with open_workers(backend, 2, spec, requests) as workers:
        with pytest.raises(KeyError):
            list(workers.submit([Design({"nothing": 1})]))
        with pytest.raises(FileNotFoundError):
            list(workers.submit([Unreadable(design) for design in designs(spec, 2)]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("spark",), ["--backend", "'spark'", ", ".join(BACKENDS)]),
        (("loky", "tcp://127.0.0.1:1"), ["--scheduler", "dask or ray", "loky"]),
    ],
)
def test_unknown_backends_are_refused(arguments: tuple[str, ...], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        check_backend(*arguments)
    assert all(word in str(caught.value) for word in words)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for backend in ("dask", "ray"):
        with pytest.raises(SpecError, match=rf"pip install 'dse-llm\[{backend}\]'"):
            check_backend(backend)


@needs["dask"]
def test_a_scheduler_that_does_not_answer_is_one_clear_line(
    requests: Requests, spec: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dse.execution.dask_cluster.CONNECT_S", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1"):
        with pytest.raises(SpecError, match="--scheduler") as caught:
            open_workers("dask", 1, spec, requests, scheduler=address).__enter__()
        assert address in str(caught.value)


@given(st.integers(0, 300), st.integers(1, 64), st.floats(1e-5, 10) | st.none())
def test_tasks_are_the_batch_cut(count: int, workers: int, design_s: float | None) -> None:
    size = TaskSize()
    if design_s:
        size.learn(1, design_s)
    batch = list(range(count))
    tasks = size.split(batch, workers)
    assert [each for task in tasks for each in task] == batch
    assert all(tasks)
    if count >= workers * TASKS_PER_WORKER:
        assert len(tasks) >= workers  # nobody is idle from the start
    if design_s:
        assert all(len(task) * design_s <= 1.5 * TASK_S or len(task) == 1 for task in tasks)


def test_task_size_follows_the_time_of_a_design() -> None:
    size = TaskSize()
    for _ in range(50):
        size.learn(5, 0.05)
    assert {len(task) for task in size.split(range(1000), 2)} == {10}
    for _ in range(50):
        size.learn(10, 1.0)
    assert {len(task) for task in size.split(range(1000), 2)} == {1}
