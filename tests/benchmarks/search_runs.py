"""Searches of solved studies: Optuna proposes as in a study, the table answers instead of the simulator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import Trial, TrialState

from dse.objectives import direction_of
from dse.pareto import Floats, non_dominated
from dse.samplers import POPULATION, make_sampler
from dse.study import ASKS_PER_DESIGN, flat_distributions
from search_spaces import Design
from tests.benchmarks.search_solved import Solved


@dataclass(frozen=True, eq=False)
class Run:
    """A search of a solved study.

    Attributes
    ----------
    shares
        Share of the true hypervolume after each simulated design, shape (trials,); the last one goes on if nothing new
        was proposed.
    cpu_ms
        Processor time of proposing and of taking in results, for each simulated design.
    simulated
        Designs simulated: fewer than wanted if nothing new was proposed.
    proposals
        Proposals, those that were known already or cannot be simulated included.
    """

    shares: Floats
    cpu_ms: float
    simulated: int
    proposals: int


def shares_of(rows: list[int], solved: Solved, trials: int) -> Floats:
    """Return the share of the true hypervolume after each of some designs, in the order of their simulation.

    Parameters
    ----------
    rows
        The simulated designs.
    solved
        The study.
    trials
        Length of what is returned; the last share goes on if there are fewer designs.
    """
    shares, share, front = np.zeros(trials), 0.0, []
    for index, row in enumerate(rows[:trials]):
        if solved.feasible[row]:
            found = [*front, row]
            kept = [found[i] for i in non_dominated(solved.losses[found])]
            if row in kept:
                front, share = kept, solved.share(kept)
        shares[index] = share
    shares[len(rows) :] = share
    return shares


class _Search:
    """The loop of ``dse.study``, with the next batch asked for while the last one is evaluated."""

    def __init__(self, name: str, solved: Solved, seed: int, trials: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.solved, self.trials, self.space = solved, trials, solved.spec.space.space
        self.distributions = flat_distributions(self.space)
        self.study = optuna.create_study(
            directions=[direction_of(objective) for objective in solved.spec.objectives],
            sampler=make_sampler(name, self.distributions, seed),
        )
        self.known: set[Design] = set()
        self.rows: list[int] = []
        self.proposals = self.under_way = 0

    def ask(self) -> list[tuple[Trial, Design]]:
        batch: list[tuple[Trial, Design]] = []
        wanted = min(POPULATION, self.trials - len(self.rows) - self.under_way)
        for _ in range(ASKS_PER_DESIGN * POPULATION):
            if len(batch) >= wanted or len(self.known) >= len(self.solved.designs):
                break
            trial = self.study.ask(self.distributions)
            self.proposals += 1
            design = self.space.design(trial.params)
            if design in self.known:
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            self.known.add(design)
            if self.solved.simulated[self.solved.row[design]]:
                batch.append((trial, design))
            else:
                self.tell(trial, design)
        self.under_way += len(batch)
        return batch

    def tell(self, trial: Trial, design: Design) -> None:
        evaluation = self.solved.evaluation(design)
        for name, violation in evaluation.constraints.items():
            trial.set_constraint(name, violation)
        self.study.tell(trial, list(evaluation.objectives))

    def run(self) -> None:
        batch = self.ask()
        while batch:
            following = self.ask()
            for trial, design in batch:
                self.tell(trial, design)
                self.rows.append(self.solved.row[design])
            self.under_way -= len(batch)
            batch = following or self.ask()


def sampled(name: str, solved: Solved, seed: int, trials: int) -> Run:
    """Search with one of the samplers of ``dse.samplers``."""
    search = _Search(name, solved, seed, trials)
    # What is made when it is first asked for is no work of the sampler.
    solved.evaluation(solved.designs[0])
    start = time.process_time()
    search.run()
    spent = time.process_time() - start
    count = len(search.rows)
    return Run(shares_of(search.rows, solved, trials), spent * 1e3 / max(count, 1), count, search.proposals)


OTHERS: dict[str, Callable[[Solved, int, int], Run]] = {}
"""Ways to search that are no sampler alone, by name: from a solved study, a seed and a number of designs to a run."""


def run(name: str, solved: Solved, seed: int, trials: int) -> Run:
    """Search a solved study.

    Parameters
    ----------
    name
        A sampler, or one of ``OTHERS``.
    solved
        The study.
    seed
        Of the search.
    trials
        Designs to simulate.
    """
    if name in OTHERS:
        return OTHERS[name](solved, seed, trials)
    return sampled(name, solved, seed, trials)
