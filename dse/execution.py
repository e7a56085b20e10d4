"""Evaluation of designs in parallel processes, through joblib."""

from __future__ import annotations

import math
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from dse.evaluation import Evaluation, evaluate_many
from dse.spec import StudySpec
from search_spaces import Design
from simulator import Requests
from simulator.kernel import warm_up

TASKS_PER_WORKER = 4
"""Tasks of a batch per worker: enough that one slow design does not leave the other workers idle."""


def default_jobs() -> int:
    """Return the number of processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _prepare_worker() -> None:
    """Load the kernel, and leave Ctrl-C to the main process: a terminal sends it to all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warm_up()


class Workers(AbstractContextManager["Workers"]):
    """Processes that evaluate designs; with one job, this process itself.

    Parameters
    ----------
    jobs
        Number of processes.
    spec, requests
        The study and the requests that every design is given.
    """

    def __init__(self, jobs: int, spec: StudySpec, requests: Requests) -> None:
        import joblib

        self.jobs = jobs
        self._spec, self._requests = spec, requests
        self._warming: Iterator[None] = iter(())
        self._parallel: Any = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="all")

    def __enter__(self) -> Self:
        """Start the processes, and let them load the kernel while the first designs are proposed."""
        import joblib

        self._parallel.__enter__()
        if self.jobs > 1:
            self._warming = self._parallel(joblib.delayed(_prepare_worker)() for _ in range(self.jobs))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the processes."""
        with warnings.catch_warnings():
            # After a second Ctrl-C joblib tells how many tasks it gave up: that was the wish.
            warnings.simplefilter("ignore", UserWarning)
            self._parallel.__exit__(kind, error, trace)

    def submit(self, designs: Sequence[Design]) -> Iterator[list[Evaluation]]:
        """Start the evaluation of a batch; iterate to receive evaluations as they finish."""
        import joblib

        # joblib runs one batch at a time; this one ends when the slowest process is ready.
        for _ in self._warming:
            pass
        size = max(1, math.ceil(len(designs) / (self.jobs * TASKS_PER_WORKER)))
        tasks = [designs[start : start + size] for start in range(0, len(designs), size)]
        work = joblib.delayed(evaluate_many)
        results: Iterator[list[Evaluation]] = self._parallel(work(task, self._spec, self._requests) for task in tasks)
        return results
