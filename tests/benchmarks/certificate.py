"""Print, as Markdown, what it takes to certify the finite shipped studies, and whether anything was excluded wrongly.

Each study is searched until the open designs could add at most 1 % of the front's hypervolume, and on until none is
open; then it is held against the table of all its designs (:mod:`tests.benchmarks.search_solved`, made if it is not
there). Times are processor times of one process. The last rows are of the screen alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from dse.certificate.ledger import Certificate, Status
from dse.evaluation import build_load, evaluate, precheck
from dse.library import load_study
from dse.pareto import Floats
from dse.proposal.finite import FiniteSearch
from dse.samplers import POPULATION
from dse.screening.design_floors import StudyFloors
from dse.screening.screen import Screen
from dse.spec import StudySpec
from tests.benchmarks.measure import say
from tests.benchmarks.search_solved import FINITE, Solved, solved

GAPS = (0.01, 0.0)
REPEATS = 3


@dataclass(frozen=True)
class Reached:
    """What it took to come to a gap.

    Attributes
    ----------
    certificate
        Then.
    share
        Of the true hypervolume.
    lost
        Designs of the true front that were excluded although nothing that was found is as good.
    proposing_s, simulating_s
        Processor time until then.
    """

    certificate: Certificate
    share: float
    lost: int
    proposing_s: float
    simulating_s: float


def reached(one: Solved, gaps: tuple[float, ...]) -> list[Reached]:
    """Search a solved study until each of some gaps is reached."""
    spec = StudySpec.parse({**one.spec.model_dump(mode="json", exclude_none=True), "budget": {"certified": min(gaps)}})
    load, left, found = build_load(spec), list(gaps), list[Reached]()
    proposing_s = simulating_s = 0.0
    rows: list[int] = []
    start = time.process_time()
    search = FiniteSearch(spec, load)
    while left:
        batch = search.propose(POPULATION)
        proposing_s += time.process_time() - start
        start = time.process_time()
        evaluations = [precheck(design, spec) or evaluate(design, spec, load) for design in batch]
        simulating_s += time.process_time() - start
        start = time.process_time()
        search.learn(evaluations)
        rows += [one.row[evaluation.design] for evaluation in evaluations]
        while left and (not batch or search.is_certified(left[0])):
            left.pop(0)
            spent = proposing_s + time.process_time() - start
            found.append(Reached(search.certificate, one.share(rows), lost(one, search), spent, simulating_s))
    return found


def lost(one: Solved, search: FiniteSearch) -> int:
    """Return how many designs of the true front were excluded although nothing that was found is as good."""
    known = search.ledger.front

    def is_found(losses: Floats) -> bool:
        return bool((known <= losses).all(axis=1).any())

    excluded = (Status.IMPOSSIBLE, Status.BREAKS, Status.DOMINATED)
    return sum(search.ledger.status[row] in excluded and not is_found(one.losses[row]) for row in one.front)


def certificates() -> None:
    """Print a table of the finite studies."""
    print("| study | designs | gap | simulated | twins | excluded by proof | open | hypervolume | front lost | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in FINITE:
        for each in reached(solved(name), GAPS):
            counts, size = each.certificate.counts, each.certificate.designs
            proved = sum(counts[status] for status in (Status.IMPOSSIBLE, Status.BREAKS, Status.DOMINATED))
            print(
                f"| `{name}` | {size:,} | {each.certificate.gap:.2%} | {counts[Status.SIMULATED]:,} "
                f"({counts[Status.SIMULATED] / size:.1%}) | {counts[Status.TWIN]:,} | {proved:,} | "
                f"{counts[Status.OPEN]:,} | {each.share:.2%} | {each.lost} | "
                f"{each.proposing_s:.0f} + {each.simulating_s:.0f} simulating |",
                flush=True,
            )
    print()


def screen() -> None:
    """Print how many designs a second are forecast and bounded, and what it takes to lower their pools first."""
    for name in ("chat", *FINITE):
        spec = load_study(name)
        space, load = spec.space.space, build_load(spec)
        rng = np.random.default_rng(0)
        codes = space.codes() if space.size < 1_000_000 else space.sample(200_000, rng, by="choices")
        start = time.process_time()
        screen = Screen(spec, load[0])
        screen.forecast(codes)
        first_s = time.process_time() - start
        times = []
        for _ in range(REPEATS):
            start = time.process_time()
            screen.predicted(screen.forecast(codes), spec.objectives)
            times.append(time.process_time() - start)
        figure = f"{len(codes) / min(times):,.0f} a second, {first_s:.1f} s to lower their pools"
        if space.size < 1_000_000:
            floors, forecast = StudyFloors(screen, load), screen.forecast(codes)
            start = time.process_time()
            floors.of(codes, forecast)
            first_s = time.process_time() - start
            start = time.process_time()
            floors.of(codes, forecast)
            bounded = len(codes) / (time.process_time() - start)
            figure += f"; {bounded:,.0f} a second bounded, {first_s:.1f} s for the floors of their pools"
        say(f"`{name}`: {len(codes):,} designs forecast", figure)


if __name__ == "__main__":
    certificates()
    screen()
