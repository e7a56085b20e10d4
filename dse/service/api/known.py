"""What is known of one study: its row, its trials, and each of them as JSON."""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, Final

from dse.service.answers.study_view import StudyView
from dse.service.storage.studies import StudyRow
from dse.spec import StudySpec

TRIAL_BYTES: Final = 12_000
"""What a trial takes in memory."""
STUDY_BYTES: Final = 5_000
"""What a study takes beside its specification and trials."""

Choice = bool | None
"""Which trials: those that are, those that are not, all."""


class Trials:
    """The trials of a study as far as they are known, and each as JSON. Used by one thread at a time."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.view = StudyView(spec)
        self.cursor = 0
        self.json: list[bytes] = []
        self._places: dict[tuple[Choice, Choice], list[int]] = {
            (simulated, feasible): [] for simulated in (None, True, False) for feasible in (None, True, False)
        }

    def grow(self, evaluations: list[dict[str, Any]], cursor: int) -> None:
        """Take in trials that finished, in that order."""
        for place in self.view.add(evaluations):
            evaluation = self.view.evaluations[place]
            self.json.append(self.view.trial(evaluation).model_dump_json().encode())
            for simulated in (None, evaluation.simulated):
                for feasible in (None, evaluation.feasible):
                    self._places[simulated, feasible].append(place)
        self.cursor = cursor

    def page(self, after: int, limit: int, simulated: Choice, feasible: Choice) -> bytes:
        """Return a TrialPage of those after a place."""
        places = self._places[simulated, feasible]
        first = bisect_right(places, after - 1)
        shown = places[first : first + limit]
        following = shown[-1] + 1 if first + limit < len(places) else None
        trials = b",".join(map(self.json.__getitem__, shown))
        return b'{"trials":[%b],"total":%d,"next":%b}' % (trials, len(places), json.dumps(following).encode())


@dataclass
class Known:
    """What is known of one study.

    Attributes
    ----------
    row
        As it was last read.
    looked_s
        When its revision was last looked up.
    trials, of_revision
        Read up to that revision.
    lock
        Held by whoever reads or computes.
    """

    row: StudyRow
    looked_s: float
    trials: Trials | None = None
    of_revision: int = -1
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def size(self) -> int:
        """Bytes that it takes, roughly."""
        trials = len(self.trials.json) if self.trials else 0
        return STUDY_BYTES + 2 * len(self.row.spec) + TRIAL_BYTES * trials
