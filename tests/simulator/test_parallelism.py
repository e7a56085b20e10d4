"""Pipeline, attention-data and expert parallelism: counts and times by hand, and what must hold between degrees."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulator import Pool, SpecError, catalog
from simulator.performance.coefficients import BY_HAND, Coefficients
from simulator.performance.engine import Engine, engine_of
from simulator.performance.experts import popularity
from simulator.performance.feed_forward import exchange, mixture_operators
from simulator.performance.layers import layers, output_head, stage_layers
from simulator.performance.memory import kv_blocks
from simulator.performance.operators import total_work
from simulator.performance.pipeline import even_layers
from simulator.performance.price import pool_usd_per_hour
from simulator.performance.roofline import Floats, Work
from simulator.performance.step_cost import step_cost


def pool_of(model: str, accelerator: str = "h100-sxm", **changes: Any) -> Pool:
    return Pool.parse({"model": model, "accelerator": accelerator} | changes)


DATASHEET = {
    "levels": [
        {"name": "scale-up", "devices": 8, "gb_per_s": 450.0, "latency_us": 2.0},
        {"name": "rack", "devices": 32, "gb_per_s": 50.0, "latency_us": 10.0},
    ]
}
"""Links of DGX H100 without a measured profile: start-up and bandwidth alone, for arithmetic by hand."""


def mixture_feed_forward(e: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of one block of experts."""
    return total_work(mixture_operators(e, c, tokens, 1.0), tokens)


def engine(model: str, accelerator: str = "h100-sxm", **changes: Any) -> Engine:
    return engine_of(pool_of(model, accelerator, **changes))


# ----------------------------------------------------------------------------------------------------------------------
# Pipeline


@pytest.mark.parametrize(
    ("count", "pp", "expected"),
    [(32, 4, (8, 8, 8, 8)), (61, 4, (15, 15, 16, 15)), (126, 4, (31, 32, 32, 31)), (5, 1, (5,)), (7, 4, (2, 2, 2, 1))],
)
def test_even_layers(count: int, pp: int, expected: tuple[int, ...]) -> None:
    assert even_layers(count, pp) == expected
    assert sum(expected) == count


def round_s(stage_s: list[float], send_s: float, micro_batches: int) -> float:
    """Return the time between two steps of the same micro-batch on a ring of stages, found by going round it.

    Each stage works on one micro-batch at a time, in order; the last one's output enters the first without delay.
    """
    free = [0.0] * len(stage_s)
    ready = [0.0] * micro_batches
    ends = []
    for _ in range(200):
        for batch in range(micro_batches):
            for place, seconds in enumerate(stage_s):
                free[place] = max(free[place], ready[batch]) + seconds
                ready[batch] = free[place] + (send_s if place < len(stage_s) - 1 else 0.0)
        ends.append(ready[0])
    return (ends[-1] - ends[99]) / 100


@pytest.mark.parametrize("split", [[8, 8, 8, 8], [9, 9, 8, 6], [2, 10, 10, 10], [1, 1, 1, 29]])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 64, 1001])
def test_a_step_is_a_round_of_the_pipeline(split: list[int], tokens: int) -> None:
    """Stages by hand as shares of the layers, a send over NVLink of 2 µs and 450 GB/s."""
    c = replace(BY_HAND, engine=replace(BY_HAND.engine, link_peak=1.0))
    micro_batches = min(4, tokens)
    each = math.ceil(tokens / micro_batches)
    whole = float(layers(engine("llama-3.1-8b"), c, np.array([float(each)])).seconds[0])
    expected = round_s([whole * count / 32 for count in split], 2e-6 + each * 4096 * 2 / 450e9, micro_batches)
    got = layers(engine("llama-3.1-8b", pp=4, layers_per_stage=split, topology=DATASHEET), c, np.array([float(tokens)]))
    assert got.seconds[0] == pytest.approx(expected, rel=1e-9)


