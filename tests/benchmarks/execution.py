"""Print what engines and stores cost, as a Markdown table: ``python -m tests.benchmarks.execution``.

The load is generated: 20,000 requests, 10 to 20 ms a design. PostgreSQL runs on this machine. Ray and Dask are left out
where they are not installed.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import optuna

from dse.execution import default_jobs, open_workers
from dse.storage import Store, open_store
from simulator import build_requests
from tests.benchmarks.measure import say
from tests.dse.conftest import SMALL, small
from tests.dse.postgres import PostgreSQL, binaries, make_folder
from tests.dse.test_execution import designs
from tests.dse.test_storage import DIRECTIONS, finished

BATCH = 20
"""Designs and trials at once, as a study hands them over."""


def engines() -> None:
    """Measure how busy each engine keeps the processors, and what it adds to a batch."""
    spec = small(workload={**SMALL["workload"], "requests": 20_000})
    requests, jobs = build_requests(spec.workload), default_jobs()
    wanted = designs(spec, 10 * BATCH)
    batches = [wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH)]
    for backend in ("sequential", "loky", "dask", "ray"):
        if backend in ("dask", "ray") and not find_spec(backend):
            continue
        start = time.perf_counter()
        with open_workers(backend, jobs, spec, requests) as workers:
            list(workers.submit(batches[0]))
            first = time.perf_counter() - start
            start, own, busy = time.perf_counter(), time.process_time(), 0.0
            for batch in batches[1:]:
                busy += sum(each.cpu_s for evaluations in workers.submit(batch) for each in evaluations)
            wall, own = time.perf_counter() - start, time.process_time() - own
            used = workers.jobs
        rest = own - busy if backend == "sequential" else own
        count = len(batches) - 1
        say(
            f"`{backend}`, {used} processes, batches of {BATCH} designs, one after the other",
            f"{wall / count * 1e3:.0f} ms a batch, {busy / wall / used:.0%} of it simulation on each, "
            f"{rest / count * 1e3:.1f} ms CPU of the study; first batch after {first:.1f} s",
        )


def _ms(write: Callable[[], object], count: int) -> str:
    wall, cpu = time.perf_counter(), time.process_time()
    write()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return f"{wall / count * 1e3:.2f} ms a trial, {cpu / count * 1e3:.2f} ms of it CPU of the study"


def _in_batches(store: Store, count: int) -> None:
    trials = finished(small(), count)
    for start in range(0, count, BATCH):
        store.append_many(trials[start : start + BATCH])


def stores() -> None:
    """Measure how long a finished trial takes to be kept, beside Optuna's own way of writing it."""
    spec, count = small(), 400
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = {"journal": None, "SQLite": f"sqlite:///{folder / 'trials.db'}"}
        server_folder = make_folder() if binaries() and find_spec("psycopg") else None
        server = PostgreSQL(server_folder) if server_folder else None
        if server:
            server.start()
            places["PostgreSQL"] = server.url
        for place, url in places.items():
            store = open_store(None if url else folder / "journal", url, spec, DIRECTIONS)
            assert store
            say(f"{place}, batches of {BATCH}", _ms(lambda store=store: _in_batches(store, count), count))
            if url:
                other = open_store(None, url, spec, DIRECTIONS)
                assert other
                say(f"{place}, read by another machine", _ms(other.refresh, count))
                theirs = optuna.create_study(storage=url, study_name="optuna", directions=DIRECTIONS)
                trials = finished(spec, 40)
                say(f"{place}, Optuna's `add_trial`", _ms(lambda study=theirs, t=trials: study.add_trials(t), 40))
        if server and server_folder:
            server.stop()
            shutil.rmtree(server_folder)


if __name__ == "__main__":
    print("| what | figure |\n|---|---|")
    engines()
    stores()
