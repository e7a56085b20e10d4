"""Feed-forward blocks: dense, of two modalities, and mixtures of experts with expert parallelism."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulator.performance.coefficients import Coefficients
from simulator.performance.collectives import all_gather, all_to_all, reduce_scatter
from simulator.performance.engine import Engine
from simulator.performance.experts import distinct_experts, grouped_product
from simulator.performance.matrix_product import ACTIVATION_BYTES, gemm
from simulator.performance.operators import Operator
from simulator.performance.roofline import Floats, Work, stream


def per_rank(engine: Engine, tokens: Floats) -> Floats:
    """Return the tokens of the fullest data-parallel rank when a batch is split evenly."""
    return tokens if engine.dp == 1 else np.ceil(tokens / engine.dp)


def dense_operators(engine: Engine, c: Coefficients, tokens: Floats, width: float, layers: float) -> list[Operator]:
    """Return the products of one feed-forward block of a total inner width, split over the accelerators."""
    inner, hidden = width / engine.tp, engine.model.hidden
    up = 2 if engine.model.gated_mlp else 1
    return [
        Operator("gate and up" if up == 2 else "up", gemm(engine, c, tokens, hidden, up * inner), layers),
        Operator("down", gemm(engine, c, tokens, int(inner), hidden), layers),
    ]


def second_modality(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return what a second block for the tokens of images adds: its weights are read in steps that hold a prompt.

    Each token is multiplied with one of the two blocks, so the operations are those of one. Steps with more tokens
    than the batch can decode must hold prompt tokens, and are taken to hold some of an image.
    """
    model = engine.model
    weights = model.mlp_parameters(model.intermediate) / engine.tp * engine.weight_bytes_per_element
    moved = np.where(tokens > engine.most_decodes / (engine.dp * engine.pp), weights, 0.0)
    return stream(moved, engine.accelerator.memory_bandwidth_bytes_per_s * c.kernels.memory_share)


def mixture_operators(engine: Engine, c: Coefficients, tokens: Floats, layers: float) -> list[Operator]:
    """Return the operators of one mixture-of-experts block on the busiest accelerator, without its all-reduce.

    T tokens of all ranks that visit k of E experts each hit ``Σ 1 − (1 − p)^T`` distinct ones by their popularity p, of
    which a rank has ``1 / ep`` and whose weights are read once; operations grow with the ``T k / ep`` visits of a rank,
    times ``expert_imbalance`` on the busiest of several: which experts a rank holds, and how often, is the engine's
    doing, and not taken from their popularity. The router and shared experts see the tokens of one data-parallel
    rank.

    Parameters
    ----------
    tokens
        Tokens of all data-parallel ranks, any shape.
    layers
        Layers with such a block.
    """
    model, moe = engine.model, engine.model.moe
    assert moe is not None
    part = moe.experts // engine.ep
    distinct = distinct_experts(part, moe.experts_per_token, moe.experts, tokens, alpha=engine.expert_skew)
    elements = model.expert_parameters / (engine.tp * engine.dp / engine.ep)
    visits = tokens * moe.experts_per_token
    if engine.ep > 1:
        visits = visits / engine.ep * c.engine.expert_imbalance
    experts = grouped_product(
        visits,
        distinct,
        elements,
        model.hidden,
        weight_bytes=engine.weight_bytes_per_element,
        chip=engine.chip,
        kernels=c.kernels.experts(engine.weights, engine.compute_precision),
    )
    own = per_rank(engine, tokens)
    operators = [
        Operator("router", gemm(engine, c, own, model.hidden, moe.experts, quantised=False), layers),
        Operator("experts", experts, layers),
    ]
    if moe.shared_experts:
        shared = dense_operators(engine, c, own, moe.shared_experts * moe.shared_intermediate, layers)
        operators += [replace(operator, name=f"shared experts, {operator.name}") for operator in shared]
    if engine.ep > 1 or engine.dp > 1:
        operators.append(Operator("dispatch and combine", exchange(engine, c, tokens), layers))
    return operators


def exchange(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of bringing tokens to their experts and back.

    Every expert split over all ranks (``ep`` 1): an all-gather of all tokens over the data-parallel ranks, and a
    reduce-scatter. Experts dealt out: an all-to-all each way, in which an accelerator sends its ``T / (tp dp)`` tokens
    once to each of the ``ep (1 − (1 − 1/ep)^k)`` ranks that their k experts lie on, times ``expert_imbalance``; where
    an expert is split, its accelerators gather the tokens that came and reduce-scatter the results.
    """
    model, moe, ep = engine.model, engine.model.moe, engine.ep
    assert moe is not None
    token_bytes = model.hidden * ACTIVATION_BYTES
    if ep == 1:
        everything = tokens * token_bytes
        return all_gather(everything, engine.data_group, c) + reduce_scatter(everything, engine.data_group, c)
    copies = float(distinct_experts(ep, 1.0, ep, np.array(float(moe.experts_per_token)), alpha=0.0))
    sent = np.ceil(tokens / (engine.tp * engine.dp)) * copies * token_bytes * c.engine.expert_imbalance
    work = all_to_all(sent, engine.expert_group, c) * 2
    split = engine.expert_split_group
    arrived = tokens * (copies / ep * c.engine.expert_imbalance) * token_bytes
    return work + all_gather(arrived, split, c) + reduce_scatter(arrived, split, c)