def test_a_step_is_four_stage_times() -> None:
    """4 equal stages, 64 tokens in 4 micro-batches of 16: 4 times a stage's quarter of the layers, 3 sends between."""
    c = replace(BY_HAND, engine=replace(BY_HAND.engine, link_peak=1.0))
    whole = layers(engine("llama-3.1-8b"), c, np.array([16.0])).seconds[0]
    got = layers(engine("llama-3.1-8b", pp=4, topology=DATASHEET), c, np.array([64.0])).seconds[0]
    assert got == pytest.approx(whole + 3 * (2e-6 + 16 * 4096 * 2 / 450e9))


def test_fewer_tokens_than_stages() -> None:
    """One token passes 4 stages alone; up to three more pass behind it in the same time."""
    one = layers(engine("llama-3.1-8b"), BY_HAND, np.array([1.0])).seconds[0]
    sends = 3 * (2e-6 + 4096 * 2 / (450e9 * BY_HAND.link_peak))
    got = layers(engine("llama-3.1-8b", pp=4, topology=DATASHEET), BY_HAND, np.array([1.0, 2, 3, 4])).seconds
    np.testing.assert_allclose(got, one + sends)


def test_the_slowest_stage_decides() -> None:
    uneven = engine("llama-3.1-8b", pp=2, layers_per_stage=[8, 24])
    half = stage_layers(engine("llama-3.1-8b"), BY_HAND, np.array([50.0]), engine("llama-3.1-8b").stages[0])
    got = layers(uneven, BY_HAND, np.array([100.0]))
    assert got.seconds[0] == pytest.approx(2 * 24 / 32 * half.seconds[0])  # its sends are hidden
    # Means over accelerators do not depend on the split: 2 micro-batches of 50 tokens over 2 stages.
    assert got.compute_s[0] == pytest.approx(half.compute_s[0])
    assert got.memory_s[0] == pytest.approx(half.memory_s[0])


@pytest.mark.parametrize("split", [[8, 8, 8, 8], [2, 10, 10, 10]])
def test_no_stage_is_busy_longer_than_the_step(split: list[int]) -> None:
    """More tokens take longer, and the stages' mean work never exceeds the step."""
    tokens = np.arange(1.0, 200)
    work = layers(engine("llama-3.1-8b", pp=4, layers_per_stage=split), BY_HAND, tokens)
    assert (np.diff(work.seconds) >= 0).all()
    assert (np.maximum(work.compute_s, work.memory_s) < work.seconds).all()


def test_leading_dense_layers_are_on_the_first_stage() -> None:
    """DeepSeek-V3: 3 dense layers lead 58 of experts."""
    first, *others = engine("deepseek-v3", "h200-sxm", tp=8, pp=4).stages
    assert (first.layers, first.dense, first.mixture) == (15, 3, 12)
    assert [(s.dense, s.mixture) for s in others] == [(0, 15), (0, 16), (0, 15)]


def test_attention_in_a_pipeline() -> None:
    """2 stages: each has half of the layers and works twice on half of the batch; resources are means."""
    one = step_cost(engine("llama-3.1-8b"), np.ones(1), np.ones(1))
    two = step_cost(engine("llama-3.1-8b", pp=2), np.ones(1), np.ones(1))
    for field in ("decode_s", "prefill_pair_s", "prefill_read_s"):
        assert getattr(two, field) == pytest.approx(getattr(one, field) / 2)
    assert two.decode_memory_s == pytest.approx(one.decode_memory_s / 2)
    uneven = step_cost(engine("llama-3.1-8b", pp=2, layers_per_stage=[8, 24]), np.ones(1), np.ones(1))
    assert uneven.decode_s == pytest.approx(one.decode_s * 24 / 32)
    assert uneven.decode_memory_s == two.decode_memory_s


