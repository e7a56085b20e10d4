"""What a runner is told when it starts, and what its exit code tells."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

SETTLED: Final = 0
"""The outcome is in the database, or the lease was somebody else's."""
UNSETTLED: Final = 3
"""The study was interrupted, or the database is away: it can go on later."""
STARVED: Final = 4
"""Memory did not suffice, perhaps not even to write that down."""


@dataclass(frozen=True)
class Job:
    """A study to run; it travels over a pipe, as the URL may hold a password.

    Attributes
    ----------
    url
        Of the database.
    data
        Folder for copies of traces.
    study, lease, worker
        What to run, the number of the lease and who has it.
    running_s
        For how long the study ran before.
    jobs
        Processes that simulate.
    memory_gb
        Memory that each process may take.
    parent
        Process that supervises: without it the runner ends.
    """

    url: str
    data: str
    study: str
    lease: int
    worker: str
    running_s: float
    jobs: int
    memory_gb: float
    parent: int

    def to_line(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Job:
        """Return the job of :meth:`to_line`."""
        return cls(**json.loads(line))
