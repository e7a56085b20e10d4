"""The token-wise operators of a transformer: projections, feed-forward, norms, all-reduces, output head.

All shapes are per accelerator under tensor parallelism (Megatron-LM, arXiv:1909.08053): QKV, gate and up are split by
columns, O and down by rows, and each of the two halves of a layer ends in an all-reduce.
"""

from __future__ import annotations

import numpy as np

from simulator.performance.coefficients import Coefficients
from simulator.performance.collectives import all_reduce
from simulator.performance.engine import Engine
from simulator.performance.roofline import Floats, Work, kernel, stream, wait

ACTIVATION_BYTES = 2.0


def gemm(engine: Engine, c: Coefficients, tokens: Floats, k: int, n: float, *, quantised: bool = True) -> Work:
    """Return the work of (tokens × k) · (k × n): ``2 tokens k n`` operations; weights and activations move.

    Embeddings, output head and routers are not ``quantised``: they stay at 16 bits.
    """
    weight_bytes = engine.weight_bytes_per_element if quantised else 2.0
    flops_per_s = engine.flops_per_s if quantised else engine.flops_16bit_per_s
    return kernel(
        2.0 * tokens * k * n,
        k * n * weight_bytes + tokens * (k + n) * ACTIVATION_BYTES,
        flops_per_s * c.gemm_peak,
        engine.accelerator.memory_bandwidth_bytes_per_s * c.memory_peak,
    )


def attention_projections(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of the Q, K, V and O projections of one layer."""
    model, heads = engine.model, engine.heads
    if model.mla is None:
        columns = (heads + 2 * engine.kv_heads) * model.head_dim
        return gemm(engine, c, tokens, model.hidden, columns) + gemm(
            engine, c, tokens, heads * model.head_dim, model.hidden
        )
    mla = model.mla
    queries = heads * model.attention_qk_dim
    down = mla.kv_lora_rank + mla.qk_rope_head_dim
    if mla.q_lora_rank is None:
        work = gemm(engine, c, tokens, model.hidden, down + queries)
    else:
        work = gemm(engine, c, tokens, model.hidden, down + mla.q_lora_rank)
        work += gemm(engine, c, tokens, mla.q_lora_rank, queries)
    work += gemm(engine, c, tokens, mla.kv_lora_rank, heads * (mla.qk_nope_head_dim + mla.v_head_dim))
    return work + gemm(engine, c, tokens, heads * mla.v_head_dim, model.hidden)


def dense_feed_forward(engine: Engine, c: Coefficients, tokens: Floats, width: float) -> Work:
    """Return the work of one feed-forward block of a total inner width, split over the accelerators."""
    inner = width / engine.tp
    up = 2 if engine.model.gated_mlp else 1
    hidden = engine.model.hidden
    return gemm(engine, c, tokens, hidden, up * inner) + gemm(engine, c, tokens, int(inner), hidden)


def mixture_feed_forward(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of one mixture-of-experts block.

    A token visits k of E experts; under uniform routing T tokens hit ``E (1 − (1 − k/E)^T)`` distinct experts,
    whose weights are read once, while operations grow with ``T k``.
    """
    model, moe = engine.model, engine.model.moe
    assert moe is not None
    distinct = moe.experts * -np.expm1(tokens * np.log1p(-moe.experts_per_token / moe.experts))
    if moe.experts_per_token == moe.experts:
        distinct = np.full_like(tokens, moe.experts)
    elements = model.expert_parameters / engine.tp
    visits = tokens * moe.experts_per_token
    routed = kernel(
        2.0 * visits * elements,
        distinct * elements * engine.weight_bytes_per_element + visits * 2 * model.hidden * ACTIVATION_BYTES,
        engine.flops_per_s * c.gemm_peak,
        engine.accelerator.memory_bandwidth_bytes_per_s * c.memory_peak,
    )
    work = routed + gemm(engine, c, tokens, model.hidden, moe.experts, quantised=False)
    if moe.shared_experts:
        work += dense_feed_forward(engine, c, tokens, moe.shared_experts * moe.shared_intermediate)
    return work


def element_wise(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of norms, residuals, rotary embedding and activation of one layer.

    Bytes: each of two norms with residual reads and writes the hidden state twice (8 hidden), the activation reads two
    and writes one inner vector, rotary reads and writes queries and keys.
    """
    model = engine.model
    moe = model.moe
    inner = moe.experts_per_token * moe.expert_intermediate if moe else model.intermediate
    rotary = 2 * (engine.heads + engine.kv_heads) * model.head_dim
    elements = 8 * model.hidden + 3 * inner / engine.tp + rotary
    rate = engine.accelerator.memory_bandwidth_bytes_per_s * c.memory_peak
    return stream(tokens * elements * ACTIVATION_BYTES, rate)


def layers(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the token-wise work of all layers for steps of so many tokens, attention itself excluded.

    Parameters
    ----------
    tokens
        Tokens of a step, shape (n,).
    """
    model = engine.model
    reduced = tokens * model.hidden * ACTIVATION_BYTES
    common = (
        attention_projections(engine, c, tokens)
        + element_wise(engine, c, tokens)
        + all_reduce(reduced, engine.tp, engine.accelerator, c) * 2
        + wait(c.layer_s, tokens)
    )
    work = common * model.layers
    if model.dense_layers:
        work += dense_feed_forward(engine, c, tokens, model.intermediate) * model.dense_layers
    if model.moe_layers:
        work += mixture_feed_forward(engine, c, tokens) * model.moe_layers
    return work


def output_head(engine: Engine, c: Coefficients, sequences: Floats) -> Work:
    """Return the work of the output head, sampling and bookkeeping for so many sequences in a step."""
    head = gemm(engine, c, sequences, engine.model.hidden, engine.model.vocab / engine.tp, quantised=False)
    return head + wait(sequences * c.sequence_s, sequences)
