"""Experts that a batch visits, and products of tokens with them, all experts in one launch.

Routing may be skewed (``expert_skew`` of a pool, α): loads of experts have the density ``x^(−α)`` between 1 and 0.8 T,
scaled to T k visits of which no token makes two to one expert. That is the law of the skewed rows in aiconfigurator's
tables of experts (``power_law_logits_v3`` of its collector): α = 1.2 for most mixtures, after Qwen3-235B on some of its
data, 1.01 for DeepSeek-R1. α = 0 is uniform routing, which training aims at: Llama-4-Scout's steps under vLLM are those
of uniformly visited experts. Prompts of random tokens, as benchmarks send them, are unlike what was trained on.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from simulator.catalog import GroupedKernels
from simulator.performance.matrix_product import ACTIVATION_BYTES
from simulator.performance.roofline import Chip, Floats, Work, soft_maximum

ALPHA: Final = 1.2
"""Exponent of the loads of experts in most skewed measurements."""

LARGEST_LOAD: Final = 0.8
"""Load of the busiest expert over the tokens of a batch, where that of the quietest is 1, before they are scaled."""

_KNOTS: Final = np.unique(np.round(2.0 ** np.arange(0.0, 20.01, 0.25)))


def popularity(experts: int, visited: float, tokens: float, alpha: float = 0.0) -> Floats:
    """Return how likely a token of a batch visits each expert, the most popular first; they sum to ``visited``.

    Parameters
    ----------
    experts, visited
        How many there are, and how many a token visits.
    tokens
        Tokens of the batch.
    alpha
        Exponent of the density of loads; 0 for balanced routing.
    """
    if alpha == 0.0:
        return np.full(experts, visited / experts)
    ranks = np.arange(experts)
    quantiles = 1.0 - (ranks + 0.5) / experts
    largest, power = max(2.0, LARGEST_LOAD * tokens), 1.0 - alpha
    loads = largest**quantiles if power == 0.0 else (1.0 + (largest**power - 1.0) * quantiles) ** (1.0 / power)
    rest = np.cumsum(loads[::-1])[::-1]
    always = int(np.argmax((visited - ranks) * loads <= rest))  # so many experts are visited by every token
    found = np.ones(experts)
    found[always:] = np.minimum(1.0, (visited - always) * loads[always:] / rest[always])
    return found


def distinct_experts(experts: float, visited: float, of: int, tokens: Floats, alpha: float = 0.0) -> Floats:
    """Return how many of some experts a batch hits: ``experts / of · Σ 1 − (1 − p)^tokens``, summed over all.

    p is how likely a token visits an expert (:func:`popularity`). With balanced routing (``alpha`` 0) that is
    ``experts · (1 − (1 − visited / of)^tokens)``.

    Parameters
    ----------
    experts
        Experts looked at, e.g. those of one accelerator, which are as popular as the others in the mean.
    visited, of
        Experts that a token visits, of how many.
    tokens
        Tokens of the batch, any shape.
    alpha
        As of :func:`popularity`.
    """
    if visited == of:
        return np.full_like(tokens, experts)
    if alpha == 0.0:
        return np.asarray(experts * -np.expm1(tokens * np.log1p(-visited / of)))
    return np.asarray(experts / of * np.interp(tokens, *_distinct(visited, of, alpha)))


@lru_cache(maxsize=256)
def _distinct(visited: float, of: int, alpha: float) -> tuple[Floats, Floats]:
    """Return numbers of tokens, and how many of all experts so many hit."""
    hit = [float((1.0 - (1.0 - popularity(of, visited, tokens, alpha)) ** tokens).sum()) for tokens in _KNOTS.tolist()]
    return np.append(0.0, _KNOTS), np.append(0.0, hit)


def grouped_product(
    visits: Floats,
    distinct: Floats,
    elements: Floats | float,
    hidden: Floats | float,
    *,
    weight_bytes: float,
    chip: Chip,
    kernels: GroupedKernels,
) -> Work:
    """Return the work of the matrices of one mixture of experts.

    ``latency + (c^s + t^s)^(1/s)``: t reads the weights of the visited experts once, and an input and an output vector
    for each visit; c is ``2 · elements · (visits + padded_rows · distinct)`` operations, because every expert's rows
    are filled up to whole tiles.

    Parameters
    ----------
    visits
        Pairs of a token and one of its experts, any shape.
    distinct
        Experts visited by at least one token, same shape.
    elements
        Elements of one expert's matrices on this accelerator, scalar or same shape.
    hidden
        Width of a token, scalar or same shape.
    weight_bytes
        Bytes of one element.
    """
    flops = 2.0 * elements * visits
    moved = distinct * elements * weight_bytes + visits * 2 * hidden * ACTIVATION_BYTES
    flops_per_s = chip.flops_per_s * kernels.compute_share
    padding = 2.0 * elements * kernels.padded_rows * distinct
    memory = moved / (chip.bytes_per_s * kernels.memory_share)
    seconds = kernels.latency_us * 1e-6 + soft_maximum((flops + padding) / flops_per_s, memory, kernels.sharpness)
    return Work(seconds, flops / flops_per_s, memory, 0.0 * seconds, flops, moved)
