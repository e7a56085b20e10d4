"""The engine of one machine: joblib's loky processes, which map the requests into memory instead of receiving them."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, Final

from dse.execution.engine import Loss
from dse.execution.task import Finished, MappedFile, Payload, evaluate_task
from search_spaces import Design
from simulator import SpecError
from simulator.kernel import warm_up

LOOK_S: Final = 1.0
"""Seconds between two looks of a process whether the main process is still there."""


def prepare_worker() -> None:
    """Load the kernel, leave Ctrl-C to the main process, as a terminal sends it to all, and end with that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    warm_up()


def _end_with(main: int) -> None:
    """End when the main process was killed; by itself a process of joblib waits 5 minutes for work."""
    while os.getppid() == main:
        time.sleep(LOOK_S)
    os._exit(1)


def _ready() -> None:
    """Do nothing, in a process that was prepared."""


def _hush_manager() -> None:
    """Silence joblib's thread where it stumbles over tasks that a second Ctrl-C takes away from it."""
    inner = threading.excepthook

    def hook(failed: threading.ExceptHookArgs, /) -> None:
        manager = failed.thread is not None and failed.thread.name == "ExecutorManagerThread"
        if not (manager and failed.exc_type is KeyError):
            inner(failed)

    if getattr(inner, "__name__", "") != hook.__name__ or getattr(inner, "__module__", "") != __name__:
        threading.excepthook = hook


def _store(payload: Payload) -> Path:
    """Write a payload where processes of this machine can map it, in memory if there is room; return the folder.

    The folder disappears with this process, also if that is killed.
    """
    import joblib
    from joblib.externals.loky.backend import resource_tracker

    wanted = os.environ.get("JOBLIB_TEMP_FOLDER"), "/dev/shm", tempfile.gettempdir()
    refusal: OSError | None = None
    for place in wanted:
        if not place or not os.path.isdir(place):
            continue
        folder = ""
        try:
            folder = tempfile.mkdtemp(prefix="dse-", dir=place)
            joblib.dump(payload, os.path.join(folder, "payload"))
        except OSError as error:
            refusal = error
            shutil.rmtree(folder, ignore_errors=True)
        else:
            resource_tracker.register(folder, "folder")
            return Path(folder)
    raise SpecError(f"{wanted[-1]}: no room for the requests ({refusal}); name another folder in JOBLIB_TEMP_FOLDER")


class Processes:
    """Processes of this machine.

    Parameters
    ----------
    jobs
        Number of processes.
    payload
        What all tasks need.
    """

    def __init__(self, jobs: int, payload: Payload) -> None:
        self.jobs = jobs
        self._payload = payload
        self._folder: Path | None = None
        self._warming: Iterator[None] = iter(())
        self._running: list[Any] = []

    def open(self) -> None:
        """Start the processes, and let them load the kernel while the first designs are proposed."""
        import joblib

        _hush_manager()
        if self._folder is None:
            self._folder = _store(self._payload)
            self._source = MappedFile(str(self._folder / "payload"))
        self._warming = self._parallel()(joblib.delayed(_ready)() for _ in range(self.jobs))

    def close(self) -> None:
        """Give up what is under way. joblib keeps idle processes for the next study and ends them after 5 minutes."""
        from joblib.externals.loky.backend import resource_tracker

        with warnings.catch_warnings():
            # After a second Ctrl-C joblib tells how many tasks it gave up: that was the wish.
            warnings.simplefilter("ignore", UserWarning)
            for generator in (self._warming, *self._running):
                generator.close()
        self._running = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            resource_tracker.unregister(str(self._folder), "folder")
            self._folder = None

    def _parallel(self) -> Any:
        # One for each batch: batches may overlap, and one that broke is not used again. All share the processes.
        import joblib

        return joblib.Parallel(
            n_jobs=self.jobs,
            backend="loky",
            return_as="generator_unordered",
            pre_dispatch="all",
            batch_size=1,
            initializer=prepare_worker,
        )

    def start(self, tasks: Sequence[Sequence[Design]]) -> Iterator[Finished]:
        """Hand all tasks to the processes."""
        import joblib

        # It ends when the slowest process is ready; a process that died meanwhile shows in the tasks.
        try:
            for _ in self._warming:
                pass
        except BrokenExecutor:
            self._warming = iter(())
        work = joblib.delayed(evaluate_task)
        generator = self._parallel()(work(self._source, list(task)) for task in tasks)
        self._running = [each for each in self._running if each.gi_frame is not None]
        self._running.append(generator)
        finished: Iterator[Finished] = generator
        return finished

    def loss(self, error: Exception) -> Loss | None:
        """Tell whether a process ended."""
        from joblib.externals.loky.process_executor import ShutdownExecutorError

        # The second: another batch saw the loss first and ended the processes of both.
        if isinstance(error, BrokenExecutor) or isinstance(error.__context__, ShutdownExecutorError):
            return Loss("a worker process ended unexpectedly (killed, or out of memory)", by_a_task=True, gone=False)
        return None
