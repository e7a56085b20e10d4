"""Studies from their beginning to their end: a shipped one, and a thousand trials on a real trace."""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
from joblib.externals.loky import get_reusable_executor

from dse import StudyResult, StudySpec, load_study, run_study
from dse.execution import default_jobs
from dse.pareto import Floats, hypervolume, losses, non_dominated, reference_point
from dse.samplers import AUTO, SAMPLERS
from tests.benchmarks.measure import say
from tests.benchmarks.one_llm import azure

TRIALS = 1000
SLOW = ("tpe", "tpe-multivariate", "gp")
"""Samplers that take many times longer than the simulations."""


def children_cpu_s() -> float:
    """Return the processor time of ended child processes, seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(name: str, spec: StudySpec) -> None:
    """Measure a study with as many processes as processors."""
    jobs = default_jobs()
    own, children = time.process_time(), children_cpu_s()
    result = run_study(spec, jobs=jobs)
    # Processes count once they have ended.
    get_reusable_executor().shutdown(wait=True)
    used = time.process_time() - own + children_cpu_s() - children
    clock = result.clock
    say(
        f"{name}: {len(result.simulated):,} trials of {len(result.requests):,} requests, {jobs} processes",
        f"{clock.wall_s:.1f} s",
    )
    say("of that, proposing designs and keeping trials", f"{clock.proposing_s:.1f} s")
    share = clock.simulator_cpu_s / used
    say("simulator, all processes", f"{clock.simulator_cpu_s:.1f} CPU s: {share:.0%} of all, with their start")
    say("processors busy", f"{used / clock.wall_s / jobs:.0%}")


def samplers(seeds: int = 1) -> None:
    """Print what each sampler makes of a thousand trials on the Azure conversation trace.

    Shares are of the hypervolume of the front of all runs together, up to a tenth of its range beyond its worst values.
    """
    _, workload = azure()
    base = load_study("chat").model_dump(mode="json", exclude_none=True)
    found: dict[str, list[tuple[StudyResult, float]]] = {}
    for name in SAMPLERS:
        if name in (AUTO, *SLOW):
            continue
        for seed in range(seeds):
            changes = {"workload": workload, "budget": {"trials": TRIALS}, "sampler": name, "seed": seed}
            own, children = time.process_time(), children_cpu_s()
            result = run_study(StudySpec.parse({**base, **changes}), jobs=default_jobs())
            get_reusable_executor().shutdown(wait=True)
            used = time.process_time() - own + children_cpu_s() - children
            found.setdefault(name, []).append((result, used))
            print(f"{name}, seed {seed}: {result.clock.wall_s:.0f} s", file=sys.stderr)

    def values(result: StudyResult) -> Floats:
        return losses(np.array([each.objectives for each in result.front]), result.spec.objectives)

    everything = np.concatenate([values(result) for runs in found.values() for result, _ in runs])
    best = everything[non_dominated(everything)]
    reference = reference_point(best)
    print("| sampler | share of the hypervolume | wall | CPU | of it in the simulator |\n|---|---|---|---|---|")
    for name, runs in found.items():
        shares = [hypervolume(values(result), reference) / hypervolume(best, reference) for result, _ in runs]
        wall_s = np.mean([result.clock.wall_s for result, _ in runs])
        cpu_s = np.mean([used for _, used in runs])
        simulating = np.mean([result.clock.simulator_cpu_s / used for result, used in runs])
        spread = f" [{min(shares):.1%}–{max(shares):.1%}]" if len(shares) > 1 else ""
        print(f"| `{name}` | {np.mean(shares):.1%}{spread} | {wall_s:.0f} s | {cpu_s:.0f} s | {simulating:.0%} |")


def study() -> None:
    """Measure the shipped study `chat`, and a thousand trials of it on the Azure conversation trace."""
    spec = load_study("chat")
    run("`chat`", spec)
    words, workload = azure()
    changes = {"workload": workload, "budget": {"trials": TRIALS}}
    run(f"`chat` on the {words}", StudySpec.parse({**spec.model_dump(mode="json", exclude_none=True), **changes}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.study", description=samplers.__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each sampler")
    samplers(parser.parse_args().seeds)
