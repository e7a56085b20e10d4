"""The cost model against arithmetic done by hand, Monte-Carlo, published formulas and, loosely, real measurements.

Where it can be, a step's time is read off a simulated request (TPOT, TTFT), so that cost model, lowering and kernel
are held to account together.
"""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import Deployment, Pool, Requests, catalog, simulate
from simulator.lowering import lower
from simulator.performance import memory as memory_of_engine
from simulator.performance.attention import decode_operator, prefill_operator
from simulator.performance.coefficients import BY_HAND, Coefficients, coefficients_of
from simulator.performance.collectives import all_reduce
from simulator.performance.engine import Engine, engine_of
from simulator.performance.experts import ALPHA, distinct_experts, popularity
from simulator.performance.feed_forward import mixture_operators
from simulator.performance.layers import layers
from simulator.performance.matrix_product import gemm
from simulator.performance.memory import DoesNotFit, kv_blocks
from simulator.performance.operators import total_work
from simulator.performance.power import energy_j
from simulator.performance.roofline import Floats, Work, kernel
from simulator.performance.step_cost import step_cost
from simulator.performance.topology import group_of, topology_of
from tests.oracle.engine import LINEAR_KNOTS
from tests.simulator.engines import REQUEST_S

PS = 1e-12
ALONE = {"max_batch_requests": 1, "token_budget_tokens": 1_000_000, "policy": "continuous"}


def pool_of(model: str, accelerator: str, tp: int = 1, **changes: Any) -> Pool:
    return Pool.parse({"model": model, "accelerator": accelerator, "tp": tp, "batching": ALONE} | changes)


def one_request(pool: Pool, prompt: int, output: int) -> tuple[float, float]:
    """Return TTFT and TPOT in seconds of a request alone on a pool with whole-prompt prefill."""
    requests = Requests(np.zeros(1), np.array([prompt]), np.array([output]))
    result = simulate(Deployment(pools=(pool,)), requests)
    return float(result.ttft_s[0]), float(result.tpot_s[0]) if output > 1 else math.nan


def engine(model: str, accelerator: str, tp: int = 1, weights: str = "bf16", kv: str = "bf16") -> Engine:
    return engine_of(pool_of(model, accelerator, tp, weights=weights, kv=kv))


def mixture_feed_forward(e: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of one block of experts."""
    return total_work(mixture_operators(e, c, tokens, 1.0), tokens)


def small(**changes: Any) -> dict[str, Any]:
    """Return batching of a modest step, whose working memory is small."""
    return {"max_batch_requests": 1, "token_budget_tokens": 8192, "policy": "continuous"} | changes


# ----------------------------------------------------------------------------------------------------------------------
# Steps of whole models

# Model, accelerator, accelerators, matrix elements read for a token (parameters less the embedding table, by hand
# from the config), bytes/s, peak operations/s (datasheets). Each figure is written here anew.
LLAMA_8B = 32 * (4096 * 4096 * 2 + 4096 * 1024 * 2 + 3 * 4096 * 14336) + 128256 * 4096
LLAMA_70B = 80 * (8192 * 8192 * 2 + 8192 * 1024 * 2 + 3 * 8192 * 28672) + 128256 * 8192
STEPS = [
    ("llama-3.1-70b", "h100-sxm", 4, LLAMA_70B, 3.35e12, 989.4e12),
    ("llama-3.1-8b", "h100-sxm", 1, LLAMA_8B, 3.35e12, 989.4e12),
    ("llama-3.1-8b", "a100-80gb", 1, LLAMA_8B, 2.039e12, 312e12),
    ("llama-3.1-70b", "h200-sxm", 2, LLAMA_70B, 4.8e12, 989.4e12),
]


def test_weights_by_hand() -> None:
    """The arithmetic above against the sizes that everybody knows: 8.03e9 and 70.55e9 with the embedding table."""
    assert pytest.approx(8.03e9, rel=0.001) == LLAMA_8B + 128256 * 4096
    assert pytest.approx(70.55e9, rel=0.001) == LLAMA_70B + 128256 * 8192


@pytest.mark.parametrize(("model", "chip", "tp", "elements", "bandwidth", "peak"), STEPS)
def test_a_lone_decode_reads_the_weights(
    model: str, chip: str, tp: int, elements: int, bandwidth: float, peak: float
) -> None:
    """Decoding one sequence is bound by reading every weight once: never faster, at most 2.5 times as slow."""
    del peak
    _, tpot = one_request(pool_of(model, chip, tp, batching=small()), 1, 3)
    floor = elements * 2 / tp / bandwidth
    assert floor < tpot < 2.5 * floor


@pytest.mark.parametrize(("model", "chip", "tp", "elements", "bandwidth", "peak"), STEPS)
def test_a_large_prefill_reaches_most_of_the_peak(
    model: str, chip: str, tp: int, elements: int, bandwidth: float, peak: float
) -> None:
    """8192 tokens at once are bound by arithmetic: half to four fifths of the datasheet's peak."""
    del bandwidth
    tokens = 8192
    layers_, heads, head = (80, 64, 128) if "70b" in model else (32, 32, 128)
    head_elements = 128256 * heads * head
    # The output head is computed for the last token only; causal attention sees half of all pairs.
    operations = 2 * (elements - head_elements) * tokens + layers_ * 4 * heads * head * tokens * (tokens + 1) / 2
    ttft, _ = one_request(pool_of(model, chip, tp, batching=small()), tokens, 1)
    assert 0.5 < operations / (tp * peak * ttft) < 0.8


def test_decode_attention_reads_the_context() -> None:
    """Each token of context adds its KV over the bandwidth: affine, and at 60 to 100 % of the peak bandwidth."""
    pool = pool_of("llama-3.1-8b", "h100-sxm", batching=small(token_budget_tokens=65536))
    contexts = np.array([1000, 9000, 17000, 33000])
    steps = np.array([one_request(pool, int(c), 2)[1] for c in contexts])
    slopes = np.diff(steps) / np.diff(contexts)
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-3)
    kv_bytes = 2 * 32 * 8 * 128 * 2
    assert 1.0 < slopes[0] / (kv_bytes / 3.35e12) < 1 / 0.6