def test_the_output_head_works_once_a_micro_batch() -> None:
    one = output_head(engine("llama-3.1-8b"), BY_HAND, np.array([25.0]))
    four = output_head(engine("llama-3.1-8b", pp=4), BY_HAND, np.array([100.0]))
    assert four.seconds[0] == pytest.approx(4 * one.seconds[0])
    assert four.compute_s[0] == pytest.approx(one.compute_s[0])  # 4 micro-batches on one of 4 stages
    assert output_head(engine("llama-3.1-8b", pp=4), BY_HAND, np.zeros(1)).seconds[0] > 0


def test_weights_of_stages() -> None:
    """Llama-3.1-8B in two halves: the embedding on the first, the head on the last; a tied one is copied."""
    layer = 4096 * 4096 * 2 + 4096 * 1024 * 2 + 3 * 4096 * 14336 + 2 * 4096
    table = 128256 * 4096
    e = engine("llama-3.1-8b", pp=2)
    first, last = (e.stage_weight_bytes(stage) for stage in e.stages)
    assert first == 2 * (16 * layer + table)
    assert last == 2 * (16 * layer + table + 4096)
    tied = engine("llama-3.2-1b", pp=2)
    assert sum(map(tied.stage_weight_bytes, tied.stages)) == 2 * (tied.model.parameters + 128256 * 2048)


def test_blocks_of_a_pipeline() -> None:
    """Half of the layers on each: about twice the blocks where weights are small; the fullest stage decides."""
    even, uneven = (kv_blocks(pool_of("llama-3.2-1b", pp=2, layers_per_stage=split)) for split in ([8, 8], [4, 12]))
    alone = kv_blocks(pool_of("llama-3.2-1b"))
    assert even / alone == pytest.approx(2, rel=0.03)
    assert uneven / alone == pytest.approx(16 / 12, rel=0.03)


# ----------------------------------------------------------------------------------------------------------------------
# Attention data parallelism


def test_ranks_share_a_batch() -> None:
    """Each of 4 ranks does all of a dense model's work on a quarter of the tokens, and has its own KV."""
    one, four = engine("llama-3.1-8b"), engine("llama-3.1-8b", dp=4)
    tokens = np.array([100.0])
    assert layers(four, BY_HAND, 4 * tokens).seconds[0] == layers(one, BY_HAND, tokens).seconds[0]
    assert layers(four, BY_HAND, 4 * tokens - 3).seconds[0] == layers(one, BY_HAND, tokens).seconds[0]
    assert step_cost(four, tokens, tokens).decode_s == step_cost(one, tokens, tokens).decode_s / 4
    small = {"token_budget_tokens": 512}
    whole, split = (
        kv_blocks(pool_of("llama-3.1-8b", dp=dp, batching=small | {"token_budget_tokens": 512 * dp})) for dp in (1, 4)
    )
    assert split == 4 * whole


def test_accelerators_price_and_weights_follow() -> None:
    pool = pool_of("llama-3.1-8b", clients=3, tp=2, pp=4, dp=2)
    assert pool.accelerators == 48
    assert engine_of(pool).accelerators == 16
    assert pool_usd_per_hour(pool) == pytest.approx(48 * catalog.accelerator("h100-sxm").price_usd_per_hour)


def test_experts_are_split_over_data_ranks() -> None:
    """DeepSeek-V3 at dp 8: attention whole on every rank, an eighth of the experts; the same at any ep."""
    attention = 61 * 187_105_280  # 7168·1536 + 1536·128·192 + 7168·576 + 512·128·256 + 128·128·7168, by hand
    shared = 58 * (3 * 7168 * 2048 + 7168 * 256) + 3 * (3 * 7168 * 18432) + (2 * 61 + 1) * 7168
    experts = 58 * 256 * 3 * 7168 * 2048
    tables = 2 * 129280 * 7168 * 2
    for ep in (None, 8, 4):
        e = engine("deepseek-v3", "h200-sxm", dp=8, ep=ep, weights="fp8")
        assert e.weight_bytes == pytest.approx(attention + shared + experts / 8 + tables)


# ----------------------------------------------------------------------------------------------------------------------
# Expert parallelism


