"""One LLM: the Azure conversation trace."""

from __future__ import annotations

from simulator import Deployment, Requests, Workload, build_requests
from tests.benchmarks.measure import AZURE, Case, say, times

POOL = {
    "model": "llama-2-70b",
    "accelerator": "h100-sxm",
    "clients": 4,
    "tp": 4,
    "batching": {"policy": "chunked", "token_budget_tokens": 512},
}
DEPLOYMENT = Deployment.parse({"router": "round_robin", "pools": [POOL]})


def azure() -> tuple[str, dict[str, object]]:
    """Return a workload of the Azure conversation trace, or of a generated stand-in, and what it is."""
    if AZURE.exists():
        return "Azure conversation trace", {"trace": {"path": str(AZURE)}}
    learned = {"statistics": "azure-2023-conversation"}
    generated = {"requests": 19366, "arrivals": {"process": "statistics", **learned}, "lengths": learned}
    return "generated like the Azure conversation trace", generated


def requests() -> Requests:
    """Return the requests of that workload."""
    return build_requests(Workload.parse(azure()[1]))


def one_llm() -> None:
    """Measure the kernel alone, with lowering and metrics, and without fast-forwarding."""
    load = requests()
    fast, stepped = times(Case(DEPLOYMENT, load), Case(DEPLOYMENT, load, max_run=1))
    say(f"{azure()[0]}, {len(load):,} requests, llama-2-70b on 4 x (h100 tp4)", f"{fast}")
    say("the same, per second of CPU time", f"{len(load) / fast.whole * 1e3:,.0f} requests")
    say("the same, every iteration stepped", f"{stepped}")