def test_prefill_attention_is_quadratic() -> None:
    """Doubling a prompt's length quadruples what is not linear in it: third differences vanish."""
    cost = step_cost(engine("llama-3.1-8b", "h100-sxm"), np.arange(2.0), np.arange(2.0))
    operations_a_pair = 32 * 32 * (2 * 128 + 2 * 128)
    assert 0.4 < operations_a_pair / cost.prefill_pair_s / 989.4e12 < 0.9
    pool = pool_of("llama-3.1-8b", "h100-sxm", batching=small(token_budget_tokens=65536))
    t = {n: one_request(pool, n, 1)[0] for n in (16384, 32768, 65536)}
    quadratic = cost.prefill_pair_s / 2
    linear = [t[n] - quadratic * n * n for n in sorted(t)]
    assert linear[2] - linear[1] == pytest.approx(2 * (linear[1] - linear[0]), rel=0.01)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-3.1-70b", "mixtral-8x7b", "deepseek-v2-lite"])
def test_sharding_speeds_up_less_than_ideally(model: str) -> None:
    """Twice the accelerators: faster, but not twice (activations, all-reduces and overheads are not halved)."""
    tokens = np.array([1.0, 64, 512, 4096])
    allowed = [tp for tp in (1, 2, 4, 8) if tp <= 4 or "70b" in model]
    times = [step_cost(engine(model, "h100-sxm", tp), tokens, np.ones(1)).linear.seconds for tp in allowed]
    for fewer, more in pairwise(times):
        assert (more > fewer / 2).all()
        assert (more[-1] < fewer[-1]).all()


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3"])
@pytest.mark.parametrize("tokens", [1, 32, 4096])
@pytest.mark.parametrize("tp", [1, 8])
def test_smaller_weights_are_no_slower(model: str, tokens: int, tp: int) -> None:
    """But large experts of many rows: there vLLM's kernel with scales for blocks takes 1.0 to 1.2 of 16 bits' time.

    And but for the launches of four kernels a layer that quantise inputs, which a share of a small model's weights may
    not be worth.
    """
    at = np.array([float(tokens)])
    wide, narrow = (
        step_cost(engine(model, "h200-sxm", tp, weights), at, at).linear.seconds[0] for weights in ("bf16", "fp8")
    )
    quantise = catalog.kernel_profile("h200-sxm").quantise
    assert quantise is not None
    launches_s = 4 * catalog.model(model).layers * quantise.latency_us * 1e-6 if tp == 8 else 0.0
    assert narrow < wide * (1.2 if (model, tokens) == ("mixtral-8x7b", 4096) else 1.0) + launches_s


# ----------------------------------------------------------------------------------------------------------------------
# Operators

SHAPES = [(4096, 4096), (8192, 57344 / 8), (14336, 4096), (2048, 128256)]


@pytest.mark.parametrize(("k", "n"), SHAPES)
def test_gemm_is_a_soft_roofline(k: int, n: float) -> None:
    """Never below the larger of arithmetic and traffic, at most 2^(1/4) above; monotone; a token ever cheaper."""
    e = engine("llama-3.1-8b", "h100-sxm")
    tokens = np.unique(np.geomspace(1, 65536, 300).round())
    seconds = gemm(e, BY_HAND, tokens, k, n).seconds
    arithmetic = 2 * tokens * k * n / (989.4e12 * BY_HAND.kernels.product("bf16").compute_share)
    traffic = 2 * (k * n + tokens * k + tokens * n) / (3.35e12 * BY_HAND.kernels.memory_share)
    longest = np.maximum(arithmetic, traffic)
    assert (seconds >= longest * (1 - 1e-12)).all()
    assert (seconds <= longest * 2**0.25 * (1 + 1e-12)).all()
    assert (np.diff(seconds) > 0).all()
    assert (np.diff(seconds / tokens) < 0).all()


