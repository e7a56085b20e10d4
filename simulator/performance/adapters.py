"""Low-rank adapters (LoRA, arXiv:2106.09685) served beside a model.

A batch's tokens are multiplied with the matrices of their own adapters (SGMV of Punica, arXiv:2310.18547; S-LoRA,
arXiv:2311.03285), which are split over the tensor-parallel accelerators as the weights they belong to; the small
collectives of S-LoRA (section 6.2) are left out. Routed experts and the output head have no adapters.
"""

from __future__ import annotations

from typing import Final

from simulator import catalog
from simulator.catalog import Model
from simulator.performance.coefficients import Coefficients
from simulator.performance.engine import Engine
from simulator.performance.matrix_product import ACTIVATION_BYTES
from simulator.performance.pipeline import Stage
from simulator.performance.roofline import Floats, Work, kernel, wait

ADAPTER_BYTES_PER_ELEMENT: Final = 2.0
"""Adapters stay at 16 bits whatever the weights are."""

HOST_BYTES_PER_S: Final = 25e9
"""Copies from host memory to one accelerator where nothing else is said, bytes per second, by hand: PCIe 4.0 x16 has
31.5e9 raw and about 25e9 in bandwidth tests."""

Shape = tuple[int, int]


def attention_matrices(model: Model) -> list[Shape]:
    """Return (input, output) of the matrices of one layer's attention."""
    hidden, heads, mla = model.hidden, model.attention_heads, model.mla
    if mla is None:
        queries, keys = heads * model.head_dim, model.kv_heads * model.head_dim
        return [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
    queries = heads * model.attention_qk_dim
    into = [(hidden, queries)]
    if mla.q_lora_rank is not None:
        into = [(hidden, mla.q_lora_rank), (mla.q_lora_rank, queries)]
    return [
        *into,
        (hidden, mla.kv_lora_rank + mla.qk_rope_head_dim),
        (mla.kv_lora_rank, heads * (mla.qk_nope_head_dim + mla.v_head_dim)),
        (heads * mla.v_head_dim, hidden),
    ]


def feed_forward_matrices(model: Model, width: int) -> list[Shape]:
    """Return (input, output) of the matrices of a dense feed-forward block of an inner width."""
    return [(model.hidden, width)] * (2 if model.gated_mlp else 1) + [(width, model.hidden)]


def state_space_matrices(model: Model) -> list[Shape]:
    """Return (input, output) of the projections into and out of a state-space layer."""
    ssm = model.ssm
    if ssm is None:
        return []
    into = 2 * ssm.inner + (ssm.shared + ssm.heads if ssm.dt_rank is None else 0)
    return [(model.hidden, into), (ssm.inner, model.hidden)]


def adapted(model: Model, stage: Stage) -> list[tuple[Shape, float]]:
    """Return the adapted matrices of a stage and how often each occurs."""
    shared = model.moe.shared_experts * model.moe.shared_intermediate if model.moe else 0
    kinds = [
        (attention_matrices(model), stage.attention),
        (state_space_matrices(model), stage.state_space),
        (feed_forward_matrices(model, model.intermediate), stage.dense),
        (feed_forward_matrices(model, shared) if shared else [], stage.mixture),
    ]
    return [(shape, count) for shapes, count in kinds for shape in shapes if count]


def adapter_bytes(engine: Engine, stage: Stage) -> float:
    """Return the memory of one adapter on one accelerator of a stage: ``Σ r (input + output)`` elements over tp."""
    if engine.adapters is None:
        return 0.0
    elements = sum(count * engine.adapters.rank * sum(shape) for shape, count in adapted(engine.model, stage))
    return elements * ADAPTER_BYTES_PER_ELEMENT / engine.tp


def adapter_products(engine: Engine, c: Coefficients, tokens: Floats, stage: Stage) -> Work:
    """Return the token-wise work of adapters in a stage: ``2 r (input + output)`` operations a matrix and token.

    Every token is taken to have an adapter. Bytes are the activations; adapters themselves are read once each in a
    step, see :func:`adapter_read_s`. Kernels are launched within the graph of the step.
    """
    work = wait(0.0, tokens)
    assert engine.adapters is not None
    rank = engine.adapters.rank
    for (rows, columns), count in adapted(engine.model, stage):
        width = (rows + columns) / engine.tp
        work += (
            kernel(
                2.0 * tokens * rank * width,
                tokens * (width + 2 * rank) * ACTIVATION_BYTES,
                engine.flops_16bit_per_s * c.kernels.product("bf16").compute_share,
                engine.accelerator.memory_bandwidth_bytes_per_s * c.kernels.memory_share,
            )
            * count
        )
    return work


def adapter_read_s(engine: Engine, c: Coefficients) -> float:
    """Return the time that each different adapter adds to a step: reading it once, on the stage with most of it.

    With pp stages an adapter is read for every micro-batch that holds one of its sequences; one is assumed.
    """
    most = max(adapter_bytes(engine, stage) for stage in engine.stages)
    return most / (engine.accelerator.memory_bandwidth_bytes_per_s * c.kernels.memory_share)


def adapter_load_s(engine: Engine) -> float:
    """Return the time to bring an adapter that has no slot to the accelerators.

    From host memory every accelerator loads its part at the same time, over a link of its own. From a catalogued
    memory, or at a given bandwidth, the whole adapter passes one link: ``latency + bytes / bandwidth``.

    Raises
    ------
    SpecError
        If the catalogue has no such memory.
    """
    adapters = engine.adapters
    if adapters is None:
        return 0.0
    memory = catalog.tier(adapters.memory) if adapters.memory else None
    gb_per_s = adapters.gb_per_s or (memory.gb_per_s if memory else None)
    latency_us = adapters.latency_us
    if latency_us is None:
        latency_us = memory.latency_us if memory else 0.0
    parts = [adapter_bytes(engine, stage) for stage in engine.stages]
    moving_s = max(parts) / HOST_BYTES_PER_S if gb_per_s is None else sum(parts) * engine.tp / (gb_per_s * 1e9)
    return latency_us * 1e-6 + moving_s
