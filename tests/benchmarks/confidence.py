"""How often intervals of percentiles from one run hold the truth: ``python -m tests.benchmarks.confidence``."""

from __future__ import annotations

import numpy as np

from dse.confidence import percentile_interval
from simulator.metrics import percentile
from tests.dse.test_confidence import as_if_independent, queue

RUNS, LONG = 200, 1_000_000


def main() -> None:
    """Print coverage and width, by utilisation, percentile and length of the run."""
    print("utilisation  percentile  requests  batch means      as if independent")
    for utilisation in (0.6, 0.75, 0.9):
        whole = queue(LONG, LONG, utilisation).e2e_s
        for requests in (4000, 20_000):
            runs = [queue(requests, seed, utilisation).e2e_s for seed in range(RUNS)]
            for percent in (50.0, 90.0, 99.0):
                true = percentile(whole, percent)
                said = []
                for limits in (
                    [(i.low, i.high) for i in (percentile_interval(run, percent) for run in runs)],
                    [as_if_independent(run, percent) for run in runs],
                ):
                    held = np.mean([low <= true <= high for low, high in limits])
                    width = np.median([(high - low) / true for low, high in limits])
                    said.append(f"{held:6.1%} ± {width / 2:.0%}".ljust(17))
                print(f"{utilisation:11g}  {percent:10g}  {requests:8,}  {''.join(said)}", flush=True)


if __name__ == "__main__":
    main()
