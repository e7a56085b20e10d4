"""Attention over the KV cache, per accelerator and for all layers: affine in pairs and in context."""

from __future__ import annotations

from simulator.performance.coefficients import Coefficients
from simulator.performance.engine import Engine


def decode_s_per_context_token(engine: Engine, c: Coefficients) -> tuple[float, float, float]:
    """Return time, compute time and memory time per token of context that a decoding request attends to.

    Memory: its KV is read once. Compute: ``2 heads (qk + v)`` operations a layer; a latent (MLA) is attended to
    in absorbed form, ``qk = rank + rope`` and ``v = rank`` (arXiv:2405.04434, section 2.1.2).
    """
    model = engine.model
    if model.mla:
        widths = 2 * model.mla.kv_lora_rank + model.mla.qk_rope_head_dim
    else:
        widths = model.attention_qk_dim + model.attention_v_dim
    compute = model.layers * 2 * engine.heads * widths / (engine.flops_16bit_per_s * c.attention_peak)
    rate = engine.accelerator.memory_bandwidth_bytes_per_s * c.memory_peak
    memory = engine.kv_bytes_per_token / rate
    return max(compute, memory), compute, memory


def prefill_s_per_pair(engine: Engine, c: Coefficients) -> float:
    """Return the time per (query, key) pair of a prompt: ``2 heads (qk + v)`` operations a layer."""
    model = engine.model
    flops = model.layers * 2 * engine.heads * (model.attention_qk_dim + model.attention_v_dim)
    return flops / (engine.flops_16bit_per_s * c.attention_peak)


def prefill_s_per_read(engine: Engine, c: Coefficients) -> float:
    """Return the time to read one token's KV, the floor of a chunk's attention to earlier context."""
    return engine.kv_bytes_per_token / (engine.accelerator.memory_bandwidth_bytes_per_s * c.memory_peak)
