"""What the simulator says of a measured run."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dse.measurements.measured_run import MeasuredRun
from simulator import Result, simulate
from simulator.errors import SpecError
from simulator.workload import PS_PER_S

LATENCIES = ("ttft", "tpot", "e2e")


def predict(run: MeasuredRun) -> dict[str, float]:
    """Simulate a run; return its figures as predicted, by the names of those that were measured.

    Raises
    ------
    SpecError
        If the deployment is impossible, or a figure's name unknown.
    """
    result = simulate(run.deployment, run.requests)
    return figures_of(result, run.figures, run.begin_s, run.end_s)


def figures_of(result: Result, names: Iterable[str], begin_s: float, end_s: float) -> dict[str, float]:
    """Return figures of the requests that arrived between two times.

    Parameters
    ----------
    result
        A simulation whose requests all pass one LLM.
    names
        As in :attr:`MeasuredRun.figures`.
    begin_s, end_s
        Seconds from the first arrival.
    """
    arrival_s = result.lowered.memory.requests["arrival_ps"] / PS_PER_S
    counted = (arrival_s >= begin_s - 1e-9) & (arrival_s < end_s - 1e-9)
    several = result.lowered.memory.requests["output_tokens"] > 1
    of_metric = {"ttft": counted, "e2e": counted, "tpot": counted[several]}
    found: dict[str, float] = {}
    for name in names:
        metric, _, statistic = name.removesuffix("_s").partition("_")
        if metric in LATENCIES:
            values = getattr(result, f"{metric}_s")[of_metric[metric]]
            found[name] = float(np.mean(values) if statistic == "mean" else np.percentile(values, float(statistic[1:])))
        elif name == "requests_per_s":
            found[name] = (result.requests_total - result.rejected) / result.span_s
        elif name == "output_tokens_per_s":
            found[name] = result.output_tokens / result.span_s
        elif name == "power_w":
            found[name] = result.energy_j / result.span_s / result.deployment.accelerators
        else:
            raise SpecError(
                f"figures: unknown {name!r}; allowed: {', '.join(LATENCIES)} with _mean_s or _p<percent>_s, "
                "requests_per_s, output_tokens_per_s, power_w"
            )
    return found
