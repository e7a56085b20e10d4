"""Products of activations and weights, per accelerator."""

from __future__ import annotations

from simulator.performance.coefficients import Coefficients
from simulator.performance.engine import Engine
from simulator.performance.roofline import Floats, Work, kernel

ACTIVATION_BYTES = 2.0


def gemm(engine: Engine, c: Coefficients, tokens: Floats, k: float, n: float, *, quantised: bool = True) -> Work:
    """Return the work of (tokens × k) · (k × n): ``2 tokens k n`` operations; weights and activations move.

    Embeddings, output head and routers are not ``quantised``: they stay at 16 bits.
    """
    weight_bytes = engine.weight_bytes_per_element if quantised else 2.0
    flops_per_s = engine.flops_per_s if quantised else engine.flops_16bit_per_s
    return kernel(
        2.0 * tokens * k * n,
        k * n * weight_bytes + tokens * (k + n) * ACTIVATION_BYTES,
        flops_per_s * c.gemm_peak,
        engine.accelerator.memory_bandwidth_bytes_per_s * c.memory_peak,
    )
