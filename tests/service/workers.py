"""Workers for tests: in a thread, or as processes that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dse.service.settings import Settings
from dse.service.storage.studies import Studies, StudyRow
from dse.service.work.worker import run_worker
from dse.spec import StudySpec

from .conftest import changed

PROGRAM = """
import sys
from dse.service.settings import Settings
from dse.service.work.worker import run_worker
run_worker(Settings.model_validate_json(sys.argv[1]), jobs=int(sys.argv[2]), say=print)
"""


def wait_until(true: Callable[[], object], limit_s: float = 180) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lasting(trials: int = 200, **changes: Any) -> StudySpec:
    """Return a study that runs for some seconds and writes every 20 trials."""
    workload = {
        "requests": 1500,
        "arrivals": {"process": "poisson", "rate_rps": 4},
        "lengths": {"statistics": "azure-2023-conversation"},
    }
    return changed(**{"sampler": "nsga2", "workload": workload, "budget": {"trials": trials}, **changes})


class WorkerProcess:
    """A worker as a process, which can be killed."""

    def __init__(self, settings: Settings, jobs: int = 1) -> None:
        command = [sys.executable, "-c", PROGRAM, settings.model_dump_json(), str(jobs)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)

    @property
    def runners(self) -> list[int]:
        return [pid for pid in children_of(self.process.pid) if "service.work.runner" in command_of(pid)]

    @property
    def descendants(self) -> list[int]:
        found, new = [], [self.process.pid]
        while new:
            new = [child for pid in new for child in children_of(pid)]
            found += new
        return found

    def end(self) -> None:
        """Kill it and all that it started."""
        for pid in (self.process.pid, *self.descendants):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def worker_processes(*settings: Settings, jobs: int = 1) -> Iterator[list[WorkerProcess]]:
    workers = [WorkerProcess(each, jobs) for each in settings]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.end()


@contextmanager
def worker_thread(settings: Settings, jobs: int = 1) -> Iterator[list[str]]:
    """Run a worker beside the test; gives what it says."""
    said: list[str] = []
    ends = threading.Event()
    options = {"jobs": jobs, "stopping": ends.is_set, "say": said.append}
    thread = threading.Thread(target=run_worker, args=(settings,), kwargs=options)
    thread.start()
    try:
        yield said
    finally:
        ends.set()
        thread.join()


def children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(entry.name))
    return found


def command_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def runs(pid: int) -> bool:
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def is_over(studies: Studies, id: str) -> Callable[[], StudyRow | None]:
    def over() -> StudyRow | None:
        row = studies.get(id)
        return row if row.state in ("finished", "failed") else None

    return over


def evaluations(studies: Studies, id: str) -> list[dict[str, Any]]:
    return studies.evaluations_since(id, 0)[0]


def check_whole(studies: Studies, id: str, before: Sequence[dict[str, Any]]) -> None:
    """Check that a study is complete, that nothing was lost, and nothing is there twice."""
    row = studies.get(id)
    assert (row.state, row.reason) == ("finished", "")
    found = evaluations(studies, id)
    assert found[: len(before)] == list(before)
    designs = [json.dumps(each["design"], sort_keys=True) for each in found]
    assert len(set(designs)) == len(designs)
    assert len({each["number"] for each in found}) == len(found)
    simulated = sum(not each["reason"] for each in found)
    assert (row.evaluated, row.simulated) == (len(found), simulated)
    assert simulated == row.trials
