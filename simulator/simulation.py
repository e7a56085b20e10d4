"""One deployment, one workload, one result."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.errors import Overload
from simulator.kernel import run_compiled
from simulator.lowering import NO_LIMIT, lower
from simulator.metrics import Result
from simulator.spec.deployment import Deployment
from simulator.spec.stages import LLM_ALONE, Stage
from simulator.spec.workload import Workload
from simulator.workload import Requests, build_requests


def simulate(
    deployment: Deployment,
    workload: Workload | Requests,
    *,
    pipeline: Sequence[Stage] | None = None,
    max_run: int = NO_LIMIT,
) -> Result:
    """Serve a workload on a deployment and return what happened.

    Parameters
    ----------
    deployment
        Pools, routers and link.
    workload
        What arrives: a specification, or requests already built from one (quicker when used repeatedly).
    pipeline
        Stages of every request, if ``workload`` is requests already built; the LLM alone if absent.
    max_run
        Decode iterations that may be advanced at once; 1 steps through every iteration. The result is the same.

    Returns
    -------
    Result
        Latencies, throughput, use of each pool, energy and cost.

    Raises
    ------
    SpecError
        If a specification is impossible: unknown name, a model that does not fit, an unreadable trace.
    Overload
        If the load would take more than 100 simulated days to serve.

    Examples
    --------
    >>> from simulator import Deployment, Workload, simulate
    >>> deployment = Deployment.parse({"pools": [{"model": "llama-3.1-8b", "accelerator": "h100-sxm"}]})
    >>> workload = Workload.parse({"requests": 100, "arrivals": {"process": "poisson", "rate_rps": 2},
    ...                            "lengths": {"statistics": "azure-2023-conversation"}})
    >>> simulate(deployment, workload).rejected
    0
    """
    if isinstance(workload, Requests):
        requests = workload
    else:
        requests, pipeline = build_requests(workload), workload.pipeline
    lowered = lower(deployment, requests, pipeline=pipeline or LLM_ALONE, max_run=max_run)
    run_compiled(lowered.memory)
    if lowered.memory.world["overrun"][0]:
        done = int((lowered.memory.requests["finish_ps"] >= 0).sum())
        raise Overload(
            f"overload: after 100 simulated days {done:,} of {len(requests):,} requests are served; "
            "lower the rate or the number of requests, or add clients"
        )
    return Result(deployment, lowered)
