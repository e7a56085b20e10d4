"""Attention over the KV cache, per accelerator and for all layers: affine in pairs and in context.

With data parallelism each rank has its share of the batch; with pipeline stages the one with most layers counts, which
works on all micro-batches one after the other (``Engine.attention_share``).
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.performance.coefficients import Coefficients
from simulator.performance.engine import Engine


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
    """Return the time per token of context for so many layers.

    Memory: its KV is read once. Compute: ``2 heads (qk + v)`` operations a layer; a latent (MLA) is attended to
    in absorbed form, ``qk = rank + rope`` and ``v = rank`` (arXiv:2405.04434, section 2.1.2).
    """
    model = engine.model
    if model.mla:
        widths = 2 * model.mla.kv_lora_rank + model.mla.qk_rope_head_dim
    else:
        widths = model.attention_qk_dim + model.attention_v_dim
    compute = layers * 2 * engine.heads * widths / (engine.flops_16bit_per_s * c.attention_peak)
    rate = engine.accelerator.memory_bandwidth_bytes_per_s * c.memory_peak
    memory = layers * engine.kv_bytes_per_token_per_layer / rate
    sharers = engine.pp * engine.dp
    return ContextTime(max(compute, memory) * engine.attention_share, compute / sharers, memory / sharers)


def prefill_s_per_pair(engine: Engine, c: Coefficients) -> float:
    """Return the time per (query, key) pair of a prompt in the layers that see all: ``2 heads (qk + v)`` operations."""
    return _pair_s(engine, c, engine.model.growing_layers)


def window_s_per_pair(engine: Engine, c: Coefficients) -> float:
    """Return the time per (query, key) pair within the window of a prompt in the layers that see only a window."""
    return _pair_s(engine, c, engine.model.window_layers)


def _pair_s(engine: Engine, c: Coefficients, layers: int) -> float:
    model = engine.model
    flops = layers * 2 * engine.heads * (model.attention_qk_dim + model.attention_v_dim)
    return flops / (engine.flops_16bit_per_s * c.attention_peak) * engine.attention_share


def prefill_s_per_read(engine: Engine, c: Coefficients) -> float:
    """Return the time to read one token's growing KV, the floor of a chunk's attention to earlier context."""
    moved = engine.model.growing_layers * engine.kv_bytes_per_token_per_layer
    return moved / (engine.accelerator.memory_bandwidth_bytes_per_s * c.memory_peak) * engine.attention_share
