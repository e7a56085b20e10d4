"""Feed-forward blocks: dense, of two modalities, and mixtures of experts with expert parallelism."""

from __future__ import annotations

import numpy as np

from simulator.performance.coefficients import Coefficients
from simulator.performance.collectives import all_gather, all_to_all, reduce_scatter
from simulator.performance.engine import Engine
from simulator.performance.matrix_product import ACTIVATION_BYTES, gemm
from simulator.performance.roofline import Floats, Work, kernel, stream


def per_rank(engine: Engine, tokens: Floats) -> Floats:
    """Return the tokens of the fullest data-parallel rank when a batch is split evenly."""
    return tokens if engine.dp == 1 else np.ceil(tokens / engine.dp)


def dense_feed_forward(engine: Engine, c: Coefficients, tokens: Floats, width: float) -> Work:
    """Return the work of one feed-forward block of a total inner width, split over the accelerators."""
    inner = width / engine.tp
    up = 2 if engine.model.gated_mlp else 1
    hidden = engine.model.hidden
    return gemm(engine, c, tokens, hidden, up * inner) + gemm(engine, c, tokens, int(inner), hidden)


def second_modality(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return what a second block for the tokens of images adds: its weights are read in steps that hold a prompt.

    Each token is multiplied with one of the two blocks, so the operations are those of one. Steps with more tokens
    than the batch can decode must hold prompt tokens, and are taken to hold some of an image.
    """
    model = engine.model
    weights = model.mlp_parameters(model.intermediate) / engine.tp * engine.weight_bytes_per_element
    moved = np.where(tokens > engine.most_decodes / (engine.dp * engine.pp), weights, 0.0)
    return stream(moved, engine.accelerator.memory_bandwidth_bytes_per_s * c.memory_peak)


def distinct_experts(experts: int, visited: float, of: int, tokens: Floats) -> Floats:
    """Return how many of some experts a batch hits: ``experts · (1 − (1 − visited / of)^tokens)``.

    Parameters
    ----------
    experts
        Experts looked at, e.g. those of one accelerator.
    visited, of
        Experts that a token visits, of how many; routing is uniform.
    tokens
        Tokens of the batch, any shape.
    """
    if visited == of:
        return np.full_like(tokens, experts)
    return np.asarray(experts * -np.expm1(tokens * np.log1p(-visited / of)))


def mixture_feed_forward(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of one mixture-of-experts block on the busiest accelerator, without its all-reduce.

    T tokens of all ranks that visit k of E experts each hit ``E/ep (1 − (1 − k/E)^T)`` distinct ones of the ``E/ep`` on
    a rank, whose weights are read once; operations grow with the ``T k / ep`` visits of a rank, times
    ``expert_imbalance`` on the busiest of several. The router and shared experts see the tokens of one data-parallel
    rank.

    Parameters
    ----------
    tokens
        Tokens of all data-parallel ranks, any shape.
    """
    model, moe = engine.model, engine.model.moe
    assert moe is not None
    distinct = distinct_experts(moe.experts // engine.ep, moe.experts_per_token, moe.experts, tokens)
    elements = model.expert_parameters / (engine.tp * engine.dp / engine.ep)
    visits = tokens * moe.experts_per_token
    if engine.ep > 1:
        visits = visits / engine.ep * c.expert_imbalance
    work = kernel(
        2.0 * visits * elements,
        distinct * elements * engine.weight_bytes_per_element + visits * 2 * model.hidden * ACTIVATION_BYTES,
        engine.flops_per_s * c.gemm_peak,
        engine.accelerator.memory_bandwidth_bytes_per_s * c.memory_peak,
    )
    own = per_rank(engine, tokens)
    work += gemm(engine, c, own, model.hidden, moe.experts, quantised=False)
    if moe.shared_experts:
        work += dense_feed_forward(engine, c, own, moe.shared_experts * moe.shared_intermediate)
    if engine.ep > 1 or engine.dp > 1:
        work += exchange(engine, c, tokens)
    return work


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
    copies = float(distinct_experts(ep, 1.0, ep, np.array(float(moe.experts_per_token))))
    sent = np.ceil(tokens / (engine.tp * engine.dp)) * copies * token_bytes * c.expert_imbalance
    work = all_to_all(sent, engine.expert_group, c) * 2
    split = engine.expert_split_group
    arrived = tokens * (copies / ep * c.expert_imbalance) * token_bytes
    return work + all_gather(arrived, split, c) + reduce_scatter(arrived, split, c)
