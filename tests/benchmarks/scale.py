"""Many requests on many clients, each simulation in a process of its own: time, and peak memory.

``python -m tests.benchmarks.scale '{"requests": 1000, "clients": 20, "router": "round_robin"}'`` runs one and prints
its figures.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import simulator.simulation
import simulator.windows
from simulator import Deployment, Workload, build_requests
from simulator.kernel import Memory, run_compiled, warm_up
from tests.benchmarks.measure import cpu_ms, in_new_process, say

RPS_PER_CLIENT = 5


def peak_mb() -> float:
    """Return the peak memory of this process, 1e6 bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not from getrusage, which counts the process that started this one.
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def one(requests: int, clients: int, router: str, window_requests: int | None = None) -> dict[str, float]:
    """Simulate a load of about 5 requests/s for each client; return CPU times and peak memory."""
    pool = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "clients": clients}
    deployment = Deployment.parse({"pools": [pool], "router": router})
    workload = Workload.parse(
        {
            "requests": requests,
            "arrivals": {"process": "poisson", "rate_rps": RPS_PER_CLIENT * clients},
            "lengths": {"statistics": "azure-2023-conversation"},
        }
    )
    warm_up()
    kernel_ms = 0.0

    def timed(memory: Memory) -> None:
        nonlocal kernel_ms
        kernel_ms += cpu_ms(lambda: run_compiled(memory))

    for module in (simulator.simulation, simulator.windows):
        vars(module)["run_compiled"] = timed
    figures: dict[str, float] = {"imported_mb": peak_mb()}
    built: list[Any] = []
    figures["build_ms"] = cpu_ms(lambda: built.append(build_requests(workload)))
    load = built.pop()

    def whole() -> None:
        result = simulator.simulate(deployment, load, window_requests=window_requests)
        assert result.summary()["rejected"] == 0

    figures["whole_ms"] = cpu_ms(whole)
    return {**figures, "kernel_ms": kernel_ms, "peak_mb": peak_mb()}


def least(repetitions: int, **case: object) -> dict[str, float]:
    """Return the figures of the quickest of several processes, and the largest peak of memory."""
    runs = [in_new_process("-m", "tests.benchmarks.scale", json.dumps(case)) for _ in range(repetitions)]
    figures = {name: min(run[name] for run in runs) for name in runs[0]}
    return {**figures, "peak_mb": max(run["peak_mb"] for run in runs)}


def _shown(found: dict[str, float]) -> str:
    seconds = {name: found[f"{name}_ms"] / 1e3 for name in ("kernel", "whole", "build")}
    return (
        f"{seconds['kernel']:.2f} s kernel, {seconds['whole']:.2f} s whole; "
        f"{seconds['build']:.2f} s to draw the requests; peak {found['peak_mb']:,.0f} MB "
        f"({found['imported_mb']:.0f} MB before)"
    )


def many_requests() -> None:
    """Measure a million requests, and the time of a request in shorter and longer simulations."""
    for router, said in (("round_robin", "round robin"), ("join_shortest_queue", "shortest queue")):
        found = least(3, requests=1_000_000, clients=200, router=router)
        say(f"1,000,000 requests, llama-3.1-8b on 200 x h100, {said}", _shown(found))
    growth(10_000, 100_000, 1_000_000)


def growth(*numbers: int) -> None:
    """Measure the time of a request in simulations of so many on the same 20 clients."""
    for number in numbers:
        found = least(3 if number <= 1_000_000 else 1, requests=number, clients=20, router="round_robin")
        kernel, whole = (found[f"{name}_ms"] * 1e3 / number for name in ("kernel", "whole"))
        say(
            f"{number:,} requests on 20 x h100, round robin, of each request",
            f"{kernel:.2f} µs kernel, {whole:.2f} µs whole",
        )


def very_many_requests() -> None:
    """Measure ten million requests in windows."""
    growth(10_000_000)
    found = least(1, requests=10_000_000, clients=1000, router="round_robin")
    say("10,000,000 requests in windows on 1,000 x h100, round robin", _shown(found))


if __name__ == "__main__":
    print(json.dumps(one(**json.loads(sys.argv[1]))))
