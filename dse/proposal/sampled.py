"""A space too large to list: designs drawn from it, and neighbours of the best, ranked by forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dse.evaluation import Evaluation
from dse.pareto import Floats, losses, non_dominated
from dse.proposal.improvement import BOLD, expected
from dse.screening.outlook import Outlook
from dse.screening.screen import Screen
from dse.spec import StudySpec
from search_spaces import Design
from search_spaces.codes import Codes, Keys
from simulator import Requests

DRAWN: Final = 5_000
"""Designs drawn at the beginning by each of the two ways to draw."""
DRAWS: Final = 10
"""Times that designs are drawn if none so far was possible."""
FRESH: Final = 1_000
"""Designs drawn in each round."""
NEIGHBOURS: Final = 1_000
"""Neighbours of the best made in each round."""
PARENTS: Final = 60
"""Designs of which neighbours are made, besides the front."""
KEPT: Final = 8_000
"""Candidates that are kept from round to round."""


class SampledSearch:
    """The search of a space too large to list.

    Parameters
    ----------
    spec
        The study.
    load
        Requests of each of its cases.
    seed
        Of the designs that are drawn.
    """

    def __init__(self, spec: StudySpec, load: Sequence[Requests], seed: int) -> None:
        self.spec, self.space = spec, spec.space.space
        self.screen = Screen(spec, load[0])
        self.outlook = Outlook(self.screen)
        self._random = np.random.default_rng(seed)
        self._closed: set[int] = set()
        self._front_codes = np.zeros((0, len(self.space.closed)), np.int16)
        self._front = np.zeros((0, len(spec.objectives)))
        self._codes = np.zeros((0, len(self.space.closed)), np.int16)
        self._keys: Keys = np.zeros(0, np.int64)
        self._parents = self._codes
        self._forecast: npt.NDArray[Any] = self.screen.forecast(self._codes)
        self._add(self.space.sample(DRAWN, self._random, by="designs"))
        self._add(self.space.sample(DRAWN, self._random, by="choices"))

    def _add(self, codes: Codes) -> None:
        """Add designs that are new and possible to the candidates."""
        keys = self.space.keys(codes)
        _, first = np.unique(keys, return_index=True)
        known = np.isin(keys[first], self._keys) | np.isin(keys[first], np.fromiter(self._closed, np.int64))
        codes, keys = codes[first[~known]], keys[first[~known]]
        forecast = self.screen.forecast(codes)
        can = self.screen.is_possible(forecast)
        self._codes = np.concatenate([self._codes, codes[can]])
        self._keys = np.concatenate([self._keys, keys[can]])
        self._forecast = np.concatenate([self._forecast, forecast[can]])

    def _keep(self, rows: npt.NDArray[Any]) -> None:
        """Drop all other candidates."""
        self._codes, self._keys, self._forecast = self._codes[rows], self._keys[rows], self._forecast[rows]

    def learn(self, evaluations: Sequence[Evaluation]) -> None:
        """Take in what was found out about designs."""
        if not evaluations:
            return
        codes = np.stack([self.space.row_of(evaluation.design) for evaluation in evaluations])
        self._closed.update(self.space.keys(codes).tolist())
        self.outlook.learn(codes, evaluations)
        rows = [i for i, evaluation in enumerate(evaluations) if evaluation.feasible]
        if rows:
            values = losses(np.array([evaluations[i].objectives for i in rows]), self.spec.objectives)
            front, front_codes = np.concatenate([self._front, values]), np.concatenate([self._front_codes, codes[rows]])
            best = non_dominated(front)
            self._front, self._front_codes = front[best], front_codes[best]

    def propose(self, count: int) -> list[Design]:
        """Return designs to simulate next: those that are expected to add most to the front."""
        fresh = self.space.sample(FRESH, self._random, by="choices")
        self._add(np.concatenate([fresh, self._neighbours(np.concatenate([self._front_codes, self._parents]))]))
        for _ in range(DRAWS):
            if len(self._codes):
                break
            self._add(self.space.sample(DRAWN, self._random, by="choices"))
        hope = self.outlook.hope(self._codes, self._forecast)
        chosen = expected(self.outlook, hope, self._front, count)
        if len(chosen) < count:
            bold = expected(self.outlook, hope, self._front, 2 * count, optimism=BOLD, least=0.0)
            chosen += [row for row in bold if row not in set(chosen)][: count - len(chosen)]
        if len(chosen) < count:
            taken = set(chosen)
            rest = [row for row in np.argsort(-hope.feasible, kind="stable")[: 2 * count].tolist() if row not in taken]
            chosen += rest[: count - len(chosen)]
        designs = [self.space.design_of(self._codes[row]) for row in chosen]
        self._closed.update(self._keys[chosen].tolist())
        left = np.setdiff1d(np.arange(len(self._codes)), chosen)
        best = left[self._best_first(left, hope.feasible, self.outlook.losses(hope, 0.0))]
        self._parents = self._codes[best[:PARENTS]]
        self._keep(np.sort(best[:KEPT]))
        return designs

    def is_certified(self, gap: float) -> bool:
        """Tell that nothing is proved."""
        del gap
        return False

    @property
    def certificate(self) -> None:
        """Nothing is proved of a space that is too large to list."""
        return None

    @staticmethod
    def _best_first(rows: npt.NDArray[Any], feasible: Floats, values: Floats) -> npt.NDArray[Any]:
        """Return places of rows, those first that are good by some weighting of objectives and likely feasible."""
        ranks = np.argsort(np.argsort(values[rows], axis=0), axis=0) / max(len(rows), 1)
        several = ranks.shape[1]
        mixes = np.concatenate([np.full((1, several), 1.0 / several), 0.7 * np.eye(several) + 0.3 / several])
        best = (ranks @ mixes.T).min(axis=1)
        return np.argsort(best + (1.0 - feasible[rows]), kind="stable")

    def _neighbours(self, parents: Codes) -> Codes:
        """Return designs that differ from parents in one to three choices."""
        if not len(parents):
            return parents
        codes = parents[self._random.integers(0, len(parents), NEIGHBOURS)].copy()
        sizes = np.array([len(dimension.values) for dimension in self.space.closed])
        for change in range(3):
            rows = np.flatnonzero(self._random.random(len(codes)) < (1.0, 0.5, 0.25)[change])
            # A dimension with several values that is active in the design.
            can = (codes[rows] >= 0) & (sizes > 1)
            column = np.argmax(self._random.random(can.shape) * can, axis=1)
            codes[rows, column] = self._random.integers(0, sizes[column])
        return self.space.mend(codes, self._random)
