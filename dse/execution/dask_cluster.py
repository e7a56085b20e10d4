"""The engine of a Dask cluster, through joblib's own Dask backend.

joblib's backend waits for ever where Dask gives a task up, where the scheduler goes away, and where the last copy of
scattered data is lost. The small subclass here turns each of these into an error of the batch.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import dask
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin
from distributed.comm.core import CommClosedError
from joblib._dask import DaskDistributedBackend

from dse.execution.engine import Loss
from dse.execution.processes import prepare_worker
from dse.execution.task import Finished, Payload, evaluate_task
from search_spaces import Design
from simulator import SpecError
from simulator.kernel import warm_up

if TYPE_CHECKING:
    from distributed import Worker

CONNECT_S: Final = 10.0
"""Seconds to wait for a scheduler and for the first worker, at each attempt."""
LOOK_S: Final = 0.2
"""Seconds between two looks whether the scheduler and the data are still there."""


class ClusterLost(Exception):
    """The scheduler went away."""


class DataLost(Exception):
    """All workers that had the scattered data went away."""


class _Backend(DaskDistributedBackend):  # type: ignore[misc]
    """joblib's backend, with data that is scattered already and an end to every wait."""

    def __init__(self, client: Client, payload: Payload, scattered: Any) -> None:
        super().__init__(client=client)
        self.data_futures = {id(payload): scattered}
        self._waiting: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return the number of threads of the cluster, at least 2: with 1, joblib would evaluate in this process."""
        return max(2, int(super().effective_n_jobs(n_jobs)))

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Send a task; joblib hears of errors, too."""
        future: Future[Any] = super().submit(func, callback)
        self._waiting.add(future)

        def done(future: Future[Any]) -> None:
            self._waiting.discard(future)
            if callback and future.exception():
                callback(future)

        future.add_done_callback(done)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return what a task returned, or raise what became of it."""
        if isinstance(out, Future) and (error := out.exception()):
            raise error
        if isinstance(out, CancelledError | asyncio.CancelledError):
            # Dask's word for a task that the scheduler does not know any more.
            raise ClusterLost(str(out))
        return super().retrieve_result_callback(out)

    def give_up(self, error: Exception) -> None:
        """End all waits with an error."""
        for future in list(self._waiting):
            with suppress(InvalidStateError):
                future.set_exception(error)


class _Prepare(WorkerPlugin):  # type: ignore[misc]
    """Prepares workers when they start, also those that replace killed ones."""

    name = "dse-prepare"

    def __init__(self, prepare: Callable[[], None]) -> None:
        self._prepare = prepare

    def setup(self, worker: Worker) -> None:  # noqa: ARG002
        """Load the kernel."""
        self._prepare()


class DaskCluster:
    """A cluster that is there already, or one of this machine.

    Parameters
    ----------
    jobs
        Workers to start if there is no scheduler; else the cluster's threads count.
    payload
        What all tasks need; scattered to all workers once.
    scheduler
        Address of the scheduler, e.g. ``tcp://10.0.0.5:8786``; if absent a cluster is started here.
    """

    def __init__(self, jobs: int, payload: Payload, scheduler: str | None) -> None:
        self.jobs = jobs
        self.scheduler = scheduler
        self._payload = payload
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._backends: list[_Backend] = []
        self._reached = False
        self._closed = threading.Event()

    def open(self) -> None:
        """Reach the cluster, or start one, and scatter the payload."""
        try:
            self._connect()
        except (OSError, TimeoutError) as error:
            self.close()
            if not self._reached and self.scheduler:
                raise SpecError(
                    f"--scheduler {self.scheduler}: no Dask scheduler with workers answers there ({error}); "
                    "start one with: dask scheduler, and workers with: dask worker ADDRESS --nthreads 1"
                ) from None
            raise ClusterLost(str(error)) from error
        except ValueError as error:
            raise SpecError(f"--scheduler {self.scheduler}: {error}; allowed: tcp://HOST:PORT or tls://") from None
        self._reached = True

    def _connect(self) -> None:
        # A cluster that is being lost is told of in one line by the study, not in Dask's many.
        for name in ("distributed.client", "distributed.core", "distributed.nanny", "distributed.scheduler"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        prepare: Callable[[], None] = warm_up
        if self.scheduler is None:
            # The study itself tries again what was lost; by itself Dask would do so three times in between. And its
            # profiler, whose figures nobody sees, would take time.
            ours = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.profile.enabled": False}
            with dask.config.set(ours):
                self._cluster = LocalCluster(
                    n_workers=self.jobs, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
                )
            prepare = prepare_worker
        self._client = Client(self.scheduler or self._cluster, timeout=CONNECT_S, set_as_default=False)
        self._client.register_plugin(_Prepare(prepare))
        self._client.wait_for_workers(1, timeout=CONNECT_S)
        (self._scattered,) = self._client.scatter([self._payload], broadcast=True, hash=False)
        self.jobs = max(1, sum(self._client.ncores().values()))
        self._closed = threading.Event()
        watch = self._client, self._scattered, self._closed
        threading.Thread(target=self._watch, args=watch, daemon=True).start()

    def _watch(self, client: Client, scattered: Any, closed: threading.Event) -> None:
        """End all waits when the scheduler or the data is gone."""
        while not closed.wait(LOOK_S):
            lost = client.status != "running"
            if lost or scattered.status != "finished":
                for backend in self._backends:
                    backend.give_up(ClusterLost("no connection") if lost else DataLost("no copy"))

    def close(self) -> None:
        """Leave the cluster; stop it if it was started here."""
        self._closed.set()
        client, self._client = self._client, None
        cluster, self._cluster = self._cluster, None
        self._backends = []
        with suppress(Exception):
            if client:
                client.close(timeout=CONNECT_S)
        with suppress(Exception):
            if cluster:
                cluster.close(timeout=CONNECT_S)

    def start(self, tasks: Sequence[Sequence[Design]]) -> Iterator[Finished]:
        """Send all tasks to the scheduler."""
        import joblib

        if not self._client or self._client.status != "running":
            raise ClusterLost("no connection")
        backend = _Backend(self._client, self._payload, self._scattered)
        # A batch is finished before the one after the next begins.
        self._backends = [*self._backends[-1:], backend]
        work = joblib.delayed(evaluate_task)
        parallel: Any = joblib.Parallel(
            n_jobs=-1, backend=backend, return_as="generator_unordered", pre_dispatch="all", batch_size=1
        )
        try:
            finished: Iterator[Finished] = parallel(work(self._payload, list(task)) for task in tasks)
        except (OSError, TimeoutError) as error:
            raise ClusterLost(str(error)) from error
        return finished

    def loss(self, error: Exception) -> Loss | None:
        """Tell whether workers, the scheduler or the data are gone."""
        if isinstance(error, KilledWorker):
            return Loss("workers of the Dask cluster ended unexpectedly", by_a_task=True, gone=False)
        if isinstance(error, DataLost):
            return Loss("all workers of the Dask cluster ended unexpectedly", by_a_task=True, gone=True)
        if isinstance(error, ClusterLost | CommClosedError | CancelledError):
            where = f"the Dask scheduler at {self.scheduler}" if self.scheduler else "the Dask cluster"
            return Loss(f"{where} or its workers cannot be reached", by_a_task=False, gone=True)
        return None
