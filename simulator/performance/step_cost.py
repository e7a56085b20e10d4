"""Everything the kernel and the metrics need to know about a client's steps, in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.performance.attention import (
    decode_s_per_context_token,
    prefill_s_per_pair,
    prefill_s_per_read,
)
from simulator.performance.coefficients import BY_HAND, Coefficients
from simulator.performance.engine import Engine
from simulator.performance.layers import layers, output_head
from simulator.performance.roofline import Floats, Work, wait


@dataclass(frozen=True)
class StepCost:
    """Cost of a step as ``linear(tokens) + sequences(sequences) + attention``.

    Attributes
    ----------
    linear
        Work of token-wise operators at given numbers of tokens.
    sequences
        Work of the output head and per-sequence overhead for 0 … 1024 sequences.
    decode_s, decode_compute_s, decode_memory_s
        Time per token of context of a decoding request, and that of each resource alone.
    prefill_pair_s, prefill_read_s
        Time per (query, key) pair of a prompt, and per earlier token whose KV a chunk reads.
    """

    linear: Work
    sequences: Work
    decode_s: float
    decode_compute_s: float
    decode_memory_s: float
    prefill_pair_s: float
    prefill_read_s: float


def step_cost(engine: Engine, tokens: Floats, sequences: Floats, c: Coefficients = BY_HAND) -> StepCost:
    """Return the cost of an engine's steps.

    Parameters
    ----------
    tokens, sequences
        Where to evaluate the token-wise and the per-sequence work, shapes (n,) and (m,).
    """
    decode, decode_compute, decode_memory = decode_s_per_context_token(engine, c)
    return StepCost(
        linear=layers(engine, c, np.maximum(tokens, 1.0)) + wait(c.step_s, tokens),
        sequences=output_head(engine, c, sequences),
        decode_s=decode,
        decode_compute_s=decode_compute,
        decode_memory_s=decode_memory,
        prefill_pair_s=prefill_s_per_pair(engine, c),
        prefill_read_s=prefill_s_per_read(engine, c),
    )
