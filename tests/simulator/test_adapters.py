"""Low-rank adapters: parameters against the published counts, times by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulator import Pool, catalog
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


def test_slots_take_memory() -> None:
    few, many = kv_blocks(pool_of(slots=1)), kv_blocks(pool_of(slots=101))
    assert few - many == pytest.approx(100 * 2 * 41_943_040 / (131_072 * 16), abs=1)


def test_only_shared_experts_are_adapted() -> None:
    """DeepSeek-V2-Lite, rank 1: attention of 27 layers, one dense block, 2 shared experts in 26 layers."""
    attention = (2048 + 16 * 192) + (2048 + 576) + (512 + 16 * 256) + (16 * 128 + 2048)
    dense, shared = 3 * (2048 + 10944), 3 * (2048 + 2 * 1408)
    assert size_of(engine_of(pool_of("deepseek-v2-lite", rank=1))) == 2 * (27 * attention + dense + 26 * shared)
