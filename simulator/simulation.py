"""One deployment, one workload, one result."""

from __future__ import annotations

from simulator.errors import Overload
from simulator.kernel import run_compiled
from simulator.kernel.layout import NEVER
from simulator.lowering import LLM_ALONE_PLAN, NO_LIMIT, lower
from simulator.metrics import Result
from simulator.spec.deployment import Deployment
from simulator.spec.pipeline_plan import PipelinePlan
from simulator.spec.workload import Workload
from simulator.windows import run_in_windows
from simulator.workload import PS_PER_S, Requests, build_requests

WINDOW_REQUESTS = 1_000_000
"""Requests in a window where nothing is said: about 300 MB."""


def simulate(
    deployment: Deployment,
    workload: Workload | Requests,
    *,
    plan: PipelinePlan | None = None,
    max_run: int = NO_LIMIT,
    window_requests: int | None = None,
    log: bool | tuple[float, float] = False,
) -> Result:
    """Serve a workload on a deployment and return what happened.

    Parameters
    ----------
    deployment
        Pools, routers, services, link and tiers.
    workload
        What arrives: a specification, or requests already built from one (quicker when used repeatedly).
    plan
        Stages of the requests and the ways through them, if ``workload`` is requests already built
        (:attr:`Workload.plan <simulator.spec.workload.Workload.plan>`); one LLM alone if absent.
    max_run
        Decode iterations that may be advanced at once; 1 steps through every iteration. The result is the same.
    window_requests
        Requests that are held in memory at a time beside those under way; the result is the same, without the time
        spent at each stage. If absent all, or :data:`WINDOW_REQUESTS` where there are more than twice as many.
    log
        Whether to keep what every client did when, for :mod:`simulator.timeline`; with two times, seconds, only
        between them.

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
        requests, plan = build_requests(workload), workload.plan
    plan = plan or LLM_ALONE_PLAN
    if window_requests is None and len(requests) > 2 * WINDOW_REQUESTS:
        window_requests = WINDOW_REQUESTS
    window_ps = (0, NEVER) if isinstance(log, bool) else (round(log[0] * PS_PER_S), round(log[1] * PS_PER_S))
    capacity = 0 if log is False else 8 * len(requests) + 4096
    while True:
        lowered = lower(
            deployment,
            requests,
            plan=plan,
            max_run=max_run,
            window_requests=window_requests,
            log_capacity=capacity,
            log_window_ps=window_ps,
        )
        if window_requests is None:
            run_compiled(lowered.memory)
        else:
            lowered = run_in_windows(lowered, window_requests)
        wanted = int(lowered.memory.world["logged"][0])
        if wanted <= capacity:
            break
        # The same again, now that it is known how much there is to note.
        capacity = wanted
    if lowered.memory.world["overrun"][0]:
        done = int((lowered.memory.requests["done_ps"] >= 0).sum())
        raise Overload(
            f"overload: after 100 simulated days {done:,} of {len(requests):,} requests are served; "
            "lower the rate or the number of requests, or add clients"
        )
    return Result(deployment, lowered)
