"""What replications say of designs: which keep their promises, which lie on the front, and which might.

All designs meet the same requests in a replication, so two of them are compared by paired differences: what is
luck for both cancels. Objectives are losses here: less is better.

- A design **certainly keeps** its promises if every interval of what a promise is missed by lies at or below 0, and
  **certainly breaks** one if the interval of one lies above 0. The first needs no correction for several promises,
  as all must hold (Berger, Technometrics 24, 1982); the second has each interval at ``1 - α / promises``.
- a **certainly beats** b in an objective if the interval of b's loss less a's lies above 0.
- A design is **off the front** if it certainly breaks a promise, or another that certainly keeps its promises is
  certainly nowhere worse and somewhere better. It is **on the front** if it certainly keeps its promises and
  certainly beats each of the others in some objective, or is equal to it in all of them in every replication; of the
  others those do not count that are off the front. Otherwise its place is **uncertain**, and the others that it is
  not told from are its rivals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from dse.confidence.interval import Floats, Interval, mean_interval
from dse.evaluation import Evaluation
from dse.pareto import losses

Feasibility = Literal["certainly feasible", "uncertain", "certainly infeasible"]
Place = Literal["on the front", "uncertain", "off the front"]

KEPT: Final = 0.0
"""By how much a promise is missed in a replication that does not mention it: not at all."""


@dataclass(frozen=True)
class Record:
    """The replications of one design.

    Attributes
    ----------
    losses
        Shape (replications, objectives).
    missed
        By promise, by how much it was missed in each replication, shape (replications,); zero or less if kept.
    """

    losses: Floats
    missed: Mapping[str, Floats]

    @property
    def replications(self) -> int:
        """Number of replications."""
        return len(self.losses)


def record_of(evaluations: Sequence[Evaluation], objectives: Sequence[str]) -> Record:
    """Return the record of a design from its evaluations, one a replication."""
    names = list(dict.fromkeys(name for each in evaluations for name in each.constraints))
    return Record(
        losses(np.array([each.objectives for each in evaluations]), objectives),
        {name: np.array([each.constraints.get(name, KEPT) for each in evaluations]) for name in names},
    )


def feasibility_of(record: Record, confidence: float) -> Feasibility:
    """Return whether a design keeps its promises."""
    each = 1 - (1 - confidence) / max(1, len(record.missed))
    if any(mean_interval(values, each).certainly_positive for values in record.missed.values()):
        return "certainly infeasible"
    if all(mean_interval(values, confidence).certainly_not_positive for values in record.missed.values()):
        return "certainly feasible"
    return "uncertain"


def advantages(one: Record, other: Record, confidence: float) -> list[Interval]:
    """Return in each objective by how much less ``one`` loses than ``other``, from the replications of both."""
    common = min(one.replications, other.replications)
    return [
        mean_interval(theirs - ours, confidence)
        for ours, theirs in zip(one.losses[:common].T, other.losses[:common].T, strict=True)
    ]


@dataclass(frozen=True)
class Judgement:
    """What is certain about every design, in their order.

    Attributes
    ----------
    feasibility, place
        Of each design.
    rivals
        For each design the indices of those it is not told from; empty if its place is certain.
    """

    feasibility: tuple[Feasibility, ...]
    place: tuple[Place, ...]
    rivals: tuple[tuple[int, ...], ...]

    @property
    def open(self) -> tuple[int, ...]:
        """Designs of which more replications could say more: uncertain ones and their rivals."""
        found = {index for index, place in enumerate(self.place) if place == "uncertain"}
        found |= {rival for index in found for rival in self.rivals[index]}
        return tuple(sorted(found))


def judge(records: Sequence[Record], confidence: float) -> Judgement:
    """Return what the replications say of designs, as the module defines it."""
    feasibility = tuple(feasibility_of(record, confidence) for record in records)
    alive = [index for index, each in enumerate(feasibility) if each != "certainly infeasible"]
    gains = {(i, j): advantages(records[i], records[j], confidence) for i in alive for j in alive if i != j}

    def beaten(i: int) -> bool:
        return any(
            feasibility[j] == "certainly feasible"
            and all(gain.low >= 0 for gain in gains[j, i])
            and any(gain.low > 0 for gain in gains[j, i])
            for j in alive
            if j != i
        )

    standing = [i for i in alive if not beaten(i)]
    places: list[Place] = ["off the front"] * len(records)
    rivals: list[tuple[int, ...]] = [()] * len(records)
    for i in standing:
        rivals[i] = tuple(j for j in standing if j != i and not _told_apart(gains[i, j]))
        certain = feasibility[i] == "certainly feasible" and not rivals[i]
        places[i] = "on the front" if certain else "uncertain"
    return Judgement(feasibility, tuple(places), tuple(rivals))


def _told_apart(gains: Sequence[Interval]) -> bool:
    """Return whether a design certainly beats another somewhere, or both are the same in every objective."""
    return any(gain.low > 0 for gain in gains) or all(gain.low == gain.high == 0 for gain in gains)