def test_kernel_is_symmetric_and_scales() -> None:
    """Twice the work takes twice the time; twice both rates, half."""
    flops, moved = np.array([1e9, 1e12, 5e13]), np.array([1e10, 1e9, 1e8])
    once = kernel(flops, moved, 1e14, 1e12)
    np.testing.assert_allclose(kernel(2 * flops, 2 * moved, 1e14, 1e12).seconds, 2 * once.seconds)
    np.testing.assert_allclose(kernel(flops, moved, 2e14, 2e12).seconds, once.seconds / 2)
    np.testing.assert_allclose(kernel(moved, flops, 1e12, 1e14).seconds, once.seconds)
    np.testing.assert_allclose(once.compute_s, flops / 1e14)
    np.testing.assert_allclose(once.memory_s, moved / 1e12)


@pytest.mark.parametrize("model", ["mixtral-8x7b", "qwen3-30b-a3b", "qwen3-235b-a22b"])
@pytest.mark.parametrize("tokens", [1, 3, 16, 100])
def test_distinct_experts_as_by_drawing_them(model: str, tokens: int) -> None:
    """The traffic of a mixture's weights is that of the experts that tokens hit which pick the popular more often."""
    moe = catalog.model(model).moe
    hidden = catalog.model(model).hidden
    assert moe is not None
    rng = np.random.default_rng(5)
    trials = 2000
    upto = np.append(0.0, popularity(moe.experts, moe.experts_per_token, tokens).cumsum().round(9))
    distinct = np.zeros(trials)
    for trial in range(
        trials
    ):  # of experts end to end, each as long as it is popular, those that a comb of teeth 1 hits
        teeth = np.floor(upto + rng.random((tokens, 1)))
        picks = np.diff(teeth, axis=1) > 0
        assert (picks.sum(axis=1) == moe.experts_per_token).all()
        distinct[trial] = picks.any(axis=0).sum()

    e = engine(model, "h200-sxm", 4)
    moved = float(mixture_feed_forward(e, BY_HAND, np.array([float(tokens)])).memory_s[0])
    moved *= 4.8e12 * BY_HAND.kernels.memory_share
    expert_bytes = 3 * hidden * moe.expert_intermediate * 2 / 4
    activations = tokens * moe.experts_per_token * 2 * hidden * 2
    router = 2 * (hidden * moe.experts + tokens * (hidden + moe.experts))
    error = (
        4 * distinct.std() / math.sqrt(trials) + 0.003 * moe.experts
    )  # the latter of lines between numbers of tokens
    assert (moved - activations - router) / expert_bytes == pytest.approx(distinct.mean(), abs=error)


@pytest.mark.parametrize(
    ("experts", "visited"), [(8, 2), (16, 1), (128, 8), (256, 8), (384, 8), (512, 10), (2, 1), (896, 16), (4, 4)]
)
def test_distinct_experts_are_between_bounds(experts: int, visited: int) -> None:
    """At least what one token visits, at most what balanced routing hits, and more with every token."""
    tokens = np.append(np.arange(1.0, 3000.0), 2.0 ** np.arange(12, 24))
    found, balanced = (distinct_experts(experts, visited, experts, tokens, alpha) for alpha in (ALPHA, 0.0))
    assert found[0] == pytest.approx(visited)
    assert (found <= balanced * (1 + 1e-12)).all()
    assert (found <= experts * (1 + 1e-12)).all()
    assert (np.diff(found) >= 0).all()
    np.testing.assert_allclose(balanced, experts * (1 - (1 - visited / experts) ** tokens))
    np.testing.assert_allclose(distinct_experts(experts / 2, visited, experts, tokens, ALPHA), found / 2)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 1.01, ALPHA, 3.0])
@pytest.mark.parametrize("tokens", [1, 7, 512, 100_000])
def test_popularity(alpha: float, tokens: int) -> None:
    """Visits of a token sum to what it visits, no expert twice; a larger exponent is more skewed about its density."""
    for experts, visited in ((8, 2), (16, 1), (128, 8), (4, 3)):
        found = popularity(experts, visited, tokens, alpha)
        assert found.sum() == pytest.approx(visited)
        assert ((found > 0) & (found <= 1)).all()
        assert (np.diff(found) <= 0).all()
    np.testing.assert_allclose(popularity(128, 8, tokens, 0.0), 8 / 128)


def test_loads_have_their_density() -> None:
    """With α = 1.2 between 1 and 0.8 T, drawn by the inverse of the distribution, as the tables' loads were."""
    largest, a = 0.8 * 1000, -0.2
    drawn = ((largest**a - 1) * np.random.default_rng(2).random(200_000) + 1) ** (1 / a)
    found = popularity(10_000, 1, 1000, ALPHA)
    quantiles = [0.1, 0.5, 0.9, 0.99]
    np.testing.assert_allclose(
        np.quantile(found * 10_000, quantiles), np.quantile(drawn, quantiles) / drawn.mean(), rtol=0.02
    )


