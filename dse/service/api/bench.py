"""Processes beside the server in which everything heavy is computed, so that one question leaves the others alone.

Each process has a thread of the server that hands it one job at a time over a pipe. A job that takes too long is ended
with its process; one whose process dies, or has no memory left, is tried once more in a new one.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from subprocess import DEVNULL
from subprocess import Popen as Process
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from dse.service.api.bench_process import READY
from simulator.errors import SpecError

if TYPE_CHECKING:
    from dse.service.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

PROCESSES: Final = 2
WAITING: Final = 64
"""Jobs that wait; more are refused."""
START_S: Final = 120.0
"""A process that has not started by then never will: compiling for the first time takes about 20 s."""
_PROGRAM: Final = "import sys; from dse.service.api.bench_process import work; work(int(sys.argv[1]))"

log = logging.getLogger(__name__)


class Busy(Exception):
    """More jobs wait already than may; nothing was done."""

    retry_after_s: Final = 2


_STOPS: Final = Busy("the server is about to stop")


class TooMuch(SpecError):
    """A job that takes more time or memory than it may."""


@dataclass
class _Job:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    limit_s: float
    answer: Future[Any] = field(default_factory=Future)


@dataclass
class Counts:
    """What the bench did so far.

    Attributes
    ----------
    done
        Jobs that ended, refused ones too.
    timeouts
        Processes ended because a job took too long.
    deaths
        Processes that died by themselves or had no memory left.
    busy
        Jobs that are computed right now.
    """

    done: int = 0
    timeouts: int = 0
    deaths: int = 0
    busy: int = 0


class Bench:
    """A few processes that compute one job each.

    Parameters
    ----------
    settings
        Of the server: limits, and where traces are.
    processes
        How many.
    waiting
        Jobs that may wait for one.
    """

    def __init__(self, settings: Settings, *, processes: int = PROCESSES, waiting: int = WAITING) -> None:
        self.counts = Counts()
        self._settings = settings
        self._jobs: queue.Queue[_Job | None] = queue.Queue(waiting)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._seats = [_Seat(self) for _ in range(processes)]
        self._threads = [threading.Thread(target=seat.serve, name="bench", daemon=True) for seat in self._seats]

    @property
    def waiting(self) -> int:
        """Jobs that wait for a process."""
        return self._jobs.qsize()

    @property
    def processes(self) -> list[int]:
        """Ids of the processes that run."""
        return [seat.process.pid for seat in self._seats if seat.process is not None]

    def start(self) -> None:
        """Start the processes; returns at once."""
        for thread in self._threads:
            thread.start()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a function returns, or raise what it raises, computed in one of the processes.

        Files that a specification names are found among the uploaded traces, as everywhere in the service.

        Parameters
        ----------
        function
            Of a module; it and its arguments are pickled.
        args, kwargs
            Of the function.

        Raises
        ------
        Busy
            If too many jobs wait.
        TooMuch
            If it takes longer than ``limits.once_s``, or more memory than ``limits.memory_gb``.
        """
        answer: T = await asyncio.wrap_future(self.submit(function, *args, **kwargs))
        return answer

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Return the answer to come; see :meth:`run`."""
        if self._closing.is_set():
            raise _STOPS
        job = _Job(function, args, kwargs, self._settings.limits.once_s)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Busy(f"{self.waiting} computations wait already; try again in a moment") from None
        return job.answer

    def close(self) -> None:
        """End all processes, whatever they compute; who waits for an answer gets :class:`Busy`."""
        self._closing.set()
        for seat in self._seats:
            seat.end()
        for thread in self._threads:
            if thread.ident is not None:
                # A place in the queue is free soon: threads empty it.
                self._jobs.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    # What seats ask

    def next_job(self) -> _Job | None:
        """Return a job to do, None at the end."""
        while (job := self._jobs.get()) is not None:
            if job.answer.set_running_or_notify_cancel():
                if not self._closing.is_set():
                    return job
                job.answer.set_exception(_STOPS)
        return None

    def started(self) -> tuple[Process[bytes], Connection]:
        """Return a new process and the pipe to it."""
        ours, theirs = Pipe()
        with theirs:
            # Not multiprocessing's own processes: they would run the script again that this server was started from.
            command = [sys.executable, "-c", _PROGRAM, str(theirs.fileno())]
            process = Process(command, pass_fds=(theirs.fileno(),), stdin=DEVNULL)
        ours.send((sys.path, self._settings))
        return process, ours

    def count(self, **more: int) -> None:
        """Add to the counts."""
        with self._lock:
            for name, number in more.items():
                setattr(self.counts, name, getattr(self.counts, name) + number)

    @property
    def is_closing(self) -> bool:
        """Whether no process is to be started any more."""
        return self._closing.is_set()

    @property
    def memory_gb(self) -> float:
        """Memory that a process may take."""
        return self._settings.limits.memory_gb


class _Gone(Exception):
    """The process is not there any more, or of no use."""


class _Seat:
    """One process, and a new one where it was lost."""

    def __init__(self, bench: Bench) -> None:
        self.process: Process[bytes] | None = None
        self._bench = bench
        self._pipe: Connection | None = None
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Do jobs until there are no more."""
        while True:
            # Before there is something to do, so that nobody waits for it.
            try:
                self._connected()
            except (_Gone, Busy):
                log.debug("no process before it is needed")
            job = self._bench.next_job()
            if job is None:
                break
            self._bench.count(busy=1)
            try:
                answer = self._twice(job)
            except Exception as error:
                job.answer.set_exception(error)
            else:
                job.answer.set_result(answer)
            finally:
                self._bench.count(busy=-1, done=1)
        self.end()

    def end(self) -> None:
        """End the process, whatever it does."""
        with self._lock:
            process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def _twice(self, job: _Job) -> Any:
        for _ in range(2):
            try:
                return self._once(job)
            except _Gone:
                self._lost()
        raise TooMuch(
            f"needs more memory than the {self._bench.memory_gb:g} GB of a process, or breaks it; ask for less"
        )

    def _once(self, job: _Job) -> Any:
        pipe = self._connected()
        try:
            pipe.send((job.function, job.args, job.kwargs))
            if not pipe.poll(job.limit_s):
                self.end()
                self._bench.count(timeouts=1)
                raise TooMuch(f"takes longer than {job.limit_s:g} s; ask for less, or create a study")
            answer, error = pipe.recv()
        except (EOFError, OSError):
            raise _Gone from None
        if isinstance(error, MemoryError):
            raise _Gone
        if error is not None:
            raise error
        return answer

    def _connected(self) -> Connection:
        """Return the pipe to a process that waits for a job, a new one if need be."""
        if self.process is None or self._pipe is None:
            if self._pipe is not None:
                self._pipe.close()
            try:
                with self._lock:
                    # The lock, so that a process that starts while the bench closes is seen and ended.
                    if self._bench.is_closing:
                        raise _STOPS
                    self.process, self._pipe = self._bench.started()
                if not self._pipe.poll(START_S) or self._pipe.recv() != READY:
                    raise _Gone
            except (EOFError, OSError, _Gone):
                self._lost()
                log.warning("a process of the bench did not start")
                raise _Gone from None
        return self._pipe

    def _lost(self) -> None:
        if self._bench.is_closing:
            raise _STOPS
        self.end()
        self._bench.count(deaths=1)
