"""State-space layers per accelerator: projections, convolution and scan of the tokens, state of the sequences.

Heads are split over the tensor-parallel accelerators as attention heads are; groups of B and C are replicated where
there are more accelerators than groups.
"""

from __future__ import annotations

from simulator.catalog import StateSpace
from simulator.performance.coefficients import Coefficients
from simulator.performance.engine import Engine
from simulator.performance.matrix_product import ACTIVATION_BYTES, gemm
from simulator.performance.roofline import Floats, Work, kernel


def _shard(ssm: StateSpace, tp: int) -> tuple[float, float]:
    """Return the inner width and the width of B and C on one accelerator."""
    return ssm.inner / tp, 2.0 * max(1, ssm.groups // tp) * ssm.state


def projections(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of the matrix products of one layer (Mamba-2: arXiv:2405.21060, section 7; Mamba: 2312.00752)."""
    model, ssm = engine.model, engine.model.ssm
    assert ssm is not None
    inner, shared = _shard(ssm, engine.tp)
    out = gemm(engine, c, tokens, inner, model.hidden)
    if ssm.dt_rank is None:
        return gemm(engine, c, tokens, model.hidden, 2 * inner + shared + ssm.heads / engine.tp) + out
    steps = gemm(engine, c, tokens, inner, ssm.dt_rank + 2 * ssm.state) + gemm(engine, c, tokens, ssm.dt_rank, inner)
    return gemm(engine, c, tokens, model.hidden, 2 * inner) + steps + out


def scan_flops_per_token(ssm: StateSpace) -> float:
    """Return the operations of one layer's scan for one token.

    Mamba-2, in chunks of Q tokens (section 6): scores ``2 groups Q N`` and weighting ``2 Q inner`` inside a chunk,
    ``2 N inner`` into the chunk's state and ``2 N inner`` out of it. Mamba: ``6 N inner`` for decay, input and output
    of the recurrence. A decoded token of Mamba-2 needs less; there the weights decide.
    """
    if ssm.dt_rank is not None:
        return 6.0 * ssm.state * ssm.inner
    return 2.0 * ssm.chunk_tokens * (ssm.groups * ssm.state + ssm.inner) + 4.0 * ssm.state * ssm.inner


def scan(engine: Engine, c: Coefficients, tokens: Floats) -> Work:
    """Return the work of convolution, scan and gated norm of one layer.

    Bytes: the convolution reads and writes its channels, the scan reads them and writes the inner vector, the norm
    reads it and the gate and writes one.
    """
    ssm = engine.model.ssm
    assert ssm is not None
    inner, shared = _shard(ssm, engine.tp)
    channels = inner + (shared if ssm.dt_rank is None else 0.0)
    return kernel(
        tokens * (scan_flops_per_token(ssm) / engine.tp + 2.0 * ssm.conv * channels),
        tokens * (3 * channels + 4 * inner) * ACTIVATION_BYTES,
        engine.flops_16bit_per_s * c.kernels.attention.prefill_compute_share,
        engine.accelerator.memory_bandwidth_bytes_per_s * c.kernels.memory_share,
    )


def state_bytes_per_layer(engine: Engine) -> float:
    """Return what one sequence keeps of one layer on one accelerator, bytes."""
    return sharded_state_bytes(engine.model.ssm, engine.tp) if engine.model.ssm else 0.0


def sharded_state_bytes(ssm: StateSpace, tp: int) -> float:
    """Return what one sequence keeps of one layer on one of so many tensor-parallel accelerators, bytes.

    The recurrent state, ``N`` elements for each inner channel, and the last ``conv − 1`` inputs of the convolution.
    """
    inner, shared = _shard(ssm, tp)
    channels = inner + (shared if ssm.dt_rank is None else 0.0)
    return inner * ssm.state * ssm.state_bytes_per_element + channels * (ssm.conv - 1) * ACTIVATION_BYTES


def sequence_state(engine: Engine, c: Coefficients, sequences: Floats) -> Work:
    """Return the work of reading and writing the state of so many sequences in a step, in all layers."""
    moved = 2.0 * engine.model.state_space_layers * state_bytes_per_layer(engine) * sequences
    seconds = moved / (engine.accelerator.memory_bandwidth_bytes_per_s * c.kernels.memory_share)
    zero = seconds * 0.0
    busy = seconds / (engine.pp * engine.dp)
    return Work(seconds * engine.attention_share, zero, busy, zero, zero, moved / (engine.pp * engine.dp))
