"""Sliding windows and recurrent layers: bytes and operations by hand, and how they stand to plain attention."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import pytest

from simulator import Pool, catalog
from simulator.performance.coefficients import BY_HAND
from simulator.performance.engine import Engine, engine_of
from simulator.performance.memory import kv_blocks, state_blocks, window_share
from simulator.performance.state_space import projections, scan_flops_per_token, state_bytes_per_layer
from simulator.performance.step_cost import step_cost

BANDWIDTH = 3.35e12 * BY_HAND.kernels.memory_share


def pool_of(model: str, accelerator: str = "h100-sxm", **changes: Any) -> Pool:
    return Pool.parse({"model": model, "accelerator": accelerator} | changes)


DATASHEET = {
    "levels": [
        {"name": "scale-up", "devices": 8, "gb_per_s": 450.0, "latency_us": 2.0},
        {"name": "rack", "devices": 32, "gb_per_s": 50.0, "latency_us": 10.0},
    ]
}
"""Links of DGX H100 without a measured profile: start-up and bandwidth alone, for arithmetic by hand."""


def engine(model: str, accelerator: str = "h100-sxm", **changes: Any) -> Engine:
    return engine_of(pool_of(model, accelerator, **changes))


# ----------------------------------------------------------------------------------------------------------------------
# Windows


def test_a_window_of_every_other_layer_halves_what_grows() -> None:
    """Gemma-2-9B: 21 of 42 layers grow; 8 heads of 256, keys and values, 2 bytes."""
    layer = 2 * 8 * 256 * 2
    e = engine("gemma-2-9b")
    assert e.kv_bytes_per_token == 21 * layer
    cost = step_cost(e, np.ones(1), np.ones(1), BY_HAND)
    assert cost.decode_s == cost.window_s == pytest.approx(21 * layer / BANDWIDTH)
    assert cost.prefill_pair_s == cost.window_pair_s
    assert window_share(pool_of("gemma-2-9b")) == 1024
    assert state_blocks(pool_of("gemma-2-9b")) == 0


@pytest.mark.parametrize(("model", "windowed", "growing"), [("gemma-3-12b", 40, 8), ("gemma-3-27b", 52, 10)])
def test_window_share_is_a_ratio_of_layers(model: str, windowed: int, growing: int) -> None:
    for changes in ({}, {"tp": 4}, {"kv": "fp8"}, {"kv_memory": {"block_tokens": 64}}, {"pp": 2}):
        assert window_share(pool_of(model, "h200-sxm", **changes)) == ceil(1024 * windowed / growing)


def test_a_window_costs_together_what_full_attention_costs() -> None:
    """The same layers without a window: growing and windowed parts add up."""
    windowed = engine("gemma-3-12b")
    full = replace(windowed, model=windowed.model.model_copy(update={"window": None}))
    at = np.arange(1.0, 5.0)
    some, all_ = step_cost(windowed, at, at), step_cost(full, at, at)
    assert some.decode_s + some.window_s == pytest.approx(all_.decode_s)
    assert some.decode_memory_s + some.window_memory_s == pytest.approx(all_.decode_memory_s)
    assert some.prefill_pair_s + some.window_pair_s == pytest.approx(all_.prefill_pair_s)
    assert all_.window_s == all_.window_pair_s == 0
    np.testing.assert_array_equal(some.linear.seconds, all_.linear.seconds)


def test_where_every_layer_has_a_window() -> None:
    """Mistral v0.1: a long request holds 4096 tokens of KV and next to nothing for the rest."""
    pool = pool_of("mistral-7b-v0.1")
    blocks, share = kv_blocks(pool), window_share(pool)
    window_blocks = ceil(4096 * share / (1024 * 16))
    full = kv_blocks(pool_of("mistral-7b"))  # the same layers without a window, 131072 bytes a token
    sequences = full * 16 / 4096
    assert blocks / window_blocks == pytest.approx(sequences, rel=0.01)
    # A context of 32,768 tokens takes 3 % more.
    assert (window_blocks + 32768 / 16) / window_blocks == pytest.approx(1.03, abs=0.002)
    cost = step_cost(engine_of(pool), np.ones(1), np.ones(1), BY_HAND)
    assert cost.decode_s == cost.prefill_pair_s == cost.prefill_read_s == 0
    assert cost.window_s == pytest.approx(131_072 / BANDWIDTH)


# ----------------------------------------------------------------------------------------------------------------------
# States


@pytest.mark.parametrize(
    ("model", "tp", "expected"),
    [
        # inner · state · 2 bytes, and 3 inputs of inner + 2 · groups · state channels at 2 bytes
        ("nemotron-h-8b", 1, 8192 * 128 * 2 + (8192 + 2 * 8 * 128) * 3 * 2),
        ("nemotron-h-8b", 4, 2048 * 128 * 2 + (2048 + 2 * 2 * 128) * 3 * 2),
        ("granite-4.0-h-small", 2, 4096 * 128 * 2 + (4096 + 2 * 128) * 3 * 2),  # one group, on both
        ("mamba2-2.7b", 1, 5120 * 128 * 2 + (5120 + 2 * 128) * 3 * 2),
        ("jamba-1.5-mini", 1, 8192 * 16 * 2 + 8192 * 3 * 2),
    ],
)
def test_state_of_a_sequence(model: str, tp: int, expected: int) -> None:
    e = engine(model, "h200-sxm", tp=tp)
    assert state_bytes_per_layer(e) == expected
    pool = pool_of(model, "h200-sxm", tp=tp)
    kv_layers, heads = {"nemotron-h-8b": (4, 8), "granite-4.0-h-small": (4, 8), "jamba-1.5-mini": (4, 8)}.get(
        model, (0, 0)
    )
    if kv_layers:
        block = 16 * kv_layers * 2 * max(1, heads // tp) * 128 * 2
        assert state_blocks(pool) == ceil(e.model.state_space_layers * expected / block)


def test_without_growing_kv_the_state_counts() -> None:
    """Mamba-2: as many sequences as states fit, whatever their length."""
    pool = pool_of("mamba2-2.7b")
    state = 64 * (5120 * 128 * 2 + (5120 + 256) * 3 * 2)
    left = 0.9 * 81559 * 2**20 - 2 * 2.7024e9 - 1.5e9
    assert kv_blocks(pool) / state_blocks(pool) == pytest.approx(left / state, rel=0.01)
    assert state_blocks(pool) == 2**20 // 16


def test_a_step_reads_and_writes_states() -> None:
    e = engine("nemotron-h-8b")
    cost = step_cost(e, np.ones(1), np.array([0.0, 1, 100]), BY_HAND)
    plain = replace(e, model=e.model.model_copy(update={"ssm": e.model.ssm.model_copy(update={"state": 1})}))
    less = step_cost(plain, np.ones(1), np.array([0.0, 1, 100]), BY_HAND)
    more = 24 * 127 * (8192 * 2 + 2 * 8 * 3 * 2) * 2  # 127 more state elements, and inputs of B and C; there and back
    np.testing.assert_allclose(
        cost.sequences.seconds - less.sequences.seconds, np.array([0, 1, 100]) * more / BANDWIDTH
    )


def test_projections_read_the_parameters() -> None:
    """One token: all matrices once; little else in memory time."""
    e = engine("nemotron-h-8b")
    matrices = 4096 * (2 * 8192 + 2 * 8 * 128 + 128) + 8192 * 4096
    assert projections(e, BY_HAND, np.ones(1)).memory_s[0] == pytest.approx(2 * matrices / BANDWIDTH, rel=0.001)
    jamba = engine("jamba-1.5-mini", "h200-sxm")
    matrices = 4096 * 16384 + 8192 * (256 + 32) + 256 * 8192 + 8192 * 4096
    expected = 2 * matrices / (4.8e12 * BY_HAND.kernels.memory_share)
    assert projections(jamba, BY_HAND, np.ones(1)).memory_s[0] == pytest.approx(expected, rel=0.001)


def test_scan_operations_as_the_matrices_say() -> None:
    """Chunked scan of Mamba-2, matrix by matrix for a chunk of Q tokens: C B^T, its product with X, B X^T, C H."""
    ssm = catalog.model("nemotron-h-8b").ssm
    assert ssm is not None
    q, n, p, heads, groups = 128, 128, 64, 128, 8
    scores = groups * 2 * q * n * q
    within = heads * 2 * q * q * p
    states = heads * 2 * n * q * p
    outputs = heads * 2 * q * n * p
    assert scan_flops_per_token(ssm) * q == scores + within + states + outputs


def test_hybrids_decode_long_contexts_faster() -> None:
    """The reason for them: KV of 4 layers against 32 at much the same size."""
    at = np.ones(1)
    hybrid, plain = (step_cost(engine(name), at, at, BY_HAND) for name in ("nemotron-h-8b", "llama-3.1-8b"))
    assert hybrid.decode_s == pytest.approx(plain.decode_s / 8)
    assert hybrid.linear.seconds[0] == pytest.approx(plain.linear.seconds[0], rel=0.1)


def test_layers_with_one_half_reduce_once() -> None:
    """Nemotron-H: 52 halves of a layer, 52 all-reduces; granite: 40 whole layers, 80."""
    c = replace(BY_HAND, engine=replace(BY_HAND.engine, link_peak=1.0))
    for model, reduces in (("nemotron-h-8b", 52), ("granite-4.0-h-small", 80)):
        cost = step_cost(engine(model, tp=2, topology=DATASHEET), np.array([10.0]), np.ones(1), c)
        one = 2 * 2e-6 + 10 * 4096 * 2 / 450e9
        assert cost.linear.link_s[0] == pytest.approx(reduces * one)