@pytest.mark.parametrize(
    ("accelerator", "weights", "kernels"),
    [
        ("h100-sxm", "fp4", "fp4"),
        ("h200-sxm", "fp4", "fp4"),
        ("h100-sxm", "fp8", "fp8"),
        ("a100-80gb", "fp4", "fp4"),
        ("a100-80gb", "fp8", None),
        ("h100-sxm", "bf16", None),
        ("mi300x", "fp4", None),
    ],
)
def test_whose_kernels_experts_have(accelerator: str, weights: str, kernels: str | None) -> None:
    """Those of their weights, also where 4 bits are computed in 16; where there are none, those of 16 bits."""
    profile = catalog.kernel_profile(accelerator)
    e = engine("gpt-oss-120b", accelerator, 1, weights)
    expected = profile.grouped if kernels is None else {**profile.quantised_grouped}[kernels]  # type: ignore[index]
    assert profile.experts(e.weights, e.compute_precision) == expected


def test_experts_of_4_bits_on_hopper_compute_no_faster_than_those_of_16() -> None:
    """Their weights are expanded first: slower where arithmetic decides; few rows read a quarter of the bytes."""
    few, many = (
        [float(mixture_feed_forward(e, coefficients_of(e.accelerator), np.array([tokens])).seconds[0]) for e in engines]
        for engines in [[engine("gpt-oss-120b", "h100-sxm", 4, weights) for weights in ("fp4", "bf16")]]
        for tokens in (16.0, 65_536.0)
    )
    assert few[0] < few[1]
    assert many[0] > many[1]


def test_a_mixture_computes_only_what_tokens_visit() -> None:
    """Operations grow with visits: 1000 tokens of Mixtral visit two of eight experts each."""
    work = mixture_feed_forward(engine("mixtral-8x7b", "h100-sxm", 4), BY_HAND, np.array([1000.0]))
    operations = 2 * 1000 * (2 * 3 * 4096 * 14336 / 4 + 4096 * 8)
    share = BY_HAND.kernels.grouped.compute_share
    assert float(work.compute_s[0]) == pytest.approx(operations / (989.4e12 * share), rel=1e-6)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_all_reduce_is_start_up_plus_ring(devices: int) -> None:
    """``α (1 + log2 p) + 2 (p - 1)/p · bytes / bandwidth`` by the datasheet, MI300X: 3 µs, 448 GB/s."""
    group = group_of(topology_of(catalog.accelerator("mi300x")), devices)
    sizes = np.array([0.0, 16384, 1e6, 1e9])
    expected = 3e-6 * (1 + math.log2(devices)) + 2 * (devices - 1) / devices * sizes / (448e9 * BY_HAND.link_peak)
    work = all_reduce(sizes, group, BY_HAND)
    np.testing.assert_allclose(work.seconds, expected)
    assert (work.link_s <= work.seconds).all()


def test_nothing_is_reduced_on_one_device() -> None:
    alone = group_of(topology_of(catalog.accelerator("h100-sxm")), 1)
    assert not all_reduce(np.array([1e9]), alone, BY_HAND).seconds.any()


def test_layers_reduce_twice() -> None:
    """Megatron: two all-reduces of the hidden state a layer; all link time of a step comes from them."""
    c = replace(BY_HAND, engine=replace(BY_HAND.engine, link_peak=1.0))
    work = layers(engine("llama-3.1-8b", "mi300x", 2), c, np.array([100.0]))
    start_up_s = 2 * 3e-6  # two hops of the logarithm's 1 + log2(2)
    assert float(work.link_s[0]) == pytest.approx(32 * 2 * (start_up_s + (2 * 1 / 2) * (100 * 4096 * 2) / 448e9))


SHARES = [
    ("products", "compute_share"),
    ("products", "memory_share"),
    ("norm", "memory_share"),
    ("rotary", "memory_share"),
    ("activation", "memory_share"),
    ("attention", "token_memory_share"),
    ("attention", "prefill_compute_share"),
    ("attention", "decode_memory_share"),
]


@pytest.mark.parametrize(("kind", "share"), SHARES)
def test_better_kernels_are_faster(kind: str, share: str) -> None:
    """Every share of a peak matters, in the right direction; likewise every overhead below."""
    e, at = engine("llama-3.1-70b", "a100-80gb", 4), np.array([1.0, 64, 4096])
    c = coefficients_of(e.accelerator)
    part = c.kernels.products["bf16"] if kind == "products" else getattr(c.kernels, kind)
    better = part.model_copy(update={share: 1.1 * getattr(part, share)})
    update = {kind: {"bf16": better} if kind == "products" else better}
    before, after = (
        step_cost(e, at, at, c),
        step_cost(e, at, at, replace(c, kernels=c.kernels.model_copy(update=update))),
    )
    if share == "prefill_compute_share":
        assert after.prefill_pair_s < before.prefill_pair_s
        assert after.prefill_read_s < before.prefill_read_s
    elif share == "decode_memory_share":
        assert after.decode_s < before.decode_s
    else:
        assert (after.linear.seconds < before.linear.seconds).all()


def test_better_links_are_faster() -> None:
    e, at = engine("llama-3.1-70b", "h100-sxm", 4), np.array([1.0, 64, 4096])
    better = replace(BY_HAND, engine=replace(BY_HAND.engine, link_peak=0.99))
    assert (step_cost(e, at, at, better).linear.seconds <= step_cost(e, at, at, BY_HAND).linear.seconds).all()


