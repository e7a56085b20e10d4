"""Everything the kernel and the metrics need to know about a client's steps, in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.performance.adapters import adapter_load_s, adapter_read_s
from simulator.performance.attention import (
    decode_attention,
    decode_sequence_s,
    decode_step_s,
    prefill_s_per_pair,
    prefill_s_per_read,
    window_attention,
    window_s_per_pair,
)
from simulator.performance.coefficients import Coefficients, coefficients_of
from simulator.performance.engine import Engine
from simulator.performance.layers import layers, output_head
from simulator.performance.lookup import lookup_s
from simulator.performance.roofline import Floats, Work, wait
from simulator.performance.speculation import draft_cost
from simulator.performance.state_space import sequence_state


@dataclass(frozen=True)
class StepCost:
    """Cost of a step as ``linear(tokens) + sequences(sequences) + attention + what decoding and adapters add``.

    Attributes
    ----------
    linear
        Work of token-wise operators at given numbers of tokens, adapters' products included.
    sequences
        Work of the output head, recurrent states and per-sequence overhead for 0 … 1024 sequences.
    decode_s, decode_compute_s, decode_memory_s
        Time per token of context of a decoding request, and that of each resource alone; a draft model's included.
    window_s, window_compute_s, window_memory_s
        The same per token of the window of a decoding request, in layers that see only a window.
    prefill_pair_s, prefill_read_s
        Time per (query, key) pair of a prompt, and per earlier token whose KV a chunk reads.
    window_pair_s
        Time per pair within the window, in layers that see only a window.
    decode_step_s, decode_sequence_s
        Time that a step with decodes takes longer, and that for each decoding sequence: attention beside its context,
        drafting and lookups.
    adapter_s, adapter_load_s
        Time that each different adapter adds to a step, and that of bringing one from host memory.
    """

    linear: Work
    sequences: Work
    decode_s: float
    decode_compute_s: float
    decode_memory_s: float
    prefill_pair_s: float
    prefill_read_s: float
    window_s: float = 0.0
    window_compute_s: float = 0.0
    window_memory_s: float = 0.0
    window_pair_s: float = 0.0
    decode_step_s: float = 0.0
    decode_sequence_s: float = 0.0
    adapter_s: float = 0.0
    adapter_load_s: float = 0.0


def step_cost(engine: Engine, tokens: Floats, sequences: Floats, c: Coefficients | None = None) -> StepCost:
    """Return the cost of an engine's steps.

    Parameters
    ----------
    tokens, sequences
        Where to evaluate the token-wise and the per-sequence work, shapes (n,) and (m,).
    c
        Coefficients; those of the accelerator and the engine if absent.
    """
    c = c or coefficients_of(engine.accelerator, engine.profile, engine.accelerators, engine.kernels)
    decode, window, draft = decode_attention(engine, c), window_attention(engine, c), draft_cost(engine, c)
    lookup_step_s, lookup_sequence_s = lookup_s(engine.lookup) if engine.lookup else (0.0, 0.0)
    each = output_head(engine, c, sequences)
    if engine.model.ssm:
        each += sequence_state(engine, c, sequences)
    return StepCost(
        linear=layers(engine, c, np.maximum(tokens, 1.0)) + wait(c.engine.step_s, tokens),
        sequences=each,
        decode_s=decode.seconds + draft.context_s,
        decode_compute_s=decode.compute_s + draft.context_compute_s,
        decode_memory_s=decode.memory_s + draft.context_memory_s,
        prefill_pair_s=prefill_s_per_pair(engine, c),
        prefill_read_s=prefill_s_per_read(engine, c),
        window_s=window.seconds,
        window_compute_s=window.compute_s,
        window_memory_s=window.memory_s,
        window_pair_s=window_s_per_pair(engine, c),
        decode_step_s=decode_step_s(engine, c) + draft.step_s + lookup_step_s,
        decode_sequence_s=decode_sequence_s(engine, c) + draft.sequence_s + lookup_sequence_s,
        adapter_s=adapter_read_s(engine, c),
        adapter_load_s=adapter_load_s(engine),
    )
