"""Sums over all studies, for whoever watches the service."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from dse.service.storage.database import Database
from dse.service.storage.tables import STUDIES


@dataclass(frozen=True)
class Tally:
    """Sums over all studies there are.

    Attributes
    ----------
    evaluated, simulated
        Designs.
    leases
        Times that a worker took a study.
    losses
        Workers that died over a study since it last got on.
    """

    evaluated: int
    simulated: int
    leases: int
    losses: int


def tally(database: Database) -> Tally:
    """Return sums over all studies."""
    columns = (STUDIES.c.evaluated, STUDIES.c.simulated, STUDIES.c.lease, STUDIES.c.losses)
    with database.reading() as connection:
        row = connection.execute(select(*(func.coalesce(func.sum(each), 0) for each in columns))).one()
    return Tally(*map(int, row))
