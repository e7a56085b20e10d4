"""Studies from their beginning to their end: a shipped one, and a thousand trials on a real trace."""

from __future__ import annotations

import resource
import time

from joblib.externals.loky import get_reusable_executor

from dse import StudySpec, load_study, run_study
from dse.execution import default_jobs
from tests.benchmarks.measure import say
from tests.benchmarks.one_llm import azure

TRIALS = 1000


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


def study() -> None:
    """Measure the shipped study `chat`, and a thousand trials of it on the Azure conversation trace."""
    spec = load_study("chat")
    run("`chat`", spec)
    words, workload = azure()
    changes = {"workload": workload, "budget": {"trials": TRIALS}}
    run(f"`chat` on the {words}", StudySpec.parse({**spec.model_dump(mode="json", exclude_none=True), **changes}))
