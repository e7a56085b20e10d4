"""The token-wise operators of a model: projections, feed-forward, norms, all-reduces, pipeline, output head.

All shapes are per accelerator under tensor parallelism (Megatron-LM, arXiv:1909.08053): QKV, gate and up are split by
columns, O and down by rows, and each of the two halves of a layer ends in an all-reduce.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulator.performance.adapters import adapter_products
from simulator.performance.coefficients import Coefficients
from simulator.performance.collectives import all_gather, all_reduce, send_recv
from simulator.performance.engine import Engine
from simulator.performance.feed_forward import dense_feed_forward, mixture_feed_forward, per_rank, second_modality
from simulator.performance.matrix_product import ACTIVATION_BYTES, gemm
from simulator.performance.pipeline import Stage, in_pipeline
from simulator.performance.roofline import Floats, Work, stream, wait
from simulator.performance.state_space import projections, scan


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


def element_wise(engine: Engine, c: Coefficients, tokens: Floats, *, mixer: bool, feed_forward: bool) -> Work:
    """Return the work of norms, residuals, rotary embedding and activation of one layer with either or both halves.

    Bytes: each norm with residual reads and writes the hidden state twice (4 hidden a half), the activation reads two
    and writes one inner vector, rotary reads and writes queries and keys.
    """
    model = engine.model
    moe = model.moe
    elements = 0.0
    if feed_forward:
        inner = moe.experts_per_token * moe.expert_intermediate if moe else model.intermediate
        elements += 4 * model.hidden + 3 * inner / engine.tp
    if mixer:
        elements += 4 * model.hidden + 2 * (engine.heads + engine.kv_heads) * model.head_dim
    rate = engine.accelerator.memory_bandwidth_bytes_per_s * c.memory_peak
    return stream(tokens * elements * ACTIVATION_BYTES, rate)


def stage_layers(engine: Engine, c: Coefficients, tokens: Floats, stage: Stage) -> Work:
    """Return the token-wise work of one stage's layers for so many tokens of all data-parallel ranks.

    Parameters
    ----------
    tokens
        Tokens of a step or micro-batch, shape (n,).
    """
    model = engine.model
    own = per_rank(engine, tokens)
    reduced = own * model.hidden * ACTIVATION_BYTES
    reduction = all_reduce(reduced, engine.tensor_group, c)
    alone = model.ssm is not None and model.ssm.feed_forward_layers is not None
    halves = 1 if alone else 2

    def around(elements: Work) -> Work:
        return elements + reduction * halves + wait(c.layer_s, own)

    work = wait(0.0, own)
    if stage.attention:
        elements = element_wise(engine, c, own, mixer=True, feed_forward=not alone)
        work = around(attention_projections(engine, c, own) + elements) * stage.attention
    if stage.state_space:
        elements = element_wise(engine, c, own, mixer=False, feed_forward=not alone)
        mixer = projections(engine, c, own) + scan(engine, c, own) + elements
        work += around(mixer) * stage.state_space
    if alone and (stage.dense or stage.mixture):
        elements = element_wise(engine, c, own, mixer=False, feed_forward=True)
        work += around(elements) * (stage.dense + stage.mixture)
    if stage.dense:
        work += dense_feed_forward(engine, c, own, model.intermediate) * stage.dense
    if stage.mixture:
        work += mixture_feed_forward(engine, c, tokens) * stage.mixture
    if model.modality_experts:
        work += second_modality(engine, c, own) * stage.dense
    if engine.adapters:
        work += adapter_products(engine, c, own, stage)
    return work


def layers(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the token-wise work of all layers for steps of so many tokens, attention itself excluded.

    With pp pipeline stages a step is cut into ``m = min(pp, tokens)`` micro-batches of ``ceil(tokens / m)``. Between
    stages the tensor-parallel accelerators send a share of the activations each and gather them on the other side
    (Megatron-LM, arXiv:2104.04473, section 4.1).

    Parameters
    ----------
    tokens
        Tokens of a step, shape (n,), at least 1.
    """
    if engine.pp == 1:
        return stage_layers(engine, c, tokens, engine.stages[0])
    micro_batches = np.minimum(tokens, engine.pp)
    each = np.ceil(tokens / micro_batches)
    # Stages with the same layers cost the same, wherever they are.
    alike = [replace(stage, first=False, last=False) for stage in engine.stages]
    costs = {stage: stage_layers(engine, c, each, stage) for stage in set(alike)}
    parts = [costs[stage] for stage in alike]
    activations = per_rank(engine, each) * engine.model.hidden * ACTIVATION_BYTES
    send = send_recv(activations / engine.tp, engine.stage_group, c) + all_gather(activations, engine.tensor_group, c)
    return in_pipeline(parts, send, micro_batches)


def output_head(engine: Engine, c: Coefficients, sequences: Floats) -> Work:
    """Return the work of the output head, sampling and bookkeeping for so many sequences in a step.

    The head is on the last pipeline stage and works once for every micro-batch.
    """
    vocab = engine.model.vocab / engine.tp
    if engine.pp == engine.dp == 1:
        head = gemm(engine, c, sequences, engine.model.hidden, vocab, quantised=False)
        return head + wait(sequences * c.sequence_s, sequences)
    micro_batches = np.clip(sequences, 1, engine.pp)
    each = per_rank(engine, np.ceil(sequences / micro_batches))
    head = gemm(engine, c, each, engine.model.hidden, vocab, quantised=False)
    books_s = each * c.sequence_s
    share = micro_batches / engine.pp
    return Work(micro_batches * (head.seconds + books_s), share * head.compute_s, share * head.memory_s, head.link_s)
