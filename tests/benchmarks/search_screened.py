"""The default search on a solved study. It simulates: its forecasts learn from figures that the table does not keep."""

from __future__ import annotations

import time

from dse.evaluation import build_load, evaluate, precheck
from dse.proposal.finite import FiniteSearch
from dse.samplers import POPULATION
from search_spaces import Design
from tests.benchmarks.search_runs import Run, shares_of
from tests.benchmarks.search_solved import Solved


def screened(solved: Solved, seed: int, trials: int) -> Run:
    """Search a solved study as ``dse run`` does; the seed has no influence, as nothing is drawn."""
    del seed
    load = build_load(solved.spec)
    start = time.process_time()
    search = FiniteSearch(solved.spec, load)
    batch, following = search.propose(POPULATION), list[Design]()
    spent = time.process_time() - start
    rows: list[int] = []
    while batch and len(rows) < trials:
        start = time.process_time()
        following = search.propose(POPULATION)
        spent += time.process_time() - start
        found = [precheck(design, solved.spec) or evaluate(design, solved.spec, load) for design in batch]
        start = time.process_time()
        search.learn(found)
        spent += time.process_time() - start
        rows += [solved.row[evaluation.design] for evaluation in found if evaluation.simulated]
        batch = following or search.propose(POPULATION)
    count = min(len(rows), trials)
    return Run(shares_of(rows, solved, trials), spent * 1e3 / max(count, 1), count, len(rows))
