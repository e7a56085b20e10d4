"""The loop of a study: ask for designs, evaluate them in parallel, tell what was found.

Designs are asked for in batches of a fixed size, and the next batch is asked for while the last one is evaluated,
on what was known before. What a batch found is told in the order of its proposal. So neither the number of processes
nor the order in which they finish has any influence: a seed gives the same trials.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState
from threadpoolctl import threadpool_limits

from dse.evaluation import Evaluation, build_load, precheck
from dse.execution import Workers, open_workers
from dse.interruption import Interruption
from dse.objectives import direction_of
from dse.patience import Patience
from dse.proposal import Search, search_of
from dse.rehearsal import promoted, rehearsed
from dse.result import Clock, StudyResult
from dse.samplers import POPULATION, SCREENED, make_sampler
from dse.samplers.screened import ScreenedSampler
from dse.spec import StudySpec
from dse.storage import EVALUATION, Store, open_store
from dse.warm_start import starting_designs
from search_spaces import Design, Space
from simulator import Requests, SpecError
from simulator.kernel import is_cached, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

BATCH = POPULATION
"""Designs asked for at once."""
ASKS_PER_DESIGN = 20
"""Proposals after which a batch is taken as it is: repeats and impossible designs cost proposals, not simulations."""
APART = 7919
"""Between the seeds of machines that run the same study."""


class _Choice(CategoricalDistribution):
    """A choice that is never changed, so that Optuna's copies and comparisons at every proposal cost nothing."""

    def __copy__(self) -> _Choice:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> _Choice:
        return self

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, CategoricalDistribution) and self.choices == other.choices)

    __hash__ = CategoricalDistribution.__hash__


# Optuna writes the name of the class to journals and databases, and knows this one.
_Choice.__name__ = CategoricalDistribution.__name__


def flat_distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return Optuna's form of all dimensions, active or not: NSGA-II recombines them, a design keeps the active."""
    return {d.name: _Choice(d.values) for d in space.dimensions}


