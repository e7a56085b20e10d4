"""Speculative decoding: acceptance by drawing, the draft's cost against decoding with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator import Pool, SpecError
from simulator.performance.engine import check_pool, engine_of
from simulator.performance.explanation import engine_coefficients
from simulator.performance.memory import kv_blocks
from simulator.performance.speculation import acceptance_thresholds
from simulator.performance.step_cost import StepCost, step_cost
from simulator.spec.speculation import Speculation


def pool_of(draft: str | None = "llama-3.2-1b", tokens: int = 4, **changes: Any) -> Pool:
    speculation = {"draft_tokens": tokens, "acceptance": 0.7} | ({"draft_model": draft} if draft else {})
    return Pool.parse({"model": "llama-3.1-8b", "accelerator": "h100-sxm", "speculation": speculation} | changes)


def cost_of(pool: Pool, *at: float) -> StepCost:
    return step_cost(engine_of(pool), np.array(at or (1.0,)), np.array(at or (1.0,)))


@pytest.mark.parametrize("acceptance", [0.7, [0.9, 0.5, 0.5, 0.1], [1.0, 0.3, 0.0, 0.9], 0.0, 1.0])
def test_accepted_tokens_as_by_drawing_them_one_by_one(acceptance: float | list[float]) -> None:
    """Thresholds under one 32-bit draw against a coin for each token until the first that falls."""
    spec = Speculation.parse({"draft_tokens": 4, "acceptance": acceptance})
    thresholds = acceptance_thresholds(spec)
    assert list(thresholds) == sorted(thresholds)
    rng = np.random.default_rng(2)
    count = 200_000
    draws = rng.integers(0, 2**32, count)
    by_threshold = (np.array(thresholds)[:, None] <= draws).sum(axis=0)
    each = np.broadcast_to(np.atleast_1d(acceptance), (4,)) if np.ndim(acceptance) == 0 else np.array(acceptance)
    coins = rng.random((count, 4)) < each
    one_by_one = np.cumprod(coins, axis=1).sum(axis=1)
    shares = [np.bincount(accepted, minlength=5) / count for accepted in (by_threshold, one_by_one)]
    np.testing.assert_allclose(*shares, atol=0.006)


def test_expected_tokens_of_a_step() -> None:
    """``(1 − a^(k+1)) / (1 − a)`` tokens a step (arXiv:2211.17192, equation 1)."""
    spec = Speculation.parse({"draft_tokens": 5, "acceptance": 0.8})
    accepted = sum(1 - threshold / 2**32 for threshold in acceptance_thresholds(spec))
    assert 1 + accepted == pytest.approx((1 - 0.8**6) / (1 - 0.8))


@pytest.mark.parametrize("sequences", [1, 16, 64])
def test_drafting_is_decoding_with_the_draft(sequences: int) -> None:
    """Four steps of the draft model as an engine of its own, without that engine's overheads: within 3 %."""
    cost, plain = cost_of(pool_of()), cost_of(pool_of(None))
    own = cost_of(Pool.parse({"model": "llama-3.2-1b", "accelerator": "h100-sxm"}), float(sequences))
    overheads = engine_coefficients(engine_of(pool_of())).engine
    one = own.linear.seconds[0] + own.sequences.seconds[0] - overheads.step_s - sequences * overheads.sequence_s
    one += own.decode_step_s + sequences * own.decode_sequence_s
    drafting = cost.decode_step_s - plain.decode_step_s + sequences * (cost.decode_sequence_s - plain.decode_sequence_s)
    assert drafting == pytest.approx(4 * one, rel=0.03)
    assert cost.decode_s - plain.decode_s == pytest.approx(4 * own.decode_s)


def test_prompt_lookup_is_free() -> None:
    cost, plain = cost_of(pool_of(None)), cost_of(Pool.parse({"model": "llama-3.1-8b", "accelerator": "h100-sxm"}))
    assert cost.decode_step_s == plain.decode_step_s
    assert cost.decode_sequence_s == plain.decode_sequence_s
    assert cost.decode_s == plain.decode_s
    assert kv_blocks(pool_of(None)) == kv_blocks(Pool.parse({"model": "llama-3.1-8b", "accelerator": "h100-sxm"}))


def test_a_draft_takes_memory() -> None:
    """Its weights, and its KV beside the model's: 32,768 bytes a token to 131,072."""
    without, with_draft = kv_blocks(pool_of(None)), kv_blocks(pool_of())
    left = without * 131_072 * 16 - 2 * 1.2358e9
    assert with_draft == pytest.approx(left / ((131_072 + 32_768) * 16), rel=0.001)


@pytest.mark.parametrize(
    ("speculation", "problem"),
    [
        ({"draft_tokens": 3, "acceptance": [0.5, 0.5]}, "acceptance: 2 probabilities for draft_tokens 3"),
        ({"draft_tokens": 3, "acceptance": 1.5}, "acceptance"),
        ({"draft_tokens": 0, "acceptance": 0.5}, "draft_tokens"),
    ],
)
def test_impossible_speculation_is_refused(speculation: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        Speculation.parse(speculation)


@pytest.mark.parametrize("model", ["gemma-2-9b", "mistral-7b-v0.1"])
@pytest.mark.parametrize("draft", [None, "llama-3.2-1b"])
def test_windows_are_not_speculated_on(model: str, draft: str | None) -> None:
    pool = pool_of(draft, model=model)
    for check in (check_pool, engine_of, kv_blocks):
        with pytest.raises(SpecError, match=rf"speculation: not together .* layers of {model} .*allowed: absent"):
            check(pool)
    check_pool(pool.model_copy(update={"speculation": None}))


@pytest.mark.parametrize(
    ("draft", "tp", "problem"),
    [
        ("bge-large-en", 1, "draft_model: bge-large-en is an encoder"),
        ("qwen2-7b", 8, "draft_model: tp 8 does not divide qwen2-7b; allowed: 1, 2, 4"),
        ("llama-3.2-2b", 1, "did you mean llama-3.2"),
    ],
)
def test_impossible_drafts_are_refused(draft: str, tp: int, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        engine_of(pool_of(draft, tp=tp))
