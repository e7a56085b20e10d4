"""Workers that are alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, insert, select, update

from dse.service.storage.database import Database
from dse.service.storage.tables import WORKERS

FORGOTTEN_S: Final = 86_400.0
"""Seconds after which the row of a worker that died is deleted."""
_C: Final = WORKERS.c


@dataclass(frozen=True)
class WorkerRow:
    """A worker; times are seconds since 1970 by the database's clock."""

    id: str
    host: str
    pid: int
    jobs: int
    started_s: float
    seen_s: float


class Workers:
    """The workers of a database.

    Parameters
    ----------
    database
        With the tables of the service.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, id: str, host: str, pid: int, jobs: int) -> None:
        """Note a worker that begins."""
        now = self._database.now
        row = {"id": id, "host": host[:200], "pid": pid, "jobs": jobs, "started_s": now, "seen_s": now}
        with self._database.writing() as connection:
            connection.execute(delete(WORKERS).where(_C.seen_s < now - FORGOTTEN_S))
            connection.execute(insert(WORKERS).values(row))

    def seen(self, id: str) -> bool:
        """Note that a worker is alive; tell whether it is known."""
        alive = update(WORKERS).where(_C.id == id).values(seen_s=self._database.now)
        with self._database.writing() as connection:
            return connection.execute(alive.returning(_C.id)).one_or_none() is not None

    def remove(self, id: str) -> None:
        """Note that a worker has ended."""
        with self._database.writing() as connection:
            connection.execute(delete(WORKERS).where(_C.id == id))

    def living(self, within_s: float) -> list[WorkerRow]:
        """Return the workers that were seen within so many seconds, the oldest first."""
        alive = select(WORKERS).where(_C.seen_s >= self._database.now - within_s).order_by(_C.started_s, _C.id)
        with self._database.reading() as connection:
            return [WorkerRow(**row._mapping) for row in connection.execute(alive)]
