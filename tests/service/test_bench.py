"""The processes beside the server: what they compute, and what ends them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dse.service.api.bench import Bench, Busy, TooMuch
from dse.service.settings import Limits, Settings
from simulator import SpecError
from simulator.errors import Problem
from simulator.files import named_file

ONCE_S = 1.5


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    limits = Limits(once_s=ONCE_S, memory_gb=1.5)
    bench = Bench(Settings(data=tmp_path_factory.mktemp("data"), limits=limits), processes=1, waiting=2)
    bench.start()
    yield bench
    bench.close()


def is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def add(one: int, other: int) -> int:
    return one + other


def refuse() -> None:
    raise SpecError("rate: must be above 0", [Problem("rate", "must be above 0", "-1")])


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def allocate(gigabytes: float) -> int:
    return int(np.ones(int(gigabytes * 1e9 / 8)).size)


def niceness() -> int:
    return os.nice(0)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        die()
    return "lived"


class Odd(Exception):
    """Cannot be pickled back: its arguments are not those of its parent."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def raise_odd() -> None:
    raise Odd(1, 2)


def ask_for(name: str, kind: str) -> str:
    return str(named_file(name, kind))


def run(bench: Bench, function: object, *args: object) -> object:
    return bench.submit(function, *args).result(60)  # type: ignore[arg-type]


def test_answers_and_refusals_come_back(bench: Bench) -> None:
    assert asyncio.run(bench.run(add, 1, other=2)) == 3
    with pytest.raises(SpecError, match="rate: must be above 0") as refused:
        run(bench, refuse)
    assert refused.value.problems == (Problem("rate", "must be above 0", "-1"),)
    with pytest.raises(RuntimeError, match="1 and 2"):
        run(bench, raise_odd)
    assert run(bench, niceness) >= 5  # type: ignore[operator]
    assert bench.counts.timeouts == bench.counts.deaths == 0


def test_what_takes_too_long_is_ended(bench: Bench) -> None:
    before, (process,) = bench.counts.timeouts, bench.processes
    began = time.monotonic()
    with pytest.raises(TooMuch, match=f"takes longer than {ONCE_S} s"):
        run(bench, sleep, 60.0)
    assert ONCE_S <= time.monotonic() - began < ONCE_S + 1
    assert bench.counts.timeouts == before + 1
    assert not is_alive(process)
    assert run(bench, add, 1, 2) == 3


def test_memory_is_limited(bench: Bench) -> None:
    assert run(bench, allocate, 0.2) == 25_000_000
    with pytest.raises(TooMuch, match=r"more memory than the 1.5 GB"):
        run(bench, allocate, 2.0)
    assert run(bench, add, 1, 2) == 3


def test_a_process_that_dies_is_replaced_and_its_job_done_again(bench: Bench, tmp_path: Path) -> None:
    before = bench.counts.deaths
    assert run(bench, die_once, str(tmp_path / "mark")) == "lived"
    assert bench.counts.deaths == before + 1
    # Also one that dies while it has nothing to do.
    (process,) = bench.processes
    os.kill(process, signal.SIGKILL)
    assert run(bench, add, 1, 2) == 3


def test_more_than_may_wait_are_refused(bench: Bench) -> None:
    first = bench.submit(sleep, 0.5)
    while not first.running():
        time.sleep(0.01)
    waiting = [bench.submit(add, 1, number) for number in range(2)]
    assert bench.waiting == 2
    assert bench.counts.busy == 1
    with pytest.raises(Busy, match="2 computations wait already"):
        bench.submit(add, 1, 2)
    assert [each.result(30) for each in waiting] == [1, 2]


def test_who_does_not_wait_any_more_takes_no_time(bench: Bench) -> None:
    first = bench.submit(sleep, 0.5)
    while not first.running():
        time.sleep(0.01)
    done = bench.counts.done
    forgotten = bench.submit(sleep, 1.0)
    assert forgotten.cancel()
    began = time.monotonic()
    assert run(bench, add, 1, 2) == 3
    assert time.monotonic() - began < 1.0
    assert bench.counts.done == done + 2


def test_files_of_this_machine_are_not_found(bench: Bench) -> None:
    for name in ("/etc/passwd", "../secret.json", "config.json"):
        with pytest.raises(SpecError, match="files are not taken here"):
            run(bench, ask_for, name, "model")


def test_close_leaves_no_process_and_nobody_waiting(tmp_path: Path) -> None:
    bench = Bench(Settings(data=tmp_path), processes=1)
    bench.start()
    busy = bench.submit(sleep, 50.0)
    while not busy.running():
        time.sleep(0.01)
    waits = bench.submit(add, 1, 2)
    processes = bench.processes
    began = time.monotonic()
    bench.close()
    assert time.monotonic() - began < 5
    assert not any(map(is_alive, processes))
    for each in (busy, waits):
        with pytest.raises(Busy, match="about to stop"):
            each.result(1)
    with pytest.raises(Busy):
        bench.submit(add, 1, 2)


def test_a_bench_that_never_started_closes(tmp_path: Path) -> None:
    Bench(Settings(data=tmp_path)).close()
