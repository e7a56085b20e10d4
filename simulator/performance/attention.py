"""Attention over the KV cache, per accelerator: affine in sequences, (query, key) pairs and context.

With data parallelism each rank has its share of the batch; with pipeline stages the one with most layers counts, which
works on all micro-batches one after the other (``Engine.attention_share``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simulator.catalog import AttentionKernels
from simulator.performance.coefficients import Coefficients
from simulator.performance.engine import Engine
from simulator.performance.matrix_product import ACTIVATION_BYTES
from simulator.performance.operators import Operator
from simulator.performance.roofline import Chip, Floats, Work


@dataclass(frozen=True)
class AttentionShape:
    """One layer's attention on one accelerator.

    Attributes
    ----------
    heads, kv_heads
        Query and KV heads.
    qk_dim, v_dim
        Widths of a query (or key) and of a value of one head.
    kv_bytes
        KV of one token, bytes.
    """

    heads: float
    kv_heads: float
    qk_dim: float
    v_dim: float
    kv_bytes: float


@dataclass(frozen=True)
class LayerAttention:
    """Times of one layer's attention, seconds.

    A chunk of q tokens after b others takes ``latency + q · token + q (q + 1) / 2 · pair + b · max(q · pair, read)``;
    decoding s sequences with c tokens of context in all takes ``latency + decode + s · (token + sequence) +
    c · context``.

    Attributes
    ----------
    latency_s
        Launch, in every step.
    token_s
        Queries, keys, values and outputs of a token of the step on their way through memory.
    pair_s
        One (query, key) pair: ``2 heads (qk + v)`` operations.
    read_s
        Least time for a token of earlier context of a chunk: reading its KV; and where a thread block has
        ``query_tile`` queries of a head, the work of one block, because those of a short chunk do not fill the chip.
    decode_s, sequence_s
        What a step with decodes takes longer, and what each of its sequences adds: a block for each KV head.
    context_s, context_compute_s, context_memory_s
        A token of context of a decoding sequence: the larger of reading its KV once and the operations.
    """

    latency_s: float
    token_s: float
    pair_s: float
    read_s: float
    decode_s: float
    sequence_s: float
    context_s: float
    context_compute_s: float
    context_memory_s: float


def layer_attention(
    shape: AttentionShape, chip: Chip, kernels: AttentionKernels, *, absorbed_widths: float | None = None
) -> LayerAttention:
    """Return the times of one layer's attention.

    Parameters
    ----------
    shape
        Heads and widths.
    chip
        Peaks at 16 bits.
    kernels
        Coefficients.
    absorbed_widths
        ``qk + v`` of a latent (MLA) that decodes attend to in absorbed form; as for prompts if absent.
    """
    flops_per_s = chip.flops_per_s * kernels.prefill_compute_share
    bytes_per_s = chip.bytes_per_s * kernels.decode_memory_share
    widths = shape.qk_dim + shape.v_dim
    pair_s = 2.0 * shape.heads * widths / flops_per_s
    memory_s = shape.kv_bytes / bytes_per_s
    compute_s = 2.0 * shape.heads * (absorbed_widths or widths) / flops_per_s
    read_s, sequence_s, token_s = memory_s, 0.0, 0.0
    if chip.multiprocessors is not None:
        sequence_s = kernels.decode_block_us * 1e-6 * shape.kv_heads / chip.multiprocessors
        if kernels.query_tile is not None:
            read_s = max(read_s, pair_s * kernels.query_tile * chip.multiprocessors / shape.heads)
    if kernels.token_memory_share is not None:
        passed = shape.heads * widths * ACTIVATION_BYTES + shape.kv_bytes
        token_s = passed / (chip.bytes_per_s * kernels.token_memory_share)
    return LayerAttention(
        latency_s=kernels.latency_us * 1e-6,
        token_s=token_s,
        pair_s=pair_s,
        read_s=read_s,
        decode_s=kernels.decode_latency_us * 1e-6,
        sequence_s=sequence_s,
        context_s=max(compute_s, memory_s),
        context_compute_s=compute_s,
        context_memory_s=memory_s,
    )


def prefill_seconds(times: LayerAttention, chunk: Floats, before: Floats) -> Floats:
    """Return the time of one layer for a chunk of a prompt after so many tokens of it, any shape."""
    own = times.latency_s + chunk * times.token_s + chunk * (chunk + 1) / 2 * times.pair_s
    return np.asarray(own + before * np.maximum(chunk * times.pair_s, times.read_s))


def decode_seconds(times: LayerAttention, sequences: Floats, context: Floats) -> Floats:
    """Return the time of one layer for decoding so many sequences with so much context in all, any shape."""
    own = times.latency_s + times.decode_s + sequences * (times.token_s + times.sequence_s)
    return np.asarray(own + context * times.context_s)


def attention_of(engine: Engine, c: Coefficients) -> LayerAttention:
    """Return the times of one layer's attention on one accelerator of an engine.

    A latent (MLA) is attended to by decodes in absorbed form, ``qk = rank + rope`` and ``v = rank``
    (arXiv:2405.04434, section 2.1.2); it has one KV head for all.
    """
    model = engine.model
    shape = AttentionShape(
        engine.heads,
        1 if model.mla else engine.kv_heads,
        model.attention_qk_dim,
        model.attention_v_dim,
        engine.kv_bytes_per_token_per_layer,
    )
    absorbed = 2.0 * model.mla.kv_lora_rank + model.mla.qk_rope_head_dim if model.mla else None
    return layer_attention(shape, engine.chip_16bit, c.kernels.attention, absorbed_widths=absorbed)


def attention_start(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the part of one layer's attention that only depends on a step's tokens: its launch, and their vectors."""
    times = attention_of(engine, c)
    memory = tokens * times.token_s
    zero = np.zeros_like(memory)
    bytes_per_s = engine.chip_16bit.bytes_per_s * (c.kernels.attention.token_memory_share or 1.0)
    return Work(times.latency_s + memory, zero, memory, zero, zero, memory * bytes_per_s)


