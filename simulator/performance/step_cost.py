"""Everything the kernel and the metrics need to know about a client's steps, in seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simulator.performance.adapters import adapter_bytes, adapter_load_s, adapter_read_s
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
from simulator.performance.mixed_pipeline import (
    coefficients,
    last_sequences,
    micro_batches,
    mixed_layers,
    stage_part,
)
from simulator.performance.pipeline import Stage
from simulator.performance.roofline import Floats, Work, wait
from simulator.performance.speculation import DraftCost, draft_cost
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
        Coefficients; those of the accelerator and the engine if absent. Where pipeline stages have different
        accelerators, each stage has its own.
    """
    if engine.stage_accelerators is not None:
        return _slowest_stages(engine, tokens, sequences)
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


def stage_cost(own: Engine, stage: Stage, tokens: Floats, sequences: Floats) -> StepCost:
    """Return how long a pipeline stage works on all micro-batches of steps.

    The engine's own time for a step and lookups are not in it, nor is what a stage waits for others. The last stage has
    the output head, sampling and the draft model. Figures of single resources are those of the stage.

    Parameters
    ----------
    own
        The engine as if all its accelerators were those of the stage.
    stage
        The stage's layers: any number, not necessarily one of the engine's.
    tokens, sequences
        Tokens and sequences of whole steps, as for :func:`step_cost`.
    """
    at = np.maximum(tokens, 1.0)
    count = micro_batches(own, at)
    c = coefficients(own)
    decode, window = decode_attention(own, c), window_attention(own, c)
    # Attention of an engine is that of the stage with most layers; its means are over all stages.
    part = stage.layers / max(each.layers for each in own.stages)
    mean_part = stage.layers / own.model.layers * own.pp
    each = wait(0.0, sequences)
    if own.model.ssm:
        state = sequence_state(own, c, sequences)
        each += replace(state * mean_part, seconds=state.seconds * part)
    draft = DraftCost()
    if stage.last:
        head = last_sequences(own, sequences)
        each += replace(head * float(own.pp), seconds=head.seconds)
        draft = draft_cost(own, c)
    most_adapted = max(adapter_bytes(own, other) for other in own.stages)
    return StepCost(
        linear=stage_part(own, stage, np.ceil(at / count)) * count,
        sequences=each,
        decode_s=decode.seconds * part + draft.context_s,
        decode_compute_s=decode.compute_s * mean_part + draft.context_compute_s,
        decode_memory_s=decode.memory_s * mean_part + draft.context_memory_s,
        prefill_pair_s=prefill_s_per_pair(own, c) * part,
        prefill_read_s=prefill_s_per_read(own, c) * part,
        window_s=window.seconds * part,
        window_compute_s=window.compute_s * mean_part,
        window_memory_s=window.memory_s * mean_part,
        window_pair_s=window_s_per_pair(own, c) * part,
        decode_step_s=decode_step_s(own, c) * part + draft.step_s,
        decode_sequence_s=decode_sequence_s(own, c) * part + draft.sequence_s,
        adapter_s=adapter_read_s(own, c) * adapter_bytes(own, stage) / most_adapted if most_adapted else 0.0,
        adapter_load_s=adapter_load_s(own),
    )


def _slowest_stages(engine: Engine, tokens: Floats, sequences: Floats) -> StepCost:
    """Return the cost of steps of a pipeline whose stages have different accelerators.

    A step lasts as long as the stage that works longest on it, and which one that is differs between steps. The kernel
    adds up costs that are affine in contexts and pairs, so each coefficient is the largest of any stage: no smaller
    ones are right for every step. It is exact where one stage is the slowest in all of them, and never too short.
    """
    own_stages = zip(engine.stages, engine.stage_engines, strict=True)
    stages = [stage_cost(own, stage, tokens, sequences) for stage, own in own_stages]
    step_s = max(coefficients(own).engine.step_s for own in engine.stage_engines)
    lookup_step_s, lookup_sequence_s = lookup_s(engine.lookup) if engine.lookup else (0.0, 0.0)

    def largest(name: str) -> float:
        return float(max(getattr(stage, name) for stage in stages))

    def mean(name: str) -> float:
        return float(sum(getattr(stage, name) for stage in stages)) / len(stages)

    each = stages[0].sequences
    for stage in stages[1:]:
        each += stage.sequences
    longest = np.max([stage.sequences.seconds for stage in stages], axis=0)
    return StepCost(
        linear=mixed_layers(engine, np.maximum(tokens, 1.0)) + wait(step_s, tokens),
        sequences=replace(each * (1.0 / len(stages)), seconds=longest),
        decode_s=largest("decode_s"),
        decode_compute_s=mean("decode_compute_s"),
        decode_memory_s=mean("decode_memory_s"),
        prefill_pair_s=largest("prefill_pair_s"),
        prefill_read_s=largest("prefill_read_s"),
        window_s=largest("window_s"),
        window_compute_s=mean("window_compute_s"),
        window_memory_s=mean("window_memory_s"),
        window_pair_s=largest("window_pair_s"),
        decode_step_s=largest("decode_step_s") + lookup_step_s,
        decode_sequence_s=largest("decode_sequence_s") + lookup_sequence_s,
        adapter_s=largest("adapter_s"),
        adapter_load_s=largest("adapter_load_s"),
    )
