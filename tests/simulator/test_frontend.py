"""A request's way to the engine and back: in its latency, and before those that follow it, but in nobody else's way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator import Deployment, Result, Workload, simulate
from simulator.workload import PS_PER_S
from tests.simulator.engines import PLAIN

LOAD: dict[str, Any] = {
    "requests": 300,
    "arrivals": {"process": "gamma", "rate_rps": 8, "burstiness_cv": 2},
    "lengths": {"statistics": "azure-2023-conversation"},
}
POOL: dict[str, Any] = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "engine": PLAIN}
SLOW = {**PLAIN, "request_us": 50_000.0}
TIMES = ("arrival_ps", "scheduled_ps", "first_token_ps", "finish_ps", "done_ps")


def run(pools: list[dict[str, Any]], services: list[dict[str, Any]] | None = None, **load: Any) -> Result:
    deployment = Deployment.parse({"pools": pools, "services": services or []})
    return simulate(deployment, Workload.parse(LOAD | load))


def test_it_is_added_to_latencies_and_delays_nobody() -> None:
    near, far = run([POOL]), run([POOL | {"engine": SLOW}])
    for field in TIMES:
        assert np.array_equal(near.lowered.memory.requests[field], far.lowered.memory.requests[field])
    for metric in ("ttft_s", "e2e_s", "session_s"):
        np.testing.assert_allclose(getattr(far, metric), getattr(near, metric) + 0.05, rtol=1e-12)
    assert np.array_equal(far.tpot_s, near.tpot_s)
    assert (far.span_s, far.energy_j) == (near.span_s, near.energy_j)
    assert not near.requests()["frontend_s"].any()


def test_it_takes_as_long_as_the_host_is_slow() -> None:
    engine = SLOW | {"host_slowdown": {"h100-sxm": 0.8}}
    assert run([POOL | {"engine": engine}]).frontend_s == pytest.approx(0.04)


def test_latency_is_the_way_and_the_stages_and_the_hops() -> None:
    pipeline = ["prefill", "decode", {"kind": "detokenise", "us_per_request": 1000}]
    services = [{"stage": "detokenise", "device": "xeon-gold-6448y"}]
    table = run([POOL | {"engine": SLOW}], services, pipeline=pipeline).requests()
    stages = table[[column for column in table if str(column).endswith(("_queue_s", "_service_s"))]].sum(axis=1)
    hop_s = 10e-6
    np.testing.assert_allclose(table["e2e_s"], table["frontend_s"] + stages + hop_s, rtol=1e-9)


@pytest.mark.parametrize(("first", "second"), [(SLOW, PLAIN), (PLAIN, SLOW), (SLOW, SLOW)])
def test_who_follows_waits_for_the_way_of_the_call_before(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Of a cascade's two engines each has its own way; together they are what the session takes."""
    names = [engine | {"name": name} for engine, name in ((first, "a"), (second, "b"))]
    pools = [
        POOL | {"name": stage, "stage": stage, "engine": engine}
        for stage, engine in zip(("small", "large"), names, strict=True)
    ]
    result = run(pools, pipeline=[{"kind": "cascade", "stages": ["small", "large"], "fallback": [0.4]}])
    table, rows = result.requests(), result.lowered.memory.requests
    large = np.flatnonzero(rows["llm_stage"] == result.lowered.plan.stages.index("large"))
    assert len(large) > 80
    reply_ps = round(first.get("request_us", 0.0) * 1e6)
    assert np.array_equal(rows["arrival_ps"][large], rows["done_ps"][large - 1] + max(reply_ps, 1))
    ways = (first.get("request_us", 0.0) + second.get("request_us", 0.0)) * 1e-6
    there_ps = rows["done_ps"] - rows["arrival_ps"]
    refused = table["session"].to_numpy()[large]
    expected = (there_ps[large] + there_ps[large - 1]) / PS_PER_S + ways
    np.testing.assert_allclose(result.session_s[refused], expected, atol=2e-12, rtol=0)


def test_joining_branches_is_no_call() -> None:
    """Eight branches side by side, joined by nothing: the way back counts twice, of the prompt's reading and theirs."""
    result = run([POOL | {"engine": SLOW}], pipeline=[{"kind": "reason", "branches": 8, "factor": 1}])
    rows = result.lowered.memory.requests.reshape(-1, 10)
    arrival, done = rows["arrival_ps"], rows["done_ps"]
    way_ps = 50_000_000_000
    assert np.array_equal(arrival[:, 1], done[:, 0] + way_ps)
    assert np.array_equal(arrival[:, 9], done[:, 1:9].max(axis=1) + way_ps)
    assert (rows["llm_stage"][:, 9] == -1).all()
    np.testing.assert_allclose(result.session_s, (done[:, 9] - arrival[:, 0]) / PS_PER_S, rtol=1e-12)
    last = result.requests()["frontend_s"].to_numpy().reshape(-1, 10)
    assert last[:, :9] == pytest.approx(0.05)
    assert np.isnan(last[:, 9]).all()