@pytest.mark.parametrize("tokens", [1, 4, 32, 300])
def test_distinct_experts_of_a_rank_as_by_drawing_them(tokens: int) -> None:
    """128 experts on 8 ranks, 8 visited by a token: the mean number of one rank's experts that are hit."""
    rng = np.random.default_rng(3)
    trials = 1000
    on_rank = np.zeros(trials)
    for trial in range(trials):  # experts lie anywhere, and a token picks every one as often as it is popular
        upto = np.append(0.0, rng.permutation(popularity(128, 8, tokens)).cumsum().round(9))
        picks = np.diff(np.floor(upto + rng.random((tokens, 1))), axis=1) > 0
        on_rank[trial] = picks[:, :16].any(axis=0).sum()

    e = engine("qwen3-30b-a3b", dp=8, ep=8)
    bare = replace(BY_HAND, engine=replace(BY_HAND.engine, expert_imbalance=1.0))
    memory_s = float(mixture_feed_forward(e, bare, np.array([float(tokens)])).memory_s[0])
    moved = memory_s * 3.35e12 * BY_HAND.kernels.memory_share
    own = math.ceil(tokens / 8)
    router = 2 * (2048 * 128 + own * (2048 + 128))
    activations = tokens * 8 / 8 * 2 * 2048 * 2
    distinct = (moved - router - activations) / (3 * 2048 * 768 * 2)
    assert distinct == pytest.approx(on_rank.mean(), abs=4 * on_rank.std() / math.sqrt(trials) + 0.05)


def test_the_busiest_rank_computes() -> None:
    """1000 tokens visit 8 of 128 experts: an eighth of the visits on each of 8 ranks, 20 % more on the busiest."""
    work = mixture_feed_forward(engine("qwen3-30b-a3b", dp=8, ep=8), BY_HAND, np.array([1000.0]))
    visits = 1000 * 8 / 8 * BY_HAND.engine.expert_imbalance
    operations = 2 * visits * 3 * 2048 * 768 + 2 * 125 * 2048 * 128
    assert float(work.compute_s[0]) == pytest.approx(
        operations / (989.4e12 * BY_HAND.kernels.product("bf16").compute_share)
    )


def test_dispatch_as_by_drawing() -> None:
    """A token's 8 experts lie on ``8 (1 − (7/8)^8)`` of 8 ranks; each way 7/8 of the copies leave."""
    rng = np.random.default_rng(1)
    picks = rng.integers(0, 8, (20_000, 8))
    copies = np.mean([len(set(row)) for row in picks.tolist()])
    c = replace(BY_HAND, engine=replace(BY_HAND.engine, link_peak=1.0, expert_imbalance=1.0))
    seconds = float(exchange(engine("qwen3-30b-a3b", dp=8, ep=8, topology=DATASHEET), c, np.array([8000.0])).seconds[0])
    one_way = 7 / 8 * 1000 * copies * 2048 * 2 / 450e9 + 2e-6 * (1 + 3)
    assert seconds == pytest.approx(2 * one_way, rel=0.01)


def test_split_experts_gather_all_tokens() -> None:
    """Without expert parallelism 4 ranks gather all tokens and scatter the sums."""
    c = replace(BY_HAND, engine=replace(BY_HAND.engine, link_peak=1.0))
    seconds = float(exchange(engine("qwen3-30b-a3b", dp=4, topology=DATASHEET), c, np.array([800.0])).seconds[0])
    assert seconds == pytest.approx(2 * (3 / 4 * 800 * 2048 * 2 / 450e9 + 2e-6 * 3))


