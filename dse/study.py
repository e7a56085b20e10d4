"""The loop of a study: ask for designs, evaluate them in parallel, tell what was found.

Designs are asked for in batches of a fixed size, and the next batch is asked for while the last one is evaluated,
on what was known before. So neither the number of processes nor the order in which they finish has any
influence: a seed gives the same trials.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState

from dse.evaluation import Evaluation, precheck
from dse.execution import Workers, default_jobs
from dse.interruption import Interruption
from dse.objectives import direction_of
from dse.result import Clock, StudyResult
from dse.samplers import POPULATION, make_sampler
from dse.spec import StudySpec
from dse.storage import EVALUATION, TrialJournal
from search_spaces import Design, Space
from simulator import Requests, build_requests
from simulator.kernel import is_cached, warm_up

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

BATCH = POPULATION
"""Designs asked for at once."""
ASKS_PER_DESIGN = 20
"""Proposals after which a batch is taken as it is: repeats and impossible designs cost proposals, not simulations."""


def flat_distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return Optuna's form of all dimensions, active or not: NSGA-II recombines them, a design keeps the active."""
    return {d.name: CategoricalDistribution(d.values) for d in space.dimensions}


class Listener(Protocol):
    """Somebody who watches a study."""

    def restored(self, evaluation: Evaluation) -> None:
        """Take notice of a design that is known from an earlier session."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """Take notice of a distinct design whose evaluation is done."""


class Nobody:
    """A listener that does nothing."""

    def restored(self, evaluation: Evaluation) -> None:
        """Ignore it."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """Ignore it."""


class _Loop:
    """A running study: what is known, what is being evaluated, and how long Optuna took."""

    def __init__(
        self, spec: StudySpec, space: Space, study: Study, journal: TrialJournal | None, listener: Listener
    ) -> None:
        self.spec, self.space, self.study = spec, space, study
        self.journal, self.listener = journal, listener
        self.distributions = flat_distributions(space)
        self.space_size = space.size
        self.known: dict[Design, Evaluation] = {}
        self.waiting: dict[Design, Trial] = {}
        self.simulated = 0
        self.optuna_s = self.simulator_cpu_s = 0.0
        for trial in study.trials:
            evaluation = Evaluation.from_json(trial.user_attrs[EVALUATION])
            self.remember(evaluation)
            listener.restored(evaluation)
        restored = max((evaluation.number for evaluation in self.known.values()), default=-1)
        self.first_number = restored + 1 - len(study.trials)

    def remember(self, evaluation: Evaluation) -> None:
        """Note an evaluation."""
        self.known[evaluation.design] = evaluation
        self.simulated += evaluation.simulated

    def ask(self) -> list[Design]:
        """Return the next designs to simulate; what cannot be simulated is told at once."""
        start = time.perf_counter()
        batch: list[Design] = []
        wanted = min(BATCH, self.spec.budget.trials - self.simulated - len(self.waiting))
        for _ in range(ASKS_PER_DESIGN * BATCH):
            if len(batch) >= wanted or len(self.known) + len(self.waiting) >= self.space_size:
                break
            trial = self.study.ask(self.distributions)
            design = self.space.design(trial.params)
            if design in self.known or design in self.waiting:
                # A failed trial has no part in the population: twins would crowd out other designs.
                self.study.tell(trial, state=TrialState.FAIL)
            elif evaluation := precheck(design, self.spec):
                self.tell(trial, evaluation)
            else:
                self.waiting[design] = trial
                batch.append(design)
        self.optuna_s += time.perf_counter() - start
        return batch

    def tell(self, trial: Trial, evaluation: Evaluation) -> None:
        """Let Optuna, the journal and the listener know of an evaluation."""
        evaluation = replace(evaluation, number=self.first_number + trial.number)
        self.simulator_cpu_s += evaluation.cpu_s
        for name, violation in evaluation.constraints.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr(EVALUATION, evaluation.to_json())
        told = self.study.tell(trial, list(evaluation.objectives))
        if self.journal:
            self.journal.append(told)
        self.remember(evaluation)
        self.listener.evaluated(evaluation)

    def run(self, workers: Workers, interruption: Interruption) -> None:
        """Evaluate until the budget is used, the space is exhausted, nothing new is proposed, or Ctrl-C."""
        deadline = time.perf_counter() + (self.spec.budget.timeout_s or float("inf"))
        batch = self.ask()
        while batch and time.perf_counter() < deadline and not interruption.requested:
            finished: Iterator[list[Evaluation]] = workers.submit(batch)
            batch = self.ask()
            for evaluations in finished:
                start = time.perf_counter()
                for evaluation in evaluations:
                    self.tell(self.waiting.pop(evaluation.design), evaluation)
                self.optuna_s += time.perf_counter() - start


def run_study(
    spec: StudySpec | str | Path,
    *,
    jobs: int | None = None,
    journal: Path | None = None,
    requests: Requests | None = None,
    listener: Listener | None = None,
) -> StudyResult:
    """Search a study's space and return what was found.

    Parameters
    ----------
    spec
        The study, or the name of a shipped one, or the path of a YAML file.
    jobs
        Number of processes; as many as processors if absent. The result does not depend on it.
    journal
        File to which every finished trial is appended; trials in it are taken over.
    requests
        What to serve, if it was built already; else the study's workload is built.
    listener
        Told of every distinct design.

    Returns
    -------
    StudyResult
        Also after Ctrl-C, with what was found until then: the batch under way is finished first.

    Raises
    ------
    SpecError
        If the study is impossible or its journal belongs to another one.

    Examples
    --------
    >>> from dse import run_study
    >>> result = run_study("chat", jobs=2)  # doctest: +SKIP
    >>> result.front_table  # doctest: +SKIP
    """
    from dse.library import load_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not isinstance(spec, StudySpec):
        spec = load_study(spec)
    if requests is None:
        requests = build_requests(spec.workload)
    directions = [direction_of(name) for name in spec.objectives]
    trials = TrialJournal(journal, spec, directions) if journal else None
    done = len(trials.trials) if trials else 0
    space = spec.space.space
    # A study that goes on must not repeat the random numbers it began with.
    sampler = make_sampler(spec.sampler, flat_distributions(space), (spec.seed + done) % 2**32)
    study = optuna.create_study(directions=directions, sampler=sampler)
    study.add_trials(trials.trials if trials else [])
    if not is_cached():
        warm_up()  # once, before every process does it for itself
    start = time.perf_counter()
    with Interruption() as interruption, Workers(jobs or default_jobs(), spec, requests) as workers:
        loop = _Loop(spec, space, study, trials, listener or Nobody())
        loop.run(workers, interruption)
    evaluations = tuple(sorted(loop.known.values(), key=lambda evaluation: evaluation.number))
    clock = Clock(
        wall_s=time.perf_counter() - start,
        optuna_s=loop.optuna_s,
        simulator_cpu_s=loop.simulator_cpu_s,
    )
    return StudyResult(spec, evaluations, requests, clock, interruption.requested)
