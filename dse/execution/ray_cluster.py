"""The engine of a Ray cluster, through Ray's own joblib backend, which returns a batch when all of it is done."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.joblib import register_ray

from dse.execution.engine import Loss
from dse.execution.task import Finished, Payload, evaluate_task
from search_spaces import Design
from simulator import SpecError

_fetched: dict[str, Payload] = {}
"""The last payload of this worker."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A payload in Ray's object store: one copy a machine, mapped by its workers."""

    reference: Any

    def fetch(self) -> Payload:
        """Map it, once a worker."""
        key = self.reference.hex()
        if key not in _fetched:
            _fetched.clear()
            _fetched[key] = ray.get(self.reference)
        return _fetched[key]


class RayCluster:
    """A cluster that is there already, or one of this machine.

    Parameters
    ----------
    jobs
        Processes to use.
    payload
        What all tasks need; put into Ray's object store once.
    scheduler
        Address, e.g. ``10.0.0.5:6379``, ``auto`` or ``ray://10.0.0.5:10001``; if absent a cluster is started here.
    """

    def __init__(self, jobs: int, payload: Payload, scheduler: str | None) -> None:
        # joblib evaluates in this process if there is one job.
        self.jobs = max(2, jobs) if scheduler else jobs
        self.scheduler = scheduler
        self._payload = payload
        self._ours = self._broken = False
        self._parallel: Any = None
        self._thread: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Reach the cluster, or start one, and start its processes."""
        if not ray.is_initialized():
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if not self.scheduler:
                options |= {"num_cpus": self.jobs, "include_dashboard": False}
            try:
                ray.init(address=self.scheduler or "local", **options)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise SpecError(f"--scheduler {self.scheduler}: no Ray cluster answers there ({error})") from None
            self._ours = True
        register_ray()
        self._source = Stored(ray.put(self._payload))
        self._start_processes()

    def _start_processes(self) -> None:
        """Start a pool of processes; Ray starts one for each call unless it is kept open."""
        import joblib

        self._parallel = joblib.Parallel(n_jobs=self.jobs, backend="ray", batch_size=1)
        self._parallel.__enter__()
        self._thread = ThreadPoolExecutor(1)
        self._broken = False

    def close(self) -> None:
        """Leave the cluster; stop it if it was started here."""
        self._stop_processes()
        if self._ours and ray.is_initialized():
            ray.shutdown()
        self._ours = False

    def _stop_processes(self) -> None:
        if self._thread:
            self._thread.shutdown(wait=False, cancel_futures=True)
        with suppress(Exception):
            if self._parallel:
                self._parallel.__exit__(None, None, None)
        self._thread = self._parallel = None

    def start(self, tasks: Sequence[Sequence[Design]]) -> Iterator[Finished]:
        """Hand all tasks to the processes."""
        import joblib

        if self._broken:
            # Ray's pool does not replace a process that ended.
            self._stop_processes()
            self._start_processes()
        assert self._thread is not None
        work = joblib.delayed(evaluate_task)
        calls = [work(self._source, list(task)) for task in tasks]
        return _each(self._thread.submit(self._parallel, calls))

    def loss(self, error: Exception) -> Loss | None:
        """Tell whether processes or the cluster are gone."""
        if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.WorkerCrashedError):
            self._broken = True
            return Loss("a Ray process ended unexpectedly (killed, or out of memory)", by_a_task=True, gone=False)
        if isinstance(error, ray.exceptions.RaySystemError | ray.exceptions.ObjectLostError | ConnectionError):
            return Loss("the Ray cluster cannot be reached", by_a_task=False, gone=True)
        return None


def _each(batch: Future[list[Finished]]) -> Iterator[Finished]:
    """Yield what a batch found, once it is done."""
    yield from batch.result()