def prefill_operator(engine: Engine, c: Coefficients, chunk: Floats, before: Floats) -> Operator:
    """Return attention of a chunk of a prompt after so many tokens of it, beyond its part in the token-wise operators.

    Windows are left out: layers with one are taken to see all. It is the work of one layer on one accelerator.
    """
    times, chip, kernels = attention_of(engine, c), engine.chip_16bit, c.kernels.attention
    pairs = chunk * before + chunk * (chunk + 1) / 2
    seconds = prefill_seconds(replace(times, latency_s=0.0, token_s=0.0), chunk, before) / engine.dp
    moved = (before + chunk) * engine.kv_bytes_per_token_per_layer / engine.dp
    compute = pairs * times.pair_s / engine.dp
    flops = compute * chip.flops_per_s * kernels.prefill_compute_share
    memory = moved / (chip.bytes_per_s * kernels.decode_memory_share)
    layers = engine.model.attention_layers * engine.attention_share * engine.dp
    return Operator("attention, prompts", Work(seconds, compute, memory, 0.0 * seconds, flops, moved), layers)


def decode_operator(engine: Engine, c: Coefficients, sequences: Floats, context: Floats) -> Operator:
    """Return attention of so many decoding sequences with so much context in all, beyond the token-wise operators.

    Windows are left out: layers with one are taken to see all. It is the work of one layer on one accelerator.
    """
    times, chip, kernels = attention_of(engine, c), engine.chip_16bit, c.kernels.attention
    share = context / engine.dp
    own = replace(times, latency_s=0.0, token_s=0.0, decode_s=times.decode_s * engine.pp)
    seconds = decode_seconds(own, sequences / engine.dp, share)
    compute = share * times.context_compute_s
    flops = compute * chip.flops_per_s * kernels.prefill_compute_share
    moved = share * engine.kv_bytes_per_token_per_layer
    layers = engine.model.attention_layers * engine.attention_share * engine.dp
    work = Work(seconds, compute, share * times.context_memory_s, 0.0 * seconds, flops, moved)
    return Operator("attention, decodes", work, layers)


@dataclass(frozen=True)
class ContextTime:
    """Time per token of context that a decoding request attends to.

    Attributes
    ----------
    seconds
        What it adds to a step.
    compute_s, memory_s
        What arithmetic and memory alone need, the mean over the client's accelerators.
    """

    seconds: float
    compute_s: float
    memory_s: float


def decode_attention(engine: Engine, c: Coefficients) -> ContextTime:
    """Return the time per token of context in the layers that see all of it."""
    return _decode(engine, c, engine.model.growing_layers)


def window_attention(engine: Engine, c: Coefficients) -> ContextTime:
    """Return the time per token of the window in the layers that see only a window."""
    return _decode(engine, c, engine.model.window_layers)


def _decode(engine: Engine, c: Coefficients, layers: int) -> ContextTime:
    times = attention_of(engine, c)
    sharers = engine.pp * engine.dp
    return ContextTime(
        layers * times.context_s * engine.attention_share,
        layers * times.context_compute_s / sharers,
        layers * times.context_memory_s / sharers,
    )


def decode_step_s(engine: Engine, c: Coefficients) -> float:
    """Return what attention makes a step with decodes longer: once a layer and micro-batch."""
    most = max(stage.attention for stage in engine.stages)
    return attention_of(engine, c).decode_s * most * engine.pp


def decode_sequence_s(engine: Engine, c: Coefficients) -> float:
    """Return what attention adds for each decoding sequence beside its context."""
    return attention_of(engine, c).sequence_s * engine.model.attention_layers * engine.attention_share


def prefill_s_per_pair(engine: Engine, c: Coefficients) -> float:
    """Return the time per (query, key) pair of a prompt in the layers that see all of it."""
    return attention_of(engine, c).pair_s * engine.model.growing_layers * engine.attention_share


def window_s_per_pair(engine: Engine, c: Coefficients) -> float:
    """Return the time per (query, key) pair within the window of a prompt in the layers that see only a window."""
    return attention_of(engine, c).pair_s * engine.model.window_layers * engine.attention_share


def prefill_s_per_read(engine: Engine, c: Coefficients) -> float:
    """Return the least time for one token of earlier context of a chunk, in the layers that see all of it."""
    return attention_of(engine, c).read_s * engine.model.growing_layers * engine.attention_share
