"""Compilation of the kernel, and the time from nothing to the first trial of a study."""

from __future__ import annotations

import tempfile
import time

import dse.study
from dse import load_study
from dse.evaluation import Evaluation
from dse.execution import default_jobs
from dse.study import Nobody
from tests.benchmarks.measure import in_new_process, say

WARM = """
import json, time
wall, cpu = time.perf_counter(), time.process_time()
from simulator.kernel import warm_up
warm_up()
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""
FIRST = """
import json, time
start = time.perf_counter()
from tests.benchmarks.start_up import first_trial
print(json.dumps(first_trial() - start))
"""


class _First(Nobody):
    """Notes when a study's first simulated trial is there."""

    def __init__(self) -> None:
        self.at = 0.0

    def evaluated(self, evaluation: Evaluation) -> None:
        """Note it."""
        if not self.at and evaluation.simulated:
            self.at = time.perf_counter()


def first_trial() -> float:
    """Return when the first trial of the study `chat` is there."""
    study, listener = load_study("chat"), _First()
    budget = study.budget.model_copy(update={"trials": 20})
    dse.study.run_study(study.model_copy(update={"budget": budget}), listener=listener)
    return listener.at


def start_up() -> None:
    """Measure a cold and a warm cache, and the first trial."""
    with tempfile.TemporaryDirectory() as cache:
        cold = in_new_process("-c", WARM, cache=cache)
        warm = [in_new_process("-c", WARM, cache=cache) for _ in range(3)]
    say("kernel: import and compile, nothing in the cache", f"{cold[1]:.1f} s CPU, {cold[0]:.1f} s")
    say("kernel: import and load from the cache", f"{min(each[1] for each in warm):.2f} s CPU, {min(warm)[0]:.2f} s")
    first = min(in_new_process("-c", FIRST) for _ in range(3))
    say(f"`chat`: from starting Python to the first trial, {default_jobs()} processes", f"{first:.2f} s")
