"""The engine without processes: designs are evaluated here, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dse.execution.engine import Loss
from dse.execution.task import Finished, Payload, evaluate_task
from search_spaces import Design


class Sequential:
    """Evaluates in this process when somebody asks for the outcome."""

    jobs = 1

    def __init__(self, payload: Payload) -> None:
        self._payload = payload

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def start(self, tasks: Sequence[Sequence[Design]]) -> Iterator[Finished]:
        """Evaluate task by task."""
        import joblib

        parallel: Any = joblib.Parallel(n_jobs=1, backend="sequential", return_as="generator", batch_size=1)
        finished: Iterator[Finished] = parallel(joblib.delayed(evaluate_task)(self._payload, task) for task in tasks)
        return finished

    def loss(self, error: Exception) -> Loss | None:  # noqa: ARG002
        """Return None: whatever is wrong is wrong with a task."""
        return None