class Listener(Protocol):
    """Somebody who watches a study."""

    def restored(self, evaluation: Evaluation) -> None:
        """Take notice of a design that is known from an earlier session or another machine."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """Take notice of a distinct design whose evaluation is done."""


class Nobody:
    """A listener that does nothing."""

    def restored(self, evaluation: Evaluation) -> None:
        """Ignore it."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """Ignore it."""


class _Loop:
    """A running study: what is known, what is being evaluated, and how long proposing took."""

    def __init__(
        self,
        spec: StudySpec,
        space: Space,
        study: Study,
        store: Store | None,
        search: Search | None,
        listener: Listener,
        trials: Sequence[FrozenTrial],
    ) -> None:
        self.spec, self.space, self.study = spec, space, study
        self.store, self.search, self.listener = store, search, listener
        self.distributions = flat_distributions(space)
        self.space_size = space.size
        self.known: dict[Design, Evaluation] = {}
        self.waiting: dict[Design, Trial] = {}
        self.simulated = 0
        self.proposing_s = self.simulator_cpu_s = 0.0
        self.restore(trials)
        last = max((evaluation.number for evaluation in self.known.values()), default=-1)
        self.first_number = last + 1 - len(trials)

    def restore(self, trials: Sequence[FrozenTrial]) -> None:
        """Take over what was found in an earlier session, or by another machine."""
        self.study.add_trials(self.bare(trial) for trial in trials)
        found = [Evaluation.from_json(trial.user_attrs[EVALUATION]) for trial in trials]
        new = [evaluation for evaluation in found if evaluation.design not in self.known]
        for evaluation in new:
            self.remember(evaluation)
            self.listener.restored(evaluation)
        if self.search:
            self.search.learn(new)

    def bare(self, trial: FrozenTrial) -> FrozenTrial:
        """Return what Optuna needs of a stored trial, which it copies: no evaluation, and the choices known here."""
        bare = copy(trial)
        bare.user_attrs = {}
        known = self.distributions
        bare.distributions = {
            n: known[n] if known.get(n) == found else found for n, found in trial.distributions.items()
        }
        return bare

    def start_with(self, designs: Sequence[Design]) -> None:
        """Propose designs first."""
        for design in designs:
            if design not in self.known:
                values = {d.name: design.get(d.name, d.values[0]) for d in self.space.dimensions}
                self.study.enqueue_trial(values)

    def remember(self, evaluation: Evaluation) -> None:
        """Note an evaluation."""
        self.known[evaluation.design] = evaluation
        self.simulated += evaluation.simulated

    def ask(self) -> list[Design]:
        """Return the next designs to simulate; what cannot be simulated is told at once."""
        start = time.perf_counter()
        batch: list[Design] = []
        refused: list[tuple[Trial, Evaluation]] = []
        wanted = min(BATCH, self.spec.budget.trials - self.simulated - len(self.waiting))
        for _ in range(ASKS_PER_DESIGN * BATCH):
            if len(batch) >= wanted or len(self.known) + len(self.waiting) >= self.space_size:
                break
            trial = self.study.ask(self.distributions)
            if isinstance(self.study.sampler, ScreenedSampler) and self.study.sampler.is_done:
                self.study.tell(trial, state=TrialState.FAIL)
                break
            design = self.space.design(trial.params)
            if design in self.known or design in self.waiting:
                # A failed trial has no part in the population: twins would crowd out other designs.
                self.study.tell(trial, state=TrialState.FAIL)
            elif evaluation := precheck(design, self.spec):
                self.known[design] = evaluation
                refused.append((trial, evaluation))
            else:
                self.waiting[design] = trial
                batch.append(design)
        self.tell(refused)
        self.proposing_s += time.perf_counter() - start
        return batch

    def tell(self, finished: Sequence[tuple[Trial, Evaluation]]) -> None:
        """Let Optuna, the store, the search and the listener know of evaluations, in order of proposal."""
        if not finished:
            return
        told, evaluations = [], []
        for trial, found in finished:
            evaluation = replace(found, number=self.first_number + trial.number)
            self.simulator_cpu_s += evaluation.cpu_s
            for name, violation in evaluation.constraints.items():
                trial.set_constraint(name, violation)
            trial.set_user_attr(EVALUATION, evaluation.to_json())
            told.append(self.study.tell(trial, list(evaluation.objectives)))
            evaluations.append(evaluation)
        if self.store:
            self.store.append_many(told)
        if self.search:
            self.search.learn(evaluations)
        for evaluation in evaluations:
            self.remember(evaluation)
            self.listener.evaluated(evaluation)

    def take(self, batch: Sequence[Design], found: dict[Design, Evaluation]) -> None:
        """Tell what a batch found, and take over what other machines found meanwhile."""
        start = time.perf_counter()
        self.tell([(self.waiting.pop(design), found[design]) for design in batch])
        if self.store and (others := self.store.refresh()):
            self.restore(others)
        self.proposing_s += time.perf_counter() - start

    @property
    def certified(self) -> bool:
        """Whether the certificate that was asked for is reached."""
        wanted = self.spec.budget.certified
        return wanted is not None and self.search is not None and self.search.is_certified(wanted)

    def run(self, workers: Workers, interruption: Interruption) -> None:
        """Evaluate until the budget is used, the certificate is reached, nothing new is proposed, or Ctrl-C.

        While what a batch found is told, and designs are asked for, the next batch is evaluated already.
        """
        deadline = time.perf_counter() + (self.spec.budget.timeout_s or float("inf"))

        def goes_on() -> bool:
            return time.perf_counter() < deadline and not interruption.requested

        batch, following = self.ask(), list[Design]()
        running = workers.submit(batch)
        if batch:
            following = self.ask()
        while batch:
            found = _all_of(running)
            ahead = following if goes_on() else []
            running = workers.submit(ahead)
            self.take(batch, found)
            if not ahead or self.certified:
                # The end, unless what is still under way leaves a larger gap; or nothing was left to propose until now.
                if ahead:
                    self.take(ahead, _all_of(running))
                if self.certified or not goes_on():
                    return
                ahead = self.ask()
                running = workers.submit(ahead)
            batch, following = ahead, self.ask() if ahead else []


def _all_of(running: Iterator[list[Evaluation]]) -> dict[Design, Evaluation]:
    """Wait for a batch, and return what it found."""
    return {evaluation.design: evaluation for evaluations in running for evaluation in evaluations}


def run_study(
    spec: StudySpec | str | Path,
    *,
    jobs: int | None = None,
    journal: Path | None = None,
    requests: Requests | tuple[Requests, ...] | None = None,
    listener: Listener | None = None,
    backend: str = "loky",
    scheduler: str | None = None,
    storage: str | None = None,
    store: Store | None = None,
    say: Callable[[str], None] | None = None,
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
        What to serve, if it was built already, for each of several workloads; else it is built.
    listener
        Told of every distinct design.
    backend, scheduler
        What evaluates: ``loky`` (processes of this machine), ``dask``, ``ray`` or ``sequential``; and the address of a
        cluster.
    storage
        URL of a database in which finished trials are shared with other machines that run the same study.
    store
        Instead of ``journal`` and ``storage``: where finished trials are kept, opened by the caller, who closes it.
    say
        Told, in one line each, of what is waited for; the logger ``dse`` if absent.

    Returns
    -------
    StudyResult
        Also after Ctrl-C, with what was found until then: the batch under way is finished first.

    Raises
    ------
    SpecError
        If the study is impossible, or its journal or database belongs to another one.
    CutOff
        If a disk, a database or a cluster is away for too long; what finished is kept.

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
        requests = build_load(spec)
    chosen: tuple[Design, ...] = ()
    if spec.budget.rehearsal and not _goes_on(journal, store):
        plan = spec.budget.rehearsal
        rehearsal = run_study(rehearsed(spec, plan), jobs=jobs, backend=backend, scheduler=scheduler, say=say)
        if rehearsal.interrupted:
            raise KeyboardInterrupt
        chosen = promoted(rehearsal, plan)
        if say:
            tried = f"rehearsed {len(rehearsal.simulated):,} designs on {plan.requests:,} requests"
            say(f"{tried}; {len(chosen):,} are promoted")
    load = requests if isinstance(requests, tuple) else (requests,)
    if not is_cached():
        warm_up()  # once, before every process does it for itself
    start = time.perf_counter()
    with Interruption() as interruption:
        patience = Patience(stopped=lambda: interruption.requested)
        if say:
            patience = replace(patience, say=say)
        directions = [direction_of(name) for name in spec.objectives]
        opened = None if store else open_store(journal, storage, spec, directions, patience=patience)
        try:
            # Threads of linear algebra would take the processors from those who simulate.
            with (
                threadpool_limits(1, user_api="blas"),
                open_workers(backend, jobs, spec, load, scheduler=scheduler, patience=patience) as workers,
            ):
                loop = _loop(spec, load, store or opened, listener or Nobody(), chosen)
                loop.run(workers, interruption)
        finally:
            if opened:
                opened.close()
    evaluations = tuple(sorted(loop.known.values(), key=lambda evaluation: evaluation.number))
    clock = Clock(time.perf_counter() - start, loop.proposing_s, loop.simulator_cpu_s)
    certificate = loop.search.certificate if loop.search else None
    return StudyResult(spec, evaluations, load, clock, interruption.requested, certificate)


def _goes_on(journal: Path | None, store: Store | None) -> bool:
    """Tell whether there are trials of an earlier session, which then began where a rehearsal leads."""
    if store:
        return bool(store.trials)
    return journal is not None and journal.exists() and journal.stat().st_size > 0


def _loop(
    spec: StudySpec, load: tuple[Requests, ...], store: Store | None, listener: Listener, promoted: Sequence[Design]
) -> _Loop:
    """Return a loop that knows what was found before."""
    space = spec.space.space
    distributions = flat_distributions(space)
    trials = store.trials if store else []
    # A study that goes on must not repeat the random numbers it began with, nor machines those of each other.
    seed = (spec.seed + len(trials) + APART * (store.session if store else 0)) % 2**32
    screened = spec.sampler in SCREENED
    search = search_of(spec, load, seed) if screened or spec.budget.certified is not None else None
    if spec.budget.certified is not None and (search is None or search.certificate is None):
        raise SpecError(f"budget: certified: the space has {space.size:,} designs, too many to list")
    sampler = (
        ScreenedSampler(search, distributions, BATCH, seed)
        if screened and search
        else make_sampler(spec.sampler, distributions, seed)
    )
    study = optuna.create_study(directions=[direction_of(name) for name in spec.objectives], sampler=sampler)
    loop = _Loop(spec, space, study, store, search, listener, trials)
    loop.start_with(tuple(dict.fromkeys((*starting_designs(spec), *promoted))))
    return loop
