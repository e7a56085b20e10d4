"""Bytes of KV that leave a client, by hand, and against what its accelerators hold."""

from __future__ import annotations

from typing import Any

import pytest

from simulator import Pool
from simulator.performance.engine import Engine, engine_of
from simulator.performance.kv_transfer import hand_over_bytes, kv_bytes_per_token_of_client
from simulator.performance.memory import context_bytes_per_token, state_bytes, window_bytes_per_token


def engine(model: str, **changes: Any) -> Engine:
    return engine_of(Pool.parse({"model": model, "accelerator": "h200-sxm"} | changes))


@pytest.mark.parametrize(
    "changes", [{}, {"tp": 4}, {"tp": 16}, {"pp": 4}, {"dp": 4}, {"tp": 16, "pp": 3, "dp": 2}], ids=str
)
def test_a_token_of_llama(changes: dict[str, int]) -> None:
    """2 · 32 layers · 8 heads · 128 · 2 bytes, however the client is built; 16 ranks hold and send every head twice."""
    for kv, expected in (("bf16", 131_072), ("fp8", 65_536)):
        e = engine("llama-3.1-8b", kv=kv, **changes)
        assert hand_over_bytes(e) == (expected * (2 if e.tp == 16 else 1), 0)
        assert kv_bytes_per_token_of_client(e) == expected


def test_a_latent_is_sent_by_every_rank() -> None:
    """DeepSeek-V3: 61 · (512 + 64) · 2 bytes, which each of 8 accelerators holds and its counterpart needs."""
    e = engine("deepseek-v3", tp=8, weights="fp8")
    assert hand_over_bytes(e) == (8 * 70_272, 0)
    assert kv_bytes_per_token_of_client(e) == 70_272
    assert e.kv_bytes_per_token == 70_272


@pytest.mark.parametrize("changes", [{}, {"tp": 2}, {"tp": 4}, {"pp": 2}], ids=str)
@pytest.mark.parametrize(
    ("model", "growing", "constant"),
    [
        # growing layers, windowed layers · window, 2 · heads · width · 2 bytes
        ("gemma-2-9b", 21 * 2 * 8 * 256 * 2, 21 * 4096 * 2 * 8 * 256 * 2),
        ("mistral-7b-v0.1", 0, 32 * 4096 * 2 * 8 * 128 * 2),
        # states of 24 layers: inner · state · 2 bytes, 3 inputs of inner + 2 · groups · state channels at 2 bytes
        ("nemotron-h-8b", 4 * 2 * 8 * 128 * 2, 24 * (8192 * 128 * 2 + (8192 + 2 * 8 * 128) * 3 * 2)),
        ("mamba2-2.7b", 0, 64 * (5120 * 128 * 2 + (5120 + 2 * 128) * 3 * 2)),
        ("jamba-1.5-mini", 4 * 2 * 8 * 128 * 2, 28 * (8192 * 16 * 2 + 8192 * 3 * 2)),
    ],
)
def test_windows_and_states_do_not_grow(model: str, growing: int, constant: int, changes: dict[str, int]) -> None:
    e = engine(model, **changes)
    assert hand_over_bytes(e) == (growing, constant)
    assert kv_bytes_per_token_of_client(e) == (growing or constant / 2**20)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gemma-2-9b", "jamba-1.5-mini", "mistral-7b-v0.1"])
@pytest.mark.parametrize("changes", [{}, {"tp": 2}, {"tp": 8}, {"pp": 3}, {"tp": 2, "pp": 2, "dp": 2}], ids=str)
def test_as_much_as_the_accelerators_of_a_rank_hold(model: str, changes: dict[str, int]) -> None:
    """Where nothing is replicated the parts of all stages and tensor ranks add up to what is sent."""
    e = engine(model, **changes)
    growing, constant = hand_over_bytes(e)
    window = e.model.window.window_tokens if e.model.window else 0
    held = e.tp * sum(context_bytes_per_token(e, stage) for stage in e.stages)
    besides = e.tp * sum(window * window_bytes_per_token(e, stage) + state_bytes(e, stage) for stage in e.stages)
    assert kv_bytes_per_token_of_client(e) == pytest.approx(held)
    assert constant == pytest.approx(besides)
    if e.model.growing_layers:
        assert growing == pytest.approx(held)


def test_a_draft_holds_kv_that_is_not_handed_over() -> None:
    """Llama-3.2-1B: 2 · 16 layers · 8 heads · 64 · 2 bytes."""
    speculation = {"draft_model": "llama-3.2-1b", "draft_tokens": 4, "acceptance": 0.7}
    for changes in ({}, {"tp": 2}, {"pp": 2}):
        e = engine("llama-3.1-8b", speculation=speculation, **changes)
        assert hand_over_bytes(e) == (131_072, 0)
        assert kv_bytes_per_token_of_client(e) == 131_072 + 32_768
