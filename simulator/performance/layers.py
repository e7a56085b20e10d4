"""The token-wise operators of a model: projections, feed-forward, norms, all-reduces, pipeline, output head.

All shapes are per accelerator under tensor parallelism (Megatron-LM, arXiv:1909.08053): QKV, gate and up are split by
columns, O and down by rows, and each of the two halves of a layer ends in an all-reduce.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from simulator.performance.adapters import adapter_products
from simulator.performance.attention import attention_start
from simulator.performance.coefficients import Coefficients
from simulator.performance.collectives import all_gather, all_reduce, ring_all_reduce, send_recv
from simulator.performance.element_wise import activation, norm, quantise, rotary
from simulator.performance.engine import Engine
from simulator.performance.feed_forward import dense_operators, mixture_operators, per_rank, second_modality
from simulator.performance.matrix_product import ACTIVATION_BYTES, gemm
from simulator.performance.operators import Operator, total_work
from simulator.performance.pipeline import Stage, in_pipeline
from simulator.performance.roofline import Floats, Work, soft_maximum, wait
from simulator.performance.state_space import projections, scan

HOST_SHARPNESS: Final = 3.5
"""How sharply the longer of host and accelerator decides, see :func:`host_wait`."""


def attention_projections(engine: Engine, c: Coefficients, tokens: Floats) -> tuple[Work, Work]:
    """Return the work of the products of one layer before attention (Q, K and V) and after it (O)."""
    model, heads = engine.model, engine.heads
    if model.mla is None:
        columns = (heads + 2 * engine.kv_heads) * model.head_dim
        out = gemm(engine, c, tokens, heads * model.head_dim, model.hidden)
        return gemm(engine, c, tokens, model.hidden, columns), out
    mla = model.mla
    queries = heads * model.attention_qk_dim
    down = mla.kv_lora_rank + mla.qk_rope_head_dim
    if mla.q_lora_rank is None:
        work = gemm(engine, c, tokens, model.hidden, down + queries)
    else:
        work = gemm(engine, c, tokens, model.hidden, down + mla.q_lora_rank)
        work += gemm(engine, c, tokens, mla.q_lora_rank, queries)
    work += gemm(engine, c, tokens, mla.kv_lora_rank, heads * (mla.qk_nope_head_dim + mla.v_head_dim))
    return work, gemm(engine, c, tokens, heads * mla.v_head_dim, model.hidden)


def stage_operators(engine: Engine, c: Coefficients, tokens: Floats, stage: Stage) -> tuple[Operator, ...]:
    """Return the token-wise operators of one stage's layers for so many tokens of all data-parallel ranks.

    Each half of a layer, the mixer and the feed-forward block, begins with a norm and ends in an all-reduce; in a model
    whose layers are one or the other, every layer is a half.

    Parameters
    ----------
    tokens
        Tokens of a step or micro-batch, shape (n,).
    """
    model = engine.model
    own = per_rank(engine, tokens)
    alone = model.ssm is not None and model.ssm.feed_forward_layers is not None
    mixers = stage.attention + stage.state_space
    blocks = stage.dense + stage.mixture if alone else mixers
    found = []
    if stage.attention:
        before, after = attention_projections(engine, c, own)
        found += [
            Operator("qkv projection", before, stage.attention),
            Operator("rotary", rotary(engine, c, own), stage.attention),
            Operator("attention, tokens", attention_start(engine, c, own), stage.attention),
            Operator("o projection", after, stage.attention),
        ]
    if stage.state_space:
        found += [
            Operator("state-space projections", projections(engine, c, own), stage.state_space),
            Operator("state-space scan", scan(engine, c, own), stage.state_space),
        ]
    # The norm before a state-space mixer is counted with its scan.
    found.append(Operator("norms", norm(engine, c, own), stage.attention + blocks))
    found.append(Operator("quantising", quantising(engine, c, own, stage), 1.0))
    if stage.dense:
        found += dense_operators(engine, c, own, model.intermediate, stage.dense)
    if stage.mixture:
        found += mixture_operators(engine, c, tokens, stage.mixture)
    found.append(Operator("activation", activation(engine, c, own), blocks))
    if model.modality_experts:
        found.append(Operator("second modality", second_modality(engine, c, own), stage.dense))
    if engine.adapters:
        found.append(Operator("adapters", adapter_products(engine, c, own, stage), 1.0))
    found += [
        Operator("all-reduce", tensor_reduction(engine, c, own), mixers + blocks),
        Operator("gaps", wait(c.engine.layer_s, own), mixers + (blocks if alone else 0.0)),
    ]
    return (*found, Operator("waiting for the host", host_wait(engine, c, total_work(found, own), tokens, stage), 1.0))


def quantising(engine: Engine, c: Coefficients, tokens: Floats, stage: Stage) -> Work:
    """Return the work of quantising the inputs of a stage's products, two of attention and two of a feed-forward block.

    Routed experts have theirs in their own coefficients.
    """
    model, moe = engine.model, engine.model.moe
    before = quantise(engine, c, tokens, model.hidden)
    work = (before + quantise(engine, c, tokens, engine.heads * model.attention_v_dim)) * stage.attention
    work += (before + quantise(engine, c, tokens, model.intermediate / engine.tp)) * stage.dense
    if moe is not None and moe.shared_experts:
        inner = moe.shared_experts * moe.shared_intermediate / engine.tp
        work += (before + quantise(engine, c, tokens, inner)) * stage.mixture
    return work


def tensor_reduction(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of one all-reduce of the activations of so many tokens among the tensor-parallel accelerators."""
    group = engine.tensor_group
    message = tokens * engine.model.hidden * ACTIVATION_BYTES
    work = (all_reduce if c.engine.own_all_reduce else ring_all_reduce)(message, group, c)
    if group.devices == 1:
        return work
    work += wait(c.engine.collective_s, tokens)
    if c.engine.bulk_tokens is None or group.devices < 4:
        return work
    wire = 2 * (group.devices - 1) / group.devices * message
    rate = c.engine.bulk_share * min(hop.bytes_per_s for hop in group.hops)
    return work + wait(np.where(tokens > c.engine.bulk_tokens, wire / rate, 0.0), tokens)


