"""A shipped study from its beginning to its end."""

from __future__ import annotations

import resource
import time

from joblib.externals.loky import get_reusable_executor

from dse import load_study, run_study
from dse.execution import default_jobs
from tests.benchmarks.measure import say


def children_cpu_s() -> float:
    """Return the processor time of ended child processes, seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def study() -> None:
    """Measure the shipped study `chat`."""
    spec, jobs = load_study("chat"), default_jobs()
    own, children = time.process_time(), children_cpu_s()
    result = run_study(spec, jobs=jobs)
    # Processes count once they have ended.
    get_reusable_executor().shutdown(wait=True)
    used = time.process_time() - own + children_cpu_s() - children
    clock = result.clock
    say(
        f"`chat`: {len(result.simulated)} trials of {len(result.requests):,} requests, {jobs} processes",
        f"{clock.wall_s:.1f} s",
    )
    say("of that, Optuna", f"{clock.optuna_s:.1f} s ({clock.optuna_s / clock.wall_s:.0%})")
    say("simulator, all processes", f"{clock.simulator_cpu_s:.1f} CPU s")
    say("processor time of all processes, their start included", f"{used:.1f} CPU s")
    say("processors busy", f"{used / clock.wall_s / jobs:.0%}")
