"""What is known about every design of a finite space, and the certificate that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from dse.certificate.gap import dominated, gap
from dse.pareto import Floats, non_dominated

Indices = npt.NDArray[np.intp]


class Status(IntEnum):
    """Why a design need not be simulated any more, or that it may have to be."""

    OPEN = 0
    SIMULATED = 1
    TWIN = 2
    IMPOSSIBLE = 3
    BREAKS = 4
    DOMINATED = 5


MEANINGS = {
    Status.SIMULATED: "simulated",
    Status.TWIN: "run the same course as one that was simulated: no limit in which they differ ever mattered",
    Status.IMPOSSIBLE: "contradict themselves, do not fit into memory or exceed a limit of the study",
    Status.BREAKS: "break a promise even at best",
    Status.DOMINATED: "are beaten by the front even at best",
    Status.OPEN: "open",
}
"""What a status says of designs, to be read after their number."""


@dataclass(frozen=True)
class Certificate:
    """What was proved of a space.

    Attributes
    ----------
    designs
        Size of the space.
    counts
        Designs by status.
    gap
        Largest share of the front's hypervolume that the open designs could still add.
    """

    designs: int
    counts: dict[Status, int]
    gap: float

    @property
    def open(self) -> int:
        """Designs of which nothing is proved."""
        return self.counts[Status.OPEN]

    def to_json(self) -> dict[str, Any]:
        """Return plain data from which :meth:`from_json` makes the same record."""
        return {
            "designs": self.designs,
            "counts": {status.name.lower(): count for status, count in self.counts.items()},
            "gap": self.gap if np.isfinite(self.gap) else None,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Certificate:
        """Return the record of :meth:`to_json`."""
        counts = {Status[name.upper()]: int(count) for name, count in data["counts"].items()}
        return cls(int(data["designs"]), counts, float("inf") if data["gap"] is None else float(data["gap"]))


class Ledger:
    """The books on a finite space, one row a design.

    Parameters
    ----------
    floors
        Losses that the designs cannot beat, shape (designs, objectives); NaN nowhere.
    impossible, breaks
        Which designs cannot be, and which cannot keep a promise, shape (designs,).

    Attributes
    ----------
    status
        Of each design, shape (designs,).
    front
        Losses of the feasible designs that no other dominates, shape (n, objectives).
    """

    def __init__(self, floors: Floats, impossible: npt.NDArray[np.bool_], breaks: npt.NDArray[np.bool_]) -> None:
        self.floors = floors
        self.status = np.zeros(len(floors), dtype=np.int8)
        self.status[breaks] = Status.BREAKS
        self.status[impossible] = Status.IMPOSSIBLE
        self.front = np.zeros((0, floors.shape[1]))

    @property
    def open(self) -> Indices:
        """The open designs."""
        return np.flatnonzero(self.status == Status.OPEN)

    def settle(self, row: int, status: Status) -> bool:
        """Note why a design is not open any more; tell whether it was."""
        was_open = self.status[row] == Status.OPEN
        if was_open or status == Status.SIMULATED:
            self.status[row] = status
        return bool(was_open)

    def raise_floors(self, rows: Indices, floors: Floats, *, broken: bool) -> None:
        """Note better bounds that designs share, and exclude those that are beaten or cannot keep a promise.

        Parameters
        ----------
        rows
            The designs.
        floors
            Losses that none of them can beat, shape (objectives,).
        broken
            Whether they cannot keep a promise.
        """
        self.floors[rows] = np.maximum(self.floors[rows], floors)
        still = rows[self.status[rows] == Status.OPEN]
        if broken:
            self.status[still] = Status.BREAKS
        else:
            self.status[still[dominated(self.floors[still], self.front)]] = Status.DOMINATED

    def found(self, losses: Floats) -> None:
        """Take the losses of feasible designs into the front, shape (n, objectives), and exclude whom they beat."""
        before = self.front
        merged = np.concatenate([before, losses])
        self.front = merged[non_dominated(merged)]
        new = losses[(losses[:, None, :] == self.front[None, :, :]).all(axis=2).any(axis=1)]
        rows = self.open
        self.status[rows[dominated(self.floors[rows], new)]] = Status.DOMINATED

    @property
    def gap(self) -> float:
        """Largest share of the front's hypervolume that the open designs could still add."""
        return gap(self.front, self.floors[self.open])

    def certificate(self) -> Certificate:
        """Return what is proved so far."""
        counts = {status: int((self.status == status).sum()) for status in Status}
        return Certificate(len(self.status), counts, self.gap)
