"""Operations and bytes that a model asks for, whatever runs it, in closed form.

A parameter that is multiplied costs two operations a token; a pair of a query and a key ``2 · heads · (qk + v)``
(arXiv:2001.08361, section 2.1, and the attention of arXiv:1706.03762). Left out, so that nothing is counted that some
machine might spare: scans of recurrent layers, norms, activations and their way through memory.
"""

from __future__ import annotations

from simulator.catalog import Model
from simulator.performance.engine import BYTES_PER_ELEMENT
from simulator.performance.explanation import window_pairs

ACTIVATION_BYTES = 2.0
"""Bytes of a number of the residual stream."""


def pair_flops(model: Model) -> float:
    """Return the operations of a (query, key) pair in one layer: ``2 · heads · (qk + v)``."""
    return 2.0 * model.attention_heads * (model.attention_qk_dim + model.attention_v_dim)


def prompt_flops(model: Model, tokens: int) -> float:
    """Return the operations of reading a prompt: ``2 · parameters · tokens``, its pairs, and one token's scores."""
    body = model.multiplied_parameters_per_token - model.head_parameters
    pairs = model.growing_layers * tokens * (tokens + 1) / 2
    if model.window:
        pairs += model.window_layers * window_pairs(tokens, 0, model.window.window_tokens)
    return 2.0 * body * tokens + 2.0 * model.head_parameters + pairs * pair_flops(model)


def seen_tokens(model: Model, context_tokens: float) -> float:
    """Return the keys that a token with so many before it sees, summed over the layers."""
    seen = context_tokens + 1
    window = model.window.window_tokens if model.window else 0
    return model.growing_layers * seen + model.window_layers * min(seen, window)


def decode_flops(model: Model, context_tokens: float) -> float:
    """Return the operations of one token of an answer with so much context stored."""
    return 2.0 * model.multiplied_parameters_per_token + seen_tokens(model, context_tokens) * pair_flops(model)


def kv_bytes(model: Model, kv: str, context_tokens: float) -> float:
    """Return the KV of so many tokens of context, bytes; windows hold no more than they see."""
    window = model.window.window_tokens if model.window else 0
    held = model.growing_layers * context_tokens + model.window_layers * min(context_tokens, window)
    return held * model.kv_elements_per_token_per_layer * BYTES_PER_ELEMENT[kv]


def weight_bytes(model: Model, weights: str) -> float:
    """Return all weights, bytes; embeddings and output head have 16 bits."""
    tables = model.embedding_parameters + (0 if model.tied_embeddings else model.head_parameters)
    return (model.parameters - tables) * BYTES_PER_ELEMENT[weights] + 2.0 * tables


def read_weight_bytes(model: Model, weights: str, tokens: float) -> float:
    """Return the weights that a step of so many tokens reads at least once, bytes.

    Of E experts of which a token visits k, T tokens hit ``E (1 − (1 − k/E)^T)`` distinct ones if all are as popular.
    """
    body = model.multiplied_parameters_per_token - model.head_parameters
    if model.moe:
        visited, experts = model.moe.experts_per_token, model.moe.experts
        distinct = experts * (1.0 - (1.0 - visited / experts) ** tokens)
        body += model.moe_layers * (distinct - visited) * model.expert_parameters
    return body * BYTES_PER_ELEMENT[weights] + 2.0 * model.head_parameters


def sent_bytes(model: Model, tokens: float, tp: int) -> float:
    """Return what each of ``tp`` accelerators that share every layer sends for so many tokens, bytes.

    Mixer and feed-forward block of a layer each end in an all-reduce of the residual stream (arXiv:1909.08053). In one
    of n bytes each of P participants sends ``(P − 1)/P · n`` at least, if switches add up; ``2 (P − 1)/P · n`` if
    they do not (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009).
    """
    halves = model.attention_layers + model.state_space_layers + model.feed_forward_layers
    return halves * (tp - 1) / tp * tokens * model.hidden * ACTIVATION_BYTES