@pytest.mark.parametrize("changes", [{}, {"pp": 2}, {"tp": 2, "dp": 2}])
def test_operators_of_attention_are_what_is_simulated(changes: dict[str, Any]) -> None:
    """Times of all layers for a chunk and for decodes against the kernel's coefficients."""
    e = engine_of(pool_of("llama-3.1-8b", "rtx-pro-6000", **changes))
    c = coefficients_of(e.accelerator)
    cost = step_cost(e, np.ones(1), np.ones(1))
    chunk, before = np.array([16.0, 2048]), np.array([4096.0, 100])
    simulated = before * np.maximum(chunk * cost.prefill_pair_s, cost.prefill_read_s)
    simulated += chunk * (chunk + 1) / 2 * cost.prefill_pair_s
    np.testing.assert_allclose(prefill_operator(e, c, chunk, before).total.seconds, simulated)
    sequences, context = np.array([1.0, 64]), np.array([100.0, 70_000])
    simulated = cost.decode_step_s + sequences * cost.decode_sequence_s + context * cost.decode_s
    np.testing.assert_allclose(decode_operator(e, c, sequences, context).total.seconds, simulated)


def test_overheads_add_up() -> None:
    e, at = engine("llama-3.1-70b", "h100-sxm", 4), np.array([1.0, 64, 4096])
    before = step_cost(e, at, at, BY_HAND)
    overheads = replace(
        BY_HAND.engine,
        step_s=BY_HAND.engine.step_s + 1e-3,
        layer_s=BY_HAND.engine.layer_s + 1e-6,
        sequence_s=BY_HAND.engine.sequence_s + 1e-6,
    )
    after = step_cost(e, at, at, replace(BY_HAND, engine=overheads))
    np.testing.assert_allclose(after.linear.seconds - before.linear.seconds, 1e-3 + 80e-6)
    np.testing.assert_allclose(after.sequences.seconds - before.sequences.seconds, at * 1e-6)


# ----------------------------------------------------------------------------------------------------------------------
# Memory


@pytest.mark.parametrize(
    ("model", "tp", "kv", "expected"),
    [
        ("llama-3.1-8b", 1, "bf16", 131_072),  # 2 · 32 layers · 8 heads · 128 · 2 bytes
        ("llama-3.1-8b", 4, "bf16", 32_768),
        ("llama-3.1-8b", 1, "fp8", 65_536),
        ("llama-3.1-70b", 8, "bf16", 40_960),
        ("llama-2-7b", 1, "bf16", 524_288),  # no grouped queries
        ("qwen2-7b", 1, "bf16", 57_344),  # 28 layers, 4 heads
        ("qwen2.5-72b", 8, "bf16", 40_960),
        ("deepseek-v3", 8, "bf16", 70_272),  # 61 · (512 + 64) · 2, on every accelerator in full
    ],
)
def test_kv_bytes_of_a_token(model: str, tp: int, kv: str, expected: int) -> None:
    assert engine(model, "h200-sxm", tp, kv=kv).kv_bytes_per_token == expected


def test_kv_heads_are_replicated_beyond_their_number() -> None:
    """Qwen2-7B has 4 KV heads: 7 accelerators do not divide them, 28 replicate them; never less than one head each."""
    e = Engine(catalog.model("qwen2-7b"), catalog.accelerator("h200-sxm"), 28, "bf16", "bf16")
    assert e.kv_bytes_per_token == 2 * 28 * 128 * 2


@pytest.mark.parametrize(
    ("model", "weights", "tp", "expected"),
    [
        ("llama-3.1-8b", "bf16", 1, 16.06e9),
        ("llama-3.1-70b", "bf16", 4, 141.1e9 / 4),
        ("llama-3.1-8b", "fp8", 1, (8.03e9 - 1.05e9) + 2 * 1.05e9),  # embedding and head stay at 16 bits
        ("mixtral-8x7b", "bf16", 2, 46.7e9),
    ],
)
def test_weight_bytes(model: str, weights: str, tp: int, expected: float) -> None:
    assert engine(model, "h200-sxm", tp, weights).weight_bytes == pytest.approx(expected, rel=0.005)


def test_kv_blocks_of_an_8b_model_on_an_h100() -> None:
    """VLLM reports 27 to 30 thousand blocks of 16 tokens at 0.9, by engine version."""
    assert 27_000 < kv_blocks(Pool.parse({"model": "llama-3.1-8b", "accelerator": "h100-sxm"})) < 30_000


def test_kv_blocks_follow_from_what_is_left() -> None:
    """More memory share, smaller weights and smaller KV give more blocks; larger blocks give as many fewer."""
    base = {"model": "llama-3.1-8b", "accelerator": "h100-sxm"}

    def blocks(**changes: Any) -> int:
        return kv_blocks(Pool.parse(base | changes))

    usable = catalog.accelerator("h100-sxm").usable_memory_bytes
    more = blocks(kv_memory={"memory_utilization": 0.95}) - blocks()
    assert more == pytest.approx(0.05 * usable / (131_072 * 16), abs=1)
    assert blocks(kv_memory={"block_tokens": 32}) == pytest.approx(blocks() / 2, abs=1)
    assert blocks(kv="fp8") == pytest.approx(2 * blocks(), abs=1)
    assert blocks(weights="fp8") - blocks() == pytest.approx((8.03e9 - 1.05e9) / (131_072 * 16), rel=0.01)
    assert blocks(kv_memory={"blocks": 123}) == 123