def test_experts_shared_by_several_accelerators() -> None:
    """Ep 4 on 8: each expert on a pair, which gathers what arrives for it; experts' operations are the same."""
    c = replace(BY_HAND, engine=replace(BY_HAND.engine, expert_imbalance=1.0))
    tokens = np.array([4096.0])
    eight, pairs = (mixture_feed_forward(engine("qwen3-30b-a3b", dp=8, ep=ep), c, tokens) for ep in (8, 4))
    assert pairs.compute_s[0] == pytest.approx(eight.compute_s[0])
    e = engine("qwen3-30b-a3b", dp=8, ep=4)
    assert [group.devices for group in (e.expert_group, e.expert_split_group)] == [4, 2]


def test_expert_parallelism_over_servers_is_slower() -> None:
    tokens = np.array([256.0])
    inside = engine("deepseek-v3", "h200-sxm", dp=8, ep=8, weights="fp8")
    outside = engine("deepseek-v3", "h200-sxm", dp=32, ep=32, weights="fp8")
    assert exchange(outside, BY_HAND, 4 * tokens).seconds[0] > exchange(inside, BY_HAND, tokens).seconds[0]
    # But each rank holds and reads a quarter as many experts.
    near, far = (mixture_feed_forward(e, BY_HAND, tokens) for e in (inside, outside))
    assert far.memory_s < near.memory_s


@pytest.mark.parametrize(
    ("model", "changes", "problem"),
    [
        ("llama-3.1-8b", {"pp": 33}, "pp: 33 exceeds the 32 layers of llama-3.1-8b; allowed: 1 to 32"),
        ("llama-3.1-8b", {"pp": 2, "layers_per_stage": [8, 8]}, "8, 8 sum to 16, llama-3.1-8b has 32.*a sum of 32"),
        ("llama-3.1-8b", {"pp": 3, "layers_per_stage": [16, 16]}, "2 stages given .* for pp 3; allowed: 3 numbers"),
        ("llama-3.1-8b", {"ep": 2, "tp": 2}, "ep: 2 given for llama-3.1-8b, which has no experts; allowed: absent"),
        ("mixtral-8x7b", {"ep": 3, "tp": 4}, "ep: 3 does not deal the 8 experts .*allowed: 1, 2, 4"),
        ("mixtral-8x7b", {"ep": 16, "dp": 16}, "ep: 16 .*allowed: 1, 2, 4, 8"),
        ("qwen3-30b-a3b", {"dp": 5}, "dp: 5 x tp 1 do not divide the 768"),
    ],
)
def test_impossible_degrees_are_refused(model: str, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        engine(model, **changes)


def test_tensor_parallelism_beyond_a_server_pays_for_the_network() -> None:
    """16 H100: rings through both servers, over eight adapters between them."""
    c = replace(BY_HAND, engine=replace(BY_HAND.engine, link_peak=1.0))
    work = layers(engine("llama-3.1-70b", tp=16, topology=DATASHEET), c, np.array([100.0]))
    message = 100 * 8192 * 2
    one = 2 * 15 / 16 * message / (8 * 50e9) + 2 * 4 * 2e-6 + 2 * 10e-6
    assert float(work.link_s[0]) == pytest.approx(80 * 2 * one)


def test_a_pool_may_have_links_of_its_own() -> None:
    """Pairs with NVLink in a node with PCIe: rings of 4, over two links between the pairs."""
    levels = [
        {"name": "pair", "devices": 2, "gb_per_s": 300.0, "latency_us": 2.0},
        {"name": "node", "devices": 8, "gb_per_s": 31.5, "latency_us": 4.0},
    ]
    c = replace(BY_HAND, engine=replace(BY_HAND.engine, link_peak=1.0))
    work = layers(engine("llama-3.1-8b", tp=4, topology={"levels": levels}), c, np.array([100.0]))
    message = 100 * 4096 * 2
    one = 2 * 3 / 4 * message / (2 * 31.5e9) + 2 * 2 * 2e-6 + 2 * 4e-6
    assert float(work.link_s[0]) == pytest.approx(32 * 2 * one)
    with pytest.raises(SpecError, match=r"tp: 16 .* exceed the 8 linked h100-sxm"):
        engine("llama-3.1-8b", tp=16, topology={"levels": levels})
