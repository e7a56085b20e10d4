"""Low-rank adapters: parameters against the published counts, times by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulator import Deployment, Pool, SpecError, Workload, catalog, simulate
from simulator.performance.adapters import adapter_bytes, adapter_products
from simulator.performance.coefficients import BY_HAND
from simulator.performance.engine import Engine, engine_of
from simulator.performance.memory import kv_blocks
from simulator.performance.step_cost import step_cost


def pool_of(model: str = "llama-3.1-8b", rank: int = 16, slots: int = 8, **changes: Any) -> Pool:
    adapters = {"adapters": {"rank": rank, "slots": slots}}
    return Pool.parse({"model": model, "accelerator": "h100-sxm"} | adapters | changes)


def size_of(engine: Engine) -> float:
    return sum(adapter_bytes(engine, stage) for stage in engine.stages)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("llama-2-7b", 39_976_960),  # what PEFT prints for rank 16 on all linear layers
        ("llama-3.1-8b", 41_943_040),
    ],
)
def test_published_sizes(model: str, parameters: int) -> None:
    assert size_of(engine_of(pool_of(model))) == 2 * parameters
    assert size_of(engine_of(pool_of(model, rank=64))) == 8 * parameters
    assert size_of(engine_of(pool_of(model, tp=4))) == parameters / 2
    assert size_of(engine_of(pool_of(model, pp=2))) == 2 * parameters


def test_operations_of_a_token() -> None:
    """``2 r (input + output)`` a matrix: twice the adapter's elements."""
    e = engine_of(pool_of())
    work = adapter_products(e, BY_HAND, np.array([1000.0]), e.stages[0])
    assert work.compute_s[0] == pytest.approx(
        2 * 1000 * 41_943_040 / (989.4e12 * BY_HAND.kernels.product("bf16").compute_share)
    )


def test_steps_with_adapters() -> None:
    e = engine_of(pool_of(rank=64))
    plain = replace(e, adapters=None)
    at = np.array([1.0, 64, 4096])
    cost, without = step_cost(e, at, at), step_cost(plain, at, at)
    assert (cost.linear.seconds > without.linear.seconds).all()
    assert (cost.linear.seconds < 1.35 * without.linear.seconds).all()
    bytes_ = 4 * 2 * 41_943_040
    share = catalog.kernel_profile("h100-sxm").memory_share
    assert cost.adapter_s == pytest.approx(bytes_ / (3.35e12 * share))
    assert cost.adapter_load_s == pytest.approx(bytes_ / 25e9)
    assert without.adapter_s == without.adapter_load_s == 0


@pytest.mark.parametrize("degrees", [{}, {"tp": 4}, {"pp": 2}])
def test_an_adapter_comes_from_the_memory_that_holds_it(degrees: dict[str, int]) -> None:
    """A whole adapter of 83.9 MB over the link of a catalogued memory; from the host each accelerator's part."""
    at = np.array([1.0])

    def load_s(**adapters: Any) -> float:
        pool = Pool.parse(
            {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "adapters": {"rank": 16, **adapters}, **degrees}
        )
        return step_cost(engine_of(pool), at, at).adapter_load_s

    bytes_ = 2 * 41_943_040
    assert load_s() == pytest.approx(bytes_ / (25e9 * max(degrees.values(), default=1)))
    assert load_s(memory="local-nvme") == pytest.approx(150e-6 + bytes_ / 26e9)
    assert load_s(memory="rack-store", gb_per_s=8) == pytest.approx(200e-6 + bytes_ / 8e9)
    assert load_s(gb_per_s=10, latency_us=5) == pytest.approx(5e-6 + bytes_ / 10e9)
    assert load_s(latency_us=1000) == pytest.approx(1e-3 + load_s())
    with pytest.raises(SpecError, match="local-nvme"):
        load_s(memory="local-nmve")


def test_a_far_memory_costs_time_only_where_adapters_do_not_stay() -> None:
    """Four adapters in four slots are loaded once each; in one slot nearly every request loads its own."""
    lengths = {name: {"distribution": "constant", "tokens": 64} for name in ("prompt", "output")}
    arrivals = {"process": "poisson", "rate_rps": 0.05}
    workload = Workload.parse(
        {"requests": 200, "seed": 1, "arrivals": arrivals, "lengths": lengths, "adapters": {"count": 4, "zipf": 0}}
    )

    def busy_s(slots: int, memory: str) -> float:
        pool = {"model": "llama-3.1-8b", "accelerator": "h100-sxm"}
        deployment = Deployment.parse({"pools": [pool | {"adapters": {"rank": 64, "slots": slots, "memory": memory}}]})
        return float(simulate(deployment, workload).lowered.memory.clients["busy_ps"].sum()) / 1e12

    near, far = busy_s(4, "host-dram"), busy_s(4, "rack-store")
    load_s = 4 * 2 * 41_943_040 * (1 / 2e9 - 1 / 50e9) + 180e-6
    assert far - near == pytest.approx(4 * load_s, rel=0.05)
    assert busy_s(1, "rack-store") - busy_s(1, "host-dram") > 100 * load_s


def test_slots_take_memory() -> None:
    few, many = kv_blocks(pool_of(slots=1)), kv_blocks(pool_of(slots=101))
    assert few - many == pytest.approx(100 * 2 * 41_943_040 / (131_072 * 16), abs=1)


def test_only_shared_experts_are_adapted() -> None:
    """DeepSeek-V2-Lite, rank 1: attention of 27 layers, one dense block, 2 shared experts in 26 layers."""
    attention = (2048 + 16 * 192) + (2048 + 576) + (512 + 16 * 256) + (16 * 128 + 2048)
    dense, shared = 3 * (2048 + 10944), 3 * (2048 + 2 * 1408)
    assert size_of(engine_of(pool_of("deepseek-v2-lite", rank=1))) == 2 * (27 * attention + dense + 26 * shared)
