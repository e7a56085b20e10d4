"""A space whose designs can all be listed: what is known of each, which to simulate next, what is proved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from dse.certificate.ledger import Certificate, Ledger, Status
from dse.evaluation import Evaluation
from dse.objectives import direction_of
from dse.pareto import Floats, losses
from dse.proposal.improvement import expected, possible
from dse.proposal.kinship import Kinship
from dse.screening.closer import CloserLook
from dse.screening.design_floors import StudyFloors
from dse.screening.distinct import Indices
from dse.screening.outlook import Outlook
from dse.screening.screen import Screen
from dse.spec import StudySpec
from search_spaces import Design
from simulator import Requests

LISTABLE: Final = 1_000_000
"""Designs of a space that are all kept in memory, some two kilobytes each."""
AT_ONCE: Final = 50_000
"""Open designs that are looked at in each round."""
SHOWN: Final = 60
"""Excluded designs that are simulated, or told, all the same where no design is feasible."""
LOOKS: Final = 6
"""Designs looked at closer for each that is wanted."""
NEARLY_FULL: Final = 0.9
"""Load by forecast from which queues may be proved to grow."""


class FiniteSearch:
    """The search of a space whose designs can all be listed.

    Parameters
    ----------
    spec
        The study.
    load
        Requests of each of its cases.
    """

    def __init__(self, spec: StudySpec, load: Sequence[Requests]) -> None:
        self.spec, self.space = spec, spec.space.space
        self.codes = self.space.codes(LISTABLE)
        self.screen = Screen(spec, load[0])
        self.forecast = self.screen.forecast(self.codes)
        self.outlook = Outlook(self.screen)
        floors, broken = StudyFloors(self.screen, load).of(self.codes, self.forecast)
        self.ledger = Ledger(floors, ~self.screen.is_possible(self.forecast), broken)
        self._closer = CloserLook(spec, load)
        self._kin = Kinship(self.screen, self.codes)
        self._signs = np.array([1.0 if direction_of(name) == "minimize" else -1.0 for name in spec.objectives])
        promised = [*spec.objectives, *(slo.name for slo in spec.slos if slo.penalty is None)]
        self._reads_apart = any(name.startswith("ttft_") for name in promised)
        # With a certificate to reach, every design that need not be simulated is worth some milliseconds.
        self._full = 0.0 if spec.budget.certified is not None else NEARLY_FULL
        self._looked_at: set[int] = set()
        self._shown = 0
        self._proposed = np.zeros(len(self.codes), dtype=np.bool_)

    # -- what trials say

    def learn(self, evaluations: Sequence[Evaluation]) -> None:
        """Take in what was found out about designs."""
        if not evaluations:
            return
        codes = np.stack([self.space.row_of(evaluation.design) for evaluation in evaluations])
        rows = self.space.keys(codes)
        self._proposed[rows] = False
        for row, evaluation in zip(rows.tolist(), evaluations, strict=True):
            self.ledger.settle(row, Status.SIMULATED if evaluation.simulated else Status.IMPOSSIBLE)
            if evaluation.simulated:
                for twin in self._kin.twins(row, evaluation, self.ledger.status == Status.OPEN).tolist():
                    self.ledger.settle(twin, Status.TWIN)
                if self._reads_apart:
                    self._spread_first_tokens(row, evaluation)
        self.outlook.learn(codes, evaluations)
        feasible = [evaluation.objectives for evaluation in evaluations if evaluation.feasible]
        if feasible:
            self.ledger.found(losses(np.array(feasible), self.spec.objectives))

    def _spread_first_tokens(self, row: int, evaluation: Evaluation) -> None:
        """Note the times to first token of designs whose prompts go through the same course as in a simulation."""
        rows = self._kin.read_alike(row, evaluation, self.ledger.status == Status.OPEN)
        if not len(rows):
            return
        known = [
            sign * evaluation.figures[name] if name.startswith("ttft_") else -np.inf
            for name, sign in zip(self.spec.objectives, self._signs, strict=True)
        ]
        missed = any(
            evaluation.figures[f"{slo.name}_excess"] > 0
            for slo in self.spec.slos
            if slo.metric == "ttft" and slo.penalty is None
        )
        self.ledger.raise_floors(rows, np.array(known), broken=missed)

    # -- what to do next

    def propose(self, count: int) -> list[Design]:
        """Return designs to simulate next: those expected to add most to the front, then those that could at best."""
        rows: Indices = np.zeros(0, dtype=np.intp)
        while not len(rows):
            left = np.flatnonzero((self.ledger.status == Status.OPEN) & ~self._proposed)
            if not len(left):
                rows = self._nearest(count)
                break
            # If all that were looked at turn out to be excluded, there are fewer left to look at.
            rows = self._chosen(left[self._foremost(left)] if len(left) > AT_ONCE else left, count)
        self._proposed[rows] = True
        return [self.space.design_of(self.codes[row]) for row in rows]

    def _chosen(self, rows: Indices, count: int) -> Indices:
        """Return some open designs; none if all that were looked at are excluded."""
        hope = self.outlook.hope(self.codes[rows], self.forecast[rows])
        front = self.ledger.front
        chosen = dict.fromkeys(expected(self.outlook, hope, front, count))
        at_best = possible(self.ledger.floors[rows], hope.feasible, front, LOOKS * count)
        # What adds nothing in any direction looked at, but is not excluded, comes last.
        likely = np.argsort(-hope.feasible, kind="stable")[: LOOKS * count].tolist()
        for place in (*at_best, *likely) if at_best or not chosen else ():
            if len(chosen) == count:
                break
            if place not in chosen and self._survives(int(rows[place])):
                chosen[place] = None
        return np.asarray(rows[list(chosen)])

    def _nearest(self, count: int) -> Indices:
        """Return some designs that are excluded, if no other is feasible: to show how near they come, and why not.

        Those first that miss their promises by least; if none can be simulated, some of those that are impossible.
        """
        if len(self.ledger.front) or self._shown >= SHOWN:
            return np.zeros(0, dtype=np.intp)
        status, size = self.ledger.status, min(count, SHOWN - self._shown)
        rows = np.flatnonzero((status == Status.BREAKS) & ~self._proposed)
        if len(rows):
            rows = rows[:: max(1, len(rows) // AT_ONCE)]
            missed = self.outlook.hope(self.codes[rows], self.forecast[rows]).missed
            rows = rows[np.argsort(missed, kind="stable")[:size]]
        elif not (status == Status.SIMULATED).any():
            rows = np.flatnonzero((status == Status.IMPOSSIBLE) & ~self._proposed)
            rows = rows[:: max(1, len(rows) // size)][:size]
        self._shown += len(rows)
        return np.asarray(rows)

    def _survives(self, row: int) -> bool:
        """Look closer at an open design, and at those of any other size; tell whether it stays open."""
        ledger, design = self.ledger, self.space.design_of(self.codes[row])
        kin = self._kin.of_any_size
        if kin.number[row] not in self._looked_at:
            self._looked_at.add(kin.number[row])
            losses, broken = self._closer.of_any_size(design)
            ledger.raise_floors(kin.of(row), losses, broken=broken)
        if ledger.status[row] == Status.OPEN and self.forecast["load"][row] > self._full:
            losses, broken = self._closer.of(design)
            ledger.raise_floors(np.array([row]), losses, broken=broken)
        return bool(ledger.status[row] == Status.OPEN)

    def _foremost(self, rows: Indices) -> Indices:
        """Return places of the rows that a round looks at: best by forecast, and by floors."""
        forecast = self.outlook.predicted_log(self.forecast[rows])[:, : len(self.spec.objectives)]
        ranks = [np.argsort(np.argsort((forecast * self._signs) @ weights)) for weights in _weights(len(self._signs))]
        return np.argsort(np.min(ranks, axis=0), kind="stable")[:AT_ONCE]

    def is_certified(self, gap: float) -> bool:
        """Tell whether the open designs could add at most a share of the front's hypervolume."""
        return self.ledger.gap <= gap

    @property
    def certificate(self) -> Certificate:
        """What is proved of the space so far."""
        return self.ledger.certificate()


def _weights(objectives: int) -> Floats:
    """Return weights of objectives: each alone, and all alike."""
    return np.concatenate([np.eye(objectives), np.full((1, objectives), 1.0 / objectives)])
