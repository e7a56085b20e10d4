"""Print the project's speed figures on this machine, as a Markdown table.

Every figure is CPU time or wall time as named, the minimum of several repetitions where noise matters. The trace is
the Azure conversation trace of the reference data if it is there, else a generated one of the same shape and size.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from joblib.externals.loky import get_reusable_executor

from dse import load_study, run_study
from dse.evaluation import Evaluation
from dse.execution import default_jobs
from simulator import Deployment, Requests, Workload, build_requests, simulate
from simulator.kernel import run_compiled
from simulator.lowering import lower

ROOT = Path(__file__).parents[2]
AZURE = ROOT.parent / "shared" / "reference" / "traces" / "azure_llm_2023_conv.csv"
BAR = Deployment.parse(
    {
        "router": "round_robin",
        "pools": [
            {
                "model": "llama-2-70b",
                "accelerator": "h100-sxm",
                "clients": 4,
                "tp": 4,
                "batching": {"policy": "chunked", "token_budget_tokens": 512},
            }
        ],
    }
)


def say(what: str, figure: str) -> None:
    """Print a row."""
    print(f"| {what} | {figure} |", flush=True)


def cpu_ms(work: Callable[[], object], repetitions: int = 9) -> float:
    """Return the least CPU time of a piece of work, milliseconds."""
    times = []
    for _ in range(repetitions):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) * 1e3


def trace() -> tuple[str, Requests]:
    """Return the Azure conversation trace, or a generated stand-in, and what it is."""
    if AZURE.exists():
        return "Azure conversation trace", build_requests(Workload.parse({"trace": {"path": str(AZURE)}}))
    learned = {"statistics": "azure-2023-conversation"}
    generated = {"requests": 19366, "arrivals": {"process": "statistics", **learned}, "lengths": learned}
    return "generated like the Azure conversation trace", build_requests(Workload.parse(generated))


def one_simulation() -> None:
    """Measure the kernel alone, and with lowering and metrics."""
    name, requests = trace()
    simulate(BAR, requests)

    def kernel(max_run: int) -> float:
        times = []
        for _ in range(9):
            memory = lower(BAR, requests, max_run=max_run).memory
            start = time.process_time()
            run_compiled(memory)
            times.append(time.process_time() - start)
        return min(times) * 1e3

    fast, stepped = kernel(1 << 40), kernel(1)
    whole = cpu_ms(lambda: simulate(BAR, requests).summary())
    rate = len(requests) / (whole / 1e3)
    say(f"{name}, {len(requests):,} requests, llama-2-70b on 4 x (h100 tp4), kernel", f"{fast:.1f} ms CPU")
    say("the same, every iteration stepped", f"{stepped:.1f} ms CPU")
    say("the same, with lowering and all metrics", f"{whole:.1f} ms CPU, {rate:,.0f} requests/s")


def in_new_process(code: str, cache: str | None = None) -> tuple[float, str]:
    """Run code in a new interpreter; return the wall time in seconds and what it printed."""
    environment = {**os.environ, **({"DSE_CACHE_DIR": cache} if cache else {})}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, check=True, capture_output=True, text=True
    )
    return time.perf_counter() - start, done.stdout.strip()


class _First:
    """Ends the study's wait for its first simulated trial."""

    def __init__(self) -> None:
        self.at: float | None = None

    def evaluated(self, evaluation: Evaluation) -> None:
        if self.at is None and evaluation.simulated:
            self.at = time.perf_counter()


def start_up() -> None:
    """Measure compilation, and the time from nothing to the first trial."""
    warm = (
        "import time; t=time.perf_counter(); from simulator.kernel import warm_up; warm_up(); "
        "print(time.perf_counter()-t)"
    )
    with tempfile.TemporaryDirectory() as cache:
        cold = float(in_new_process(warm, cache)[1])
        cached = float(in_new_process(warm, cache)[1])
    say("kernel: import and compile, first time", f"{cold:.1f} s")
    say("kernel: import and load from cache", f"{cached:.2f} s")
    first = (
        "import time; t=time.perf_counter(); from tests.benchmarks.__main__ import _First; from dse import *; "
        "import dse, dse.study; w=_First(); s=dse.load_study('chat'); "
        "s=s.model_copy(update={'budget': s.budget.model_copy(update={'trials': 20})}); "
        "dse.study.run_study(s, listener=w); print(w.at-t)"
    )
    say(
        f"`chat`: from starting Python to the first trial, {default_jobs()} processes",
        f"{min(float(in_new_process(first)[1]) for _ in range(3)):.2f} s",
    )


def children_cpu_s() -> float:
    """Return the processor time of ended child processes, seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def study() -> None:
    """Measure the shipped study."""
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
    say("peak memory of the main process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    print("| what | figure |\n|---|---|")
    one_simulation()
    start_up()
    study()