@pytest.mark.parametrize(
    ("model", "chip", "tp", "blocks"),
    [
        ("llama-3.1-70b", "h100-sxm", 1, None),
        ("llama-3.1-405b", "h100-sxm", 8, None),
        ("llama-3.1-8b", "l4", 1, 10**5),
    ],
)
def test_the_shortage_is_what_is_missing(
    model: str, chip: str, tp: int, blocks: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the missing bytes added the pool fits exactly, with a kilobyte less it does not; the message agrees."""
    utilization = 0.9
    share = 1.0 if blocks else utilization  # blocks counted on a real engine may use the whole device
    pool = Pool.parse(
        {
            "model": model,
            "accelerator": chip,
            "tp": tp,
            "kv_memory": {"memory_utilization": utilization} | ({"blocks": blocks} if blocks else {}),
        }
    )
    with pytest.raises(DoesNotFit) as caught:
        kv_blocks(pool)
    shortage = caught.value.shortage_bytes
    assert shortage > 0
    words = str(caught.value).split()
    needed, allowed = (float(words[words.index("GB", start) - 1]) for start in (0, words.index("GB") + 1))
    assert needed - allowed == pytest.approx(shortage / 1e9, abs=0.11)

    before = engine_of(pool)
    for spare, fits in ((1000, True), (-1000, False)):
        gigabytes = (before.accelerator.usable_memory_bytes + (shortage + spare) / share) / 1e9
        bigger = before.accelerator.model_copy(update={"memory_gb": gigabytes, "memory_reported_mib": None})
        changed = replace(before, accelerator=bigger)
        monkeypatch.setattr(memory_of_engine, "engine_of", lambda _pool, changed=changed: changed)
        if fits:
            assert kv_blocks(pool) == (blocks or memory_of_engine.MIN_KV_TOKENS // 16)
        else:
            with pytest.raises(DoesNotFit) as again:
                kv_blocks(pool)
            assert again.value.shortage_bytes == pytest.approx(1000, rel=0.01)


# ----------------------------------------------------------------------------------------------------------------------
# Lowering

LOWERED = [
    ("llama-3.1-8b", "h100-sxm", 1, "bf16"),
    ("llama-3.1-70b", "a100-80gb", 4, "bf16"),
    ("mixtral-8x7b", "h100-sxm", 2, "fp8"),
    ("deepseek-v3", "h200-sxm", 8, "fp8"),
    ("llama-3.2-1b", "b200", 1, "fp4"),
]


@pytest.mark.parametrize(("model", "chip", "tp", "weights"), LOWERED)
def test_tables_are_the_cost_model(model: str, chip: str, tp: int, weights: str) -> None:
    """Every knot holds the cost model's picoseconds, strictly positive and never falling with more work."""
    pool = pool_of(model, chip, tp, weights=weights, batching={})
    memory = lower(Deployment(pools=(pool,)), Requests(np.zeros(1), np.ones(1), np.ones(1))).memory
    client = memory.clients[0]
    linear = memory.scratch[client["linear"] : client["linear"] + len(LINEAR_KNOTS)]
    sequences = memory.scratch[client["sequences"] : client["sequences"] + 1025]
    assert client["linear"] + len(LINEAR_KNOTS) == client["sequences"]
    e = engine(model, chip, tp, weights)
    for index in (0, 1, 2, 100, 1024, 1025, 1026, 1247, 1248, 1249, 1250, 1300, len(LINEAR_KNOTS) - 1):
        tokens = LINEAR_KNOTS[index]
        cost = step_cost(e, np.array([float(tokens)]), np.array([float(min(tokens, 1024))]))
        assert abs(int(linear[index]) - cost.linear.seconds[0] / PS) <= 1
        assert abs(int(sequences[min(tokens, 1024)]) - cost.sequences.seconds[0] / PS) <= 1
    assert (linear > 0).all()
    assert (sequences > 0).all()
    assert (np.diff(linear) >= 0).all()
    assert (np.diff(sequences) >= 0).all()
    assert client["attention_ps"] >= 1
    assert client["prefill_pair"] > 0
    assert client["prefill_read"] > 0


@pytest.mark.parametrize(("model", "chip", "tp", "weights"), LOWERED)
def test_between_knots_the_error_is_small(model: str, chip: str, tp: int, weights: str) -> None:
    """Any number of tokens: interpolation within 0.5 % of the cost model in the mean, and 3 % for 19 of 20 numbers.

    Times climb in steps after whole tiles; a knot lies before each step, and the line to the next one begins there.
    """
    e = engine(model, chip, tp, weights)
    knots = np.array(LINEAR_KNOTS, dtype=np.float64)
    table = step_cost(e, knots, np.ones(1)).linear.seconds
    for exact_at in (np.arange(1025.0, 8192), np.arange(8193.0, 131_072, 19)):
        exact = step_cost(e, exact_at, np.ones(1)).linear.seconds
        errors = np.abs(np.interp(exact_at, knots, table) / exact - 1)
        assert errors.mean() < 0.005
        assert np.quantile(errors, 0.95) < 0.03


@pytest.mark.parametrize(("policy", "budget"), [("continuous", 4096), ("chunked", 4096), ("static", 4096)])
def test_a_simulated_request_costs_what_the_model_says(policy: str, budget: int) -> None:
    """TTFT and E2E of a lone request, added up operator by operator without tables or kernel, and its way there."""
    prompt, output = 3000, 40
    pool = Pool.parse(
        {
            "model": "llama-3.1-8b",
            "accelerator": "h100-sxm",
            "batching": {"policy": policy, "max_batch_requests": 8, "token_budget_tokens": budget},
        }
    )
    cost = step_cost(engine_of(pool), np.array([1.0, float(prompt)]), np.arange(2.0))
    one = cost.sequences.seconds[1]
    ttft = cost.linear.seconds[1] + one + cost.prefill_pair_s * prompt * (prompt + 1) / 2
    contexts = sum(prompt + i for i in range(1, output))
    each = cost.linear.seconds[0] + one + cost.decode_step_s + cost.decode_sequence_s
    decode = (output - 1) * each + cost.decode_s * contexts
    got_ttft, got_tpot = one_request(pool, prompt, output)
    assert got_ttft == pytest.approx(REQUEST_S + ttft, rel=1e-4)
    # The coefficient per token of context is rounded to whole picoseconds.
    assert got_tpot * (output - 1) == pytest.approx(decode, rel=1e-4)


def test_chunks_read_earlier_context() -> None:
    """A prompt in small chunks takes longer than at once: weights are read again, and so is earlier KV."""
    times = [
        one_request(
            pool_of(
                "llama-3.1-8b",
                "h100-sxm",
                batching={"policy": "chunked", "max_batch_requests": 8, "token_budget_tokens": budget},
            ),
            16_384,
            1,
        )[0]
        for budget in (16_384, 4096, 512, 64)
    ]
    assert times == sorted(times)
    assert times[-1] > 2 * times[0]


@pytest.mark.parametrize(
    ("model", "tp", "kv", "gb_per_s", "expected_ps"),
    [
        ("llama-3.1-8b", 1, "bf16", 25.0, 131_072 / 25e9 / PS),
        ("llama-3.1-8b", 1, "fp8", 25.0, 65_536 / 25e9 / PS),
        ("llama-3.1-70b", 4, "bf16", 100.0, 327_680 / 100e9 / PS),
        ("llama-3.1-70b", 4, "bf16", None, 327_680 / (0.793 * 4 * 50e9) / PS),  # each accelerator has its own 400 Gb/s
        ("deepseek-v3", 8, "bf16", 100.0, 8 * 70_272 / 100e9 / PS),  # every rank sends its own
    ],
)
def test_a_hand_over_moves_the_cache(model: str, tp: int, kv: str, gb_per_s: float | None, expected_ps: float) -> None:
    weights = "fp8" if model == "deepseek-v3" else "bf16"
    both = {"model": model, "accelerator": "h200-sxm", "tp": tp, "kv": kv, "weights": weights}
    link = {"latency_us": 7.5} | ({"gb_per_s": gb_per_s} if gb_per_s else {})
    deployment = Deployment.parse(
        {
            "pools": [both | {"name": "in", "role": "prefill"}, both | {"name": "out", "role": "decode"}],
            "link": link,
        }
    )
    times = []
    for prompt in (100, 100_100):
        requests = Requests(np.zeros(1), np.array([prompt]), np.array([2]))
        result = simulate(deployment, requests)
        row = result.lowered.memory.requests[0]
        client = result.lowered.memory.clients[0]
        assert client["link_latency_ps"] == 7_500_000
        step = int(result.lowered.memory.clients["busy_ps"][1])
        times.append(int(row["finish_ps"] - row["first_token_ps"]) - step)
    assert times[0] == pytest.approx(7_500_000 + 100 * expected_ps, rel=1e-4)
    assert times[1] - times[0] == pytest.approx(100_000 * expected_ps, rel=1e-4)


def test_power_between_idle_and_limit() -> None:
    chip = catalog.accelerator("h100-sxm")
    assert energy_j(chip, 4, 100.0, 0.0, 0.0, 0.0) == pytest.approx(4 * 100 * chip.idle_w)
    full = energy_j(chip, 4, 100.0, 100.0, 100.0, 100.0)
    assert full == pytest.approx(4 * 100 * 700)
    prefill, decode = energy_j(chip, 1, 1.0, 1.0, 0.95, 0.1), energy_j(chip, 1, 1.0, 1.0, 0.05, 0.9)
    assert 115 < decode < 600 < prefill <= 700


# ----------------------------------------------------------------------------------------------------------------------
# Measurements: loose bounds only, calibration by engine version is another matter


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_llama_2_on_a100_within_a_factor(reference: Path) -> None:
    """E2E of 200 tokens in, 200 out, batch 1: within a factor 2; at TP 8 within 2.5.

    The engine measured launched kernels one by one: 0.16 ms a layer at TP 8, more than the layer's whole work.
    """
    ratios = {}
    for row in rows_of(reference / "engine" / "llama2_latency_a100_batch1_200in_200out.csv"):
        model = "llama-2-" + row["model"].rpartition("-")[2].lower()
        ttft, tpot = one_request(pool_of(model, "a100-80gb", int(row["TP"]), batching=small()), 200, 200)
        ratios[model, int(row["TP"])] = (ttft + 199 * tpot) / float(row["actual"])
    assert len(ratios) == 11
    for (model, tp), ratio in ratios.items():
        assert (0.4 if tp == 8 else 0.5) < ratio < 2, (model, tp)


def test_splitwise_token_times_within_a_factor(reference: Path) -> None:
    """Token times of Llama-2-70B, batch 1: within a factor 2.2 where reading weights matters (TP 2 and 4).

    At TP 8 on A100 that engine of 2023 takes 45 ms, as long as at TP 4: launches, not work. There the prediction may
    be four times as fast. Nowhere may it be slower than what was measured.
    """
    rows = [
        row
        for row in rows_of(reference / "engine" / "splitwise_prompt_and_token_time.csv")
        if row["model"] == "llama2-70b" and row["batch_size"] == "1" and row["output_tokens"] == "128"
    ]
    assert len(rows) > 20
    for row in rows:
        chip = {"a100-80gb": "a100-80gb", "h100-80gb": "h100-sxm"}[row["hardware"]]
        pool = pool_of("llama-2-70b", chip, int(row["tp"]), batching=small())
        _, tpot = one_request(pool, int(row["prompt_tokens"]), 128)
        ratio = 1e3 * tpot / float(row["token_time_ms"])
        assert (0.25 if row["tp"] == "8" else 1 / 2.2) < ratio < 1, row


def test_inter_token_times_of_a_recent_engine(reference: Path) -> None:
    """VLLM 0.15 on H100 at constant rates: mean (E2E - TTFT) / (output - 1), never 30 % faster, nor 2.2 times as slow.

    Kernels are measured one by one, and the constant of a step, set by hand, comes on top; an overload amplifies both.
    """
    names = {
        "meta-llama/Llama-3.1-70B-Instruct": "llama-3.1-70b",
        "Qwen/Qwen2.5-7B-Instruct": "qwen2-7b",  # the same layers
        "meta-llama/Llama-2-7b-hf": "llama-2-7b",
    }
    seen = 0
    for row in rows_of(reference / "engine" / "vllm015_h100_runs.csv"):
        if row["stage"] == "-1" or row["model"] not in names or not row["output_len"]:
            continue
        rate = float(row["stages_rate_rps_x_duration_s"].split(";")[int(row["stage"])].split("x")[0])
        output = round(float(row["output_len"]))
        prompt = round(float(row["question_len"]) + float(row["system_prompt_len"]))
        count = 400
        requests = Requests(np.arange(count) * (1e12 / rate), np.full(count, prompt), np.full(count, output))
        pool = Pool.parse(
            {
                "model": names[row["model"]],
                "accelerator": "h100-sxm",
                "tp": int(row["tp"]),
                "kv_memory": {"blocks": int(row["total_kv_blocks"]), "memory_utilization": 0.95},
                "batching": {"max_batch_requests": 128, "token_budget_tokens": int(row["max_num_batched_tokens"])},
            }
        )
        result = simulate(Deployment(pools=(pool,)), requests)
        middle = result.tpot_s[100:300].mean()
        measured = (float(row["e2e_mean_ms"]) - float(row["ttft_mean_ms"])) / (output - 1) / 1e3
        assert 0.7 < middle / measured < 2.2, (row["run"], row["stage"], middle, measured)
        seen += 1
    assert seen >= 6


def test_kv_blocks_of_a_recent_engine(reference: Path) -> None:
    """VLLM 0.15's own block counts on H100 at its default share of 0.9: within 5 %."""
    names = {
        "meta-llama/Llama-3.1-70B-Instruct": "llama-3.1-70b",
        "Qwen/Qwen2.5-7B-Instruct": "qwen2-7b",
        "meta-llama/Llama-2-7b-hf": "llama-2-7b",
    }
    rows = [
        row
        for row in rows_of(reference / "engine" / "vllm015_h100_runs.csv")
        if row["model"] in names and row["total_kv_blocks"]
    ]
    assert len(rows) > 5
    for row in rows:
        pool = Pool.parse(
            {
                "model": names[row["model"]],
                "accelerator": "h100-sxm",
                "tp": int(row["tp"]),
                "batching": {"max_batch_requests": 128, "token_budget_tokens": int(row["max_num_batched_tokens"])},
            }
        )
        assert kv_blocks(pool) == pytest.approx(float(row["total_kv_blocks"]), rel=0.05)
