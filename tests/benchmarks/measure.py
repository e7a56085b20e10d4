"""How things are measured: CPU time of one process, the minimum of several runs, one row a figure."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator import Deployment, Requests, Result, simulate
from simulator.kernel import run_compiled
from simulator.lowering import LLM_ALONE_PLAN, NO_LIMIT, lower
from simulator.spec.pipeline_plan import PipelinePlan

ROOT = Path(__file__).parents[2]
TRACES = ROOT.parent / "shared" / "reference" / "traces"
AZURE, MOONCAKE = TRACES / "azure_llm_2023_conv.csv", TRACES / "mooncake_conversation.jsonl"


def say(what: str, figure: str) -> None:
    """Print a row."""
    print(f"| {what} | {figure} |", flush=True)


def cpu_ms(work: Callable[[], object]) -> float:
    """Return the CPU time of a piece of work, milliseconds."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3


@dataclass(frozen=True)
class Times:
    """CPU times of a simulation in several rounds, milliseconds: its kernel, and with lowering and a summary."""

    kernels: tuple[float, ...]
    wholes: tuple[float, ...]

    @property
    def whole(self) -> float:
        """The least time of the whole."""
        return min(self.wholes)

    def __str__(self) -> str:
        """Return the least times, as a row shows them."""
        return f"{min(self.kernels):.1f} ms kernel, {self.whole:.1f} ms whole"

    def over(self, other: Times) -> str:
        """Return how many times as long it takes as another, the median of the rounds, as a row shows it."""
        kernel, whole = (
            statistics.median(a / b for a, b in zip(mine, others, strict=True))
            for mine, others in ((self.kernels, other.kernels), (self.wholes, other.wholes))
        )
        return f"{kernel:.1f} x kernel, {whole:.1f} x whole"


@dataclass(frozen=True)
class Case:
    """A simulation to be timed."""

    deployment: Deployment
    requests: Requests
    plan: PipelinePlan = LLM_ALONE_PLAN
    max_run: int = NO_LIMIT

    def kernel_ms(self) -> float:
        """Run the kernel alone, once."""
        memory = lower(self.deployment, self.requests, plan=self.plan, max_run=self.max_run).memory
        return cpu_ms(lambda: run_compiled(memory))

    def simulated(self) -> Result:
        """Run all of it, once."""
        return simulate(self.deployment, self.requests, plan=self.plan, max_run=self.max_run)

    def whole_ms(self) -> float:
        """Run all of it and read a summary, once."""
        return cpu_ms(lambda: self.simulated().summary())


def times(*cases: Case, repetitions: int = 9) -> list[Times]:
    """Return the times of cases, which take turns: what else the machine does then meets all of them."""
    for case in cases:
        case.simulated().summary()
    rounds = [[(case.kernel_ms(), case.whole_ms()) for case in cases] for _ in range(repetitions)]
    return [Times(*zip(*of_case, strict=True)) for of_case in zip(*rounds, strict=True)]


def in_new_process(*arguments: str, cache: str | None = None) -> Any:
    """Run Python on arguments in a new interpreter; return what it printed, read as JSON."""
    environment = {**os.environ, **({"DSE_CACHE_DIR": cache} if cache else {})}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)
