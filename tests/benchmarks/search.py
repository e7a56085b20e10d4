"""Print, as Markdown, what samplers find of the true front of the finite shipped studies.

Each study is solved exhaustively once: every design is simulated and kept in a table in the cache folder (minutes;
again when the simulator or the study changed, or with ``--again``). Then samplers search it, answered from the table.
Shares are of the true front's hypervolume, with the worst values of the front and a tenth of its range as reference
point; a design that was known already, or that cannot be simulated, does not count as simulated. Times are processor
times. Without ``--long``: one seed, to 2 % of a space, without the slow samplers (some minutes).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from dse.pareto import Floats
from dse.samplers import AUTO, SAMPLERS
from tests.benchmarks.search_runs import OTHERS, Run, run
from tests.benchmarks.search_screened import screened
from tests.benchmarks.search_solved import FINITE, PROCESSES, Solved, solved

PERCENTS = (0.5, 1.0, 2.0, 5.0)
FEW = 100
"""Trials of the first column, and all that the Gaussian process gets."""
SLOW = {"tpe": 2.0, "tpe-multivariate": 2.0, "gp": 0.0}
"""Samplers that take longer than simulations do, and to which percentage of a space they go; 0: ``FEW`` trials."""
TWINS = ("multi_agent", "single_agent")
RESAMPLES = 10_000

OTHERS["screened"] = screened

Task = tuple[str, str, int, int]
"""Sampler, study, seed, trials."""
_runs: dict[Task, Run] = {}


def trials_of(one: Solved, percent: float) -> int:
    """Return how many designs are a percentage of a space."""
    return int(len(one.designs) * percent / 100) if percent else FEW


def done(task: Task) -> Run:
    name, study, seed, trials = task
    return run(name, solved(study), seed, trials)


def all_done(tasks: Sequence[Task]) -> dict[Task, Run]:
    """Return the runs of tasks, in several processes; say how many are done. None is run twice."""
    new = [task for task in tasks if task not in _runs]
    with ProcessPoolExecutor(PROCESSES) as pool:
        for count, found in enumerate(pool.map(done, new)):
            _runs[new[count]] = found
            print(f"\r{count + 1} of {len(new)} searches   ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {task: _runs[task] for task in tasks}


def of_seeds(values: Iterable[float]) -> str:
    """Return a mean and its range over seeds, per cent."""
    found = np.array(list(values)) * 100
    return f"{found.mean():.1f} [{found.min():.1f}–{found.max():.1f}]" if len(found) > 1 else f"{found[0]:.1f}"


def spaces(studies: Sequence[str]) -> None:
    """Print what the solved spaces are like."""
    print(
        "| study | designs | can be simulated | feasible | true front | simulating all of them |\n|---"
        + "|---" * 5
        + "|"
    )
    for name in studies:
        one = solved(name)
        print(
            f"| `{name}` | {len(one.designs):,} | {one.simulated.mean():.0%} | {one.feasible.mean():.1%} "
            f"| {len(one.front)} | {one.table['cpu_s'].sum():.0f} CPU s |",
            flush=True,
        )


def table(studies: Sequence[str], samplers: Sequence[str], seeds: int, most: float) -> None:
    """Print the shares of samplers, a table for each study."""
    for study in studies:
        one = solved(study)
        reach = {name: trials_of(one, min(most, SLOW.get(name, most))) for name in samplers}
        runs = all_done(
            [
                (name, study, seed, trials)
                for name, trials in reach.items()
                for seed in range(1 if name == "gp" else seeds)
            ]
        )
        percents = [percent for percent in PERCENTS if percent <= most]
        marks = [(f"{FEW} trials", FEW), *((f"{percent:g} %", trials_of(one, percent)) for percent in percents)]
        print(f"\n`{study}`, share of the true hypervolume in %, {seeds} seed{'s' * (seeds > 1)}: mean [least–most]\n")
        print(f"| sampler | {' | '.join(label for label, _ in marks)} | CPU ms a trial | proposals a trial |")
        print("|---" * (len(marks) + 3) + "|")
        for name, trials in reach.items():
            found = [each for (sampler, _, _, _), each in runs.items() if sampler == name]
            cells = [of_seeds(each.shares[mark - 1] for each in found) if mark <= trials else "–" for _, mark in marks]
            cpu = np.mean([each.cpu_ms for each in found])
            proposals = np.mean([each.proposals / max(each.simulated, 1) for each in found])
            print(f"| {name} | {' | '.join(cells)} | {cpu:.1f} | {proposals:.1f} |", flush=True)


def interval(first: Floats, second: Floats) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the difference of two means.

    Percentiles of the difference over resamples of both (Efron, 1979); the same resamples every time.
    """
    rng = np.random.default_rng(0)
    means = [
        sample[rng.integers(len(sample), size=(RESAMPLES, len(sample)))].mean(axis=1) for sample in (first, second)
    ]
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    return float(low), float(high)


def twins(studies: Sequence[str], seeds: int, most: float) -> None:
    """Print the multi-agent sampler against its single-agent twin."""
    print(f"\nShare of the true hypervolume in %, mean of {seeds} seeds; difference with its 95 % bootstrap interval\n")
    print("| study | simulated | multi-agent | single-agent | difference |\n|---|---|---|---|---|")
    for study in studies:
        one = solved(study)
        runs = all_done([(name, study, seed, trials_of(one, most)) for name in TWINS for seed in range(seeds)])
        for percent in (percent for percent in PERCENTS[1:] if percent <= most):
            last = trials_of(one, percent) - 1
            multi, single = (
                100 * np.array([each.shares[last] for (sampler, _, _, _), each in runs.items() if sampler == name])
                for name in TWINS
            )
            low, high = interval(multi, single)
            print(
                f"| `{study}` | {percent:g} % | {multi.mean():.1f} | {single.mean():.1f} "
                f"| {multi.mean() - single.mean():+.1f} [{low:+.1f}, {high:+.1f}] |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search", description=__doc__)
    parser.add_argument("--long", action="store_true", help="every sampler, to 5 %%, three seeds; ten for the twins")
    parser.add_argument("--again", action="store_true", help="solve the studies although their tables are there")
    parser.add_argument("--studies", nargs="+", choices=FINITE, default=FINITE)
    parser.add_argument(
        "--samplers", nargs="+", help="a table of these only", choices=[*dict.fromkeys((*OTHERS, *SAMPLERS))]
    )
    parser.add_argument("--twins", action="store_true", help="multi-agent against single-agent")
    parser.add_argument("--to", type=float, choices=PERCENTS, help="percentage of a space to simulate")
    given = parser.parse_args()
    for study in given.studies:
        solved(study, given.again)
    spaces(given.studies)
    seeds, most = (3 if given.long else 1), given.to or (PERCENTS[-1] if given.long else 2.0)
    if given.samplers or not given.twins:
        known = [
            name for name in dict.fromkeys((*OTHERS, *SAMPLERS)) if name != AUTO and (given.long or name not in SLOW)
        ]
        table(given.studies, given.samplers or known, seeds, most)
    if given.twins or not given.samplers:
        twins(given.studies, 10 if given.long else 3, most)


if __name__ == "__main__":
    main()
