"""Speculative decoding: what drafting costs, and how many drafted tokens are accepted.

Each step the draft model decodes k tokens one after the other, then the model checks them at once (Leviathan et al.,
arXiv:2211.17192). Checking is the model's own step of ``1 + k`` tokens a sequence; here is only the draft.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from simulator.performance.attention import decode_attention, decode_sequence_s, decode_step_s, window_attention
from simulator.performance.coefficients import Coefficients
from simulator.performance.engine import Engine
from simulator.performance.layers import layers, output_head
from simulator.performance.state_space import sequence_state
from simulator.spec.speculation import Speculation

CHORD_SEQUENCES: Final = (1.0, 64.0)
"""Batch sizes between which costs that are not affine are replaced by their chord."""


@dataclass(frozen=True)
class DraftCost:
    """Time that drafting adds to a step with decodes.

    Attributes
    ----------
    step_s, sequence_s
        Constant part and part for each decoding sequence.
    context_s, context_compute_s, context_memory_s
        Part for each token of context of a decoding sequence, and what each resource alone needs of it.
    """

    step_s: float = 0.0
    sequence_s: float = 0.0
    context_s: float = 0.0
    context_compute_s: float = 0.0
    context_memory_s: float = 0.0


def draft_cost(engine: Engine, c: Coefficients) -> DraftCost:
    """Return what drafting adds to a step; nothing where there is no draft model (prompt lookup).

    ``k`` decode steps of the draft model, without the engine's overhead for a step and its sequences. The time of its
    weights and token-wise operators is replaced by its chord between 1 and 64 sequences: within 3 % there for a model
    of 1e9 parameters. With a window it sees at most that much of the context; this is taken as seen in full.
    The draft's pass over prompts is left out: it is a small share of the model's own.
    """
    draft, speculation = engine.draft, engine.speculation
    if draft is None or speculation is None:
        return DraftCost()
    k = speculation.draft_tokens
    at = np.array(CHORD_SEQUENCES)
    bare = replace(c, engine=replace(c.engine, sequence_s=0.0))
    work = layers(draft, bare, at) + output_head(draft, bare, at)
    if draft.model.ssm:
        work += sequence_state(draft, bare, at)
    low, high = work.seconds
    slope = float(high - low) / float(at[1] - at[0])
    growing, windowed = decode_attention(draft, c), window_attention(draft, c)
    return DraftCost(
        step_s=k * (float(low) - slope * float(at[0]) + decode_step_s(draft, c)),
        sequence_s=k * (slope + decode_sequence_s(draft, c)),
        context_s=k * (growing.seconds + windowed.seconds),
        context_compute_s=k * (growing.compute_s + windowed.compute_s),
        context_memory_s=k * (growing.memory_s + windowed.memory_s),
    )


def acceptance_thresholds(speculation: Speculation) -> tuple[int, ...]:
    """Return k integers, not falling, of which as many are ``≤ d`` as tokens are accepted for a uniform 32-bit draw d.

    At least i drafted tokens are accepted with probability ``q_i = p_1 · … · p_i``, that is for draws from
    ``2^32 (1 − q_i)`` on. A probability of 0 gives 2^32, which no draw reaches.
    """
    at_least = np.cumprod(speculation.acceptances)
    return tuple(round(float(1.0 - q) * 2**32) for q in at_least)
