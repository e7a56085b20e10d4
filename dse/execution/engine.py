"""What all engines promise: they run tasks through joblib and can tell a lost worker from a mistake in a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from dse.execution.task import Finished
from search_spaces import Design


@dataclass(frozen=True)
class Loss:
    """Workers went away while tasks were under way.

    Attributes
    ----------
    reason
        In a few words.
    by_a_task
        Whether a task may have caused it.
    gone
        Whether the way to the workers is lost and must be opened anew.
    """

    reason: str
    by_a_task: bool
    gone: bool


class Engine(Protocol):
    """Processes, here or elsewhere, that evaluate designs.

    Attributes
    ----------
    jobs
        Number of tasks that run at the same time.
    """

    jobs: int

    def open(self) -> None:
        """Start the processes, or reach those that are there."""

    def close(self) -> None:
        """Stop what was started."""

    def start(self, tasks: Sequence[Sequence[Design]]) -> Iterator[Finished]:
        """Start tasks at once; iterate to receive what they found, as they finish."""

    def loss(self, error: Exception) -> Loss | None:
        """Tell what an error that :meth:`open`, :meth:`start` or its iterator raised says about the workers."""
