"""Products of activations and weights, per accelerator: tiles, waves of tiles, and the weights' way from memory.

A library of kernels multiplies (m × k) · (k × n) in tiles of the result, one on a multiprocessor at a time, and picks
the shape of the tiles, and into how many parts k is split where there are few tiles, for the shortest time. That is
what is done here, too (NVIDIA, "Matrix Multiplication Background User's Guide": tile and wave quantisation).
"""

from __future__ import annotations

from itertools import product as combinations
from typing import Final

import numpy as np

from simulator.catalog import ProductKernels
from simulator.performance.coefficients import Coefficients
from simulator.performance.engine import Engine
from simulator.performance.roofline import Chip, Floats, Work, soft_maximum

ACTIVATION_BYTES = 2.0

TILES: Final = ((64, 64), (64, 128), (128, 64), (128, 128))
"""Rows and columns of the tiles to choose from. Libraries have tiles of 256, too; with them no measurement came out
better."""

SPLITS: Final = (1, 2, 4, 8)
"""Parts that k is split into."""

DEPTH: Final = 64.0
"""Step along k inside a tile."""

PARTIAL_SUM_BYTES: Final = 8.0
"""Writing and reading one partial sum of 32 bits."""

_ROWS, _COLUMNS, _SPLITS = np.array(
    [(*tile, split) for tile, split in combinations(TILES, SPLITS)], dtype=np.float64
).T[:, :, None]


def product(
    m: Floats, k: Floats | float, n: Floats | float, *, weight_bytes: float, chip: Chip, kernels: ProductKernels
) -> Work:
    """Return the work of a product of activations (m × k) and weights (k × n).

    ``latency + (c^s + t^s)^(1/s)`` with t the bytes of weights, inputs and outputs over ``memory_share`` of the
    bandwidth and c the best over tiles a × b and splits p of ::

        waves = ceil(p · ceil(m / a) · ceil(n / b) / multiprocessors)
        c = waves · (2 a b k/p · (1 + tile_loss (64/a + 64/b - 1)) / (compute_share · peak / multiprocessors) + wave)
            + p > 1: 8 p m n bytes of partial sums over the bandwidth

    where k is split only into as many parts as two waves hold. Without tiles c is ``2 m k n / (compute_share · peak)``.

    Parameters
    ----------
    m, k, n
        Rows, inner width and columns, shape (points,) or scalar.
    weight_bytes
        Bytes of one element of the weights.
    chip
        Peaks at the precision that is computed in.
    kernels
        Coefficients.
    """
    flops = 2.0 * m * k * n
    moved = k * n * weight_bytes + m * (k + n) * ACTIVATION_BYTES
    ideal = flops / (chip.flops_per_s * kernels.compute_share)
    compute = ideal
    if kernels.tiled and chip.multiprocessors is not None:
        compute = _best_tiles(m, k, n, chip, chip.multiprocessors, kernels)
    memory = moved / (chip.bytes_per_s * kernels.memory_share)
    seconds = kernels.latency_us * 1e-6 + soft_maximum(compute, memory, kernels.sharpness)
    return Work(seconds, ideal, memory, np.zeros_like(seconds), flops, moved)


def _best_tiles(
    m: Floats, k: Floats | float, n: Floats | float, chip: Chip, multiprocessors: int, kernels: ProductKernels
) -> Floats:
    """Return the seconds of arithmetic with the best tiles and split; axes: (choices, points)."""
    flops_per_s = chip.flops_per_s * kernels.compute_share / multiprocessors
    blocks = _SPLITS * np.ceil(m / _ROWS) * np.ceil(n / _COLUMNS)
    depth = np.ceil(k / (_SPLITS * DEPTH)) * DEPTH
    loss = 1.0 + kernels.tile_loss * (64.0 / _ROWS + 64.0 / _COLUMNS - 1.0)
    one = 2.0 * _ROWS * _COLUMNS * depth * loss / flops_per_s + kernels.wave_us * 1e-6
    partial = np.where(_SPLITS > 1, PARTIAL_SUM_BYTES * _SPLITS, 0.0) * m * n / chip.bytes_per_s
    seconds = np.ceil(blocks / multiprocessors) * one + partial
    useless = (_SPLITS > 1) & (blocks > 2 * multiprocessors)
    return np.asarray(np.min(np.where(useless, np.inf, seconds), axis=0))


def gemm(engine: Engine, c: Coefficients, tokens: Floats, k: float, n: float, *, quantised: bool = True) -> Work:
    """Return the work of (tokens × k) · (k × n) on one accelerator; see :func:`product`.

    Embeddings, output head and routers are not ``quantised``: they stay at 16 bits.
    """
    weight_bytes = engine.weight_bytes_per_element if quantised else 2.0
    chip = engine.chip if quantised else engine.chip_16bit
    kernels = c.kernels.product(engine.compute_precision if quantised else "bf16")
    return product(tokens, k, n, weight_bytes=weight_bytes, chip=chip, kernels=kernels)