def host_wait(engine: Engine, c: Coefficients, device: Work, tokens: Floats, stage: Stage) -> Work:
    """Return how much longer a stage takes because the host launches its layers one by one, no graph being captured.

    The host works ahead, so the stage takes the softly longer of all launches and all kernels (:func:`soft_maximum`).
    """
    launches = np.where(tokens > c.engine.graph_tokens, stage.layers * c.engine.eager_layer_s, 0.0)
    share = stage.layers / engine.model.layers
    launches += np.where(tokens > engine.most_decodes, share * c.engine.prompt_step_s, 0.0)
    return wait(soft_maximum(device.seconds, launches, HOST_SHARPNESS) - device.seconds, tokens)


def stage_layers(engine: Engine, c: Coefficients, tokens: Floats, stage: Stage) -> Work:
    """Return the token-wise work of one stage's layers: the sum of :func:`stage_operators`."""
    return total_work(stage_operators(engine, c, tokens, stage), tokens)


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


def head_operators(engine: Engine, c: Coefficients, sequences: Floats) -> tuple[Operator, ...]:
    """Return the output head, and sampling and bookkeeping, for so many sequences in a step.

    The head is on the last pipeline stage and works once for every micro-batch.
    """
    vocab = engine.model.vocab / engine.tp
    if engine.pp == engine.dp == 1:
        head = gemm(engine, c, sequences, engine.model.hidden, vocab, quantised=False)
        books = wait(sequences * c.engine.sequence_s, sequences)
        return Operator("output head", head, 1.0), Operator("sampling and bookkeeping", books, 1.0)
    micro_batches = np.clip(sequences, 1, engine.pp)
    each = per_rank(engine, np.ceil(sequences / micro_batches))
    head = gemm(engine, c, each, engine.model.hidden, vocab, quantised=False)
    mean = replace(head * (micro_batches / engine.pp), seconds=micro_batches * head.seconds)
    books = wait(micro_batches * each * c.engine.sequence_s, sequences)
    return Operator("output head", mean, 1.0), Operator("sampling and bookkeeping", books, 1.0)


def output_head(engine: Engine, c: Coefficients, sequences: Floats) -> Work:
    """Return the work of the output head, sampling and bookkeeping: the sum of :func:`head_operators`."""
    return total_work(head_operators(engine, c, sequences), sequences)
