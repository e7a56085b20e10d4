"""What a worker does: evaluate a few designs on what travelled to it once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from dse.evaluation import Evaluation, evaluate_many
from dse.spec import StudySpec
from search_spaces import Design
from simulator import Requests


@dataclass(frozen=True, eq=False)
class Payload:
    """What every task needs; it travels to a worker once, not with each task."""

    spec: StudySpec
    requests: Requests | tuple[Requests, ...]

    def fetch(self) -> Payload:
        """Return itself: it is where it is needed."""
        return self


class Source(Protocol):
    """Where a worker finds the payload; small, as it travels with each task."""

    def fetch(self) -> Payload:
        """Return the payload, read once a process."""


@dataclass(frozen=True)
class MappedFile:
    """A payload in a file of this machine, whose arrays all processes map into memory.

    Attributes
    ----------
    path
        Of the file; another payload has another one.
    """

    path: str

    def fetch(self) -> Payload:
        """Map the file, once a process."""
        return _mapped(self.path)


@lru_cache(maxsize=4)  # a study and what it compares with
def _mapped(path: str) -> Payload:
    import joblib

    payload: Payload = joblib.load(path, mmap_mode="r")
    return payload


@dataclass(frozen=True)
class Finished:
    """What a task found.

    Attributes
    ----------
    evaluations
        One for each design.
    wall_s
        Seconds in the worker.
    """

    evaluations: list[Evaluation]
    wall_s: float


def evaluate_task(source: Source, designs: Sequence[Design]) -> Finished:
    """Evaluate designs in a worker."""
    payload = source.fetch()
    start = time.perf_counter()
    evaluations = evaluate_many(designs, payload.spec, payload.requests)
    return Finished(evaluations, time.perf_counter() - start)
