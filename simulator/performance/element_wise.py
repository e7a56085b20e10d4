"""Kernels that pass over the activations of a layer: norms with residuals, rotary embedding, activation."""

from __future__ import annotations

from typing import Final

from simulator.catalog import StreamKernels
from simulator.performance.coefficients import Coefficients
from simulator.performance.engine import Engine
from simulator.performance.matrix_product import ACTIVATION_BYTES
from simulator.performance.roofline import Floats, Work, stream, wait

EIGHT_BITS: Final = ("fp8", "int8")
"""Precisions whose products take activations that a kernel before them has quantised."""


def pass_over(elements: Floats, bytes_per_s: float, kernels: StreamKernels) -> Work:
    """Return the work of reading and writing so many 16-bit elements: ``latency + bytes / (memory_share · peak)``.

    Parameters
    ----------
    elements
        Elements read and written, any shape.
    bytes_per_s
        Peak memory bandwidth.
    """
    return stream(elements * ACTIVATION_BYTES, bytes_per_s * kernels.memory_share, kernels.latency_us * 1e-6)


def norm_elements(hidden: float) -> float:
    """Return the elements per token of a norm with residual: both vectors are read and written."""
    return 4.0 * hidden


def rotary_elements(heads: float, kv_heads: float, head_dim: float) -> float:
    """Return the elements per token of the rotary embedding: queries and keys are read and written."""
    return 2.0 * (heads + kv_heads) * head_dim


def activation_elements(inner: Floats | float) -> Floats | float:
    """Return the elements per token of the activation: two inner vectors are read, one is written."""
    return 3.0 * inner


def quantised_elements(width: Floats | float) -> Floats | float:
    """Return the elements per row of quantising to 8 bits, in units of 16 bits: 16 are read, 8 are written."""
    return 1.5 * width


def norm(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of one norm with residual."""
    bandwidth = engine.accelerator.memory_bandwidth_bytes_per_s
    return pass_over(tokens * norm_elements(engine.model.hidden), bandwidth, c.kernels.norm)


def rotary(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of the rotary embedding of one layer."""
    bandwidth = engine.accelerator.memory_bandwidth_bytes_per_s
    elements = rotary_elements(engine.heads, engine.kv_heads, engine.model.head_dim)
    return pass_over(tokens * elements, bandwidth, c.kernels.rotary)


def activation(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of the activation of one feed-forward block, of all experts that a token visits in a mixture."""
    moe = engine.model.moe
    inner = moe.experts_per_token * moe.expert_intermediate if moe else engine.model.intermediate
    bandwidth = engine.accelerator.memory_bandwidth_bytes_per_s
    return pass_over(tokens * (activation_elements(inner) / engine.tp), bandwidth, c.kernels.activation)


def quantise(engine: Engine, c: Coefficients, tokens: Floats, width: float) -> Work:
    """Return the work of quantising the inputs of a product of 8 bits: rows of so many 16-bit elements.

    Nothing where the product is not of 8 bits, or where its coefficients hold it (``KernelProfile.quantise``).
    """
    if c.kernels.quantise is None or engine.compute_precision not in EIGHT_BITS:
        return wait(0.0, tokens)
    bandwidth = engine.accelerator.memory_bandwidth_bytes_per_s
    return pass_over(tokens * quantised_elements(width), bandwidth, c.kernels.quantise)
