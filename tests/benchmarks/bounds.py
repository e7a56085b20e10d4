"""Bounds against simulations of random deployments on random workloads: no bound may beat what came out.

``python -m tests.benchmarks.bounds --pairs 100000`` prints every figure that a bound beats, and for each metric how
near its bound is: the median, and the least of the nearest nine tenths.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice

import numpy as np

from tests.dse.bound_checks import Compared, compared
from tests.dse.random_pairs import PER_WORKLOAD, random_pairs

TASK_PAIRS = 10 * PER_WORKLOAD

Found = tuple[dict[str, list[float]], list[tuple[str, Compared]], float]


def checked(first_seed: int, pairs: int) -> Found:
    """Return how near the bounds of some pairs are, the figures that beat them, and the CPU time that bounds took."""
    shares: dict[str, list[float]] = defaultdict(list)
    wrong: list[tuple[str, Compared]] = []
    spent_s = 0.0
    for number, pair in enumerate(islice(random_pairs(first_seed), pairs)):
        start = time.process_time()
        figures = compared(pair)
        spent_s += time.process_time() - start
        for figure in figures:
            shares[figure.name].append(figure.share)
            if figure.is_wrong:
                wrong.append((f"pair {number} from seed {first_seed}", figure))
    return dict(shares), wrong, spent_s


def tasks(pairs: int, first_seed: int) -> Iterable[tuple[int, int]]:
    """Yield seeds and numbers of pairs; seeds of tasks are so far apart that none is used twice."""
    for number, done in enumerate(range(0, pairs, TASK_PAIRS)):
        yield first_seed + 1000 * number, min(TASK_PAIRS, pairs - done)


def main() -> None:
    """Check and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bounds", description=__doc__)
    parser.add_argument("--pairs", type=int, default=10_000, help="deployments to simulate and to bound")
    parser.add_argument("--processes", type=int, default=2, help="processes that share the work")
    parser.add_argument("--seed", type=int, default=0, help="first seed; the same seed gives the same pairs")
    given = parser.parse_args()
    start, spent_s, count = time.perf_counter(), 0.0, 0
    shares: dict[str, list[float]] = defaultdict(list)
    wrong = 0
    with ProcessPoolExecutor(given.processes) as executor:
        seeds, sizes = zip(*tasks(given.pairs, given.seed), strict=True)
        for found, beaten, seconds in executor.map(checked, seeds, sizes):
            for name, values in found.items():
                shares[name] += values
            for where, figure in beaten:
                print(f"beaten: {where}: {figure.name}: bound {figure.bound!r}, simulated {figure.value!r}", flush=True)
            wrong += len(beaten)
            spent_s += seconds
            count += len(found["span_s"])
            print(f"{count:,} pairs, {wrong} beaten", end="\r", file=sys.stderr, flush=True)
    print(f"{count:,} pairs, {sum(map(len, shares.values())):,} figures, {wrong} beaten, ", end="")
    print(f"{time.perf_counter() - start:.0f} s, {spent_s / count * 1e3:.1f} ms of CPU time for the bounds of a pair")
    print("| metric | median of bound / simulated | 10th percentile |\n|---|---|---|")
    for name, values in shares.items():
        print(f"| {name} | {np.median(values):.3f} | {np.percentile(values, 10):.3f} |")


if __name__ == "__main__":
    main()
