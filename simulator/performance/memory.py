"""What fits: weights, working memory, and the KV blocks that are left."""

from __future__ import annotations

from math import ceil
from typing import Final

from simulator.errors import SpecError
from simulator.performance.adapters import adapter_bytes
from simulator.performance.engine import Engine, engine_of
from simulator.performance.engine_defaults import with_engine_defaults
from simulator.performance.pipeline import Stage
from simulator.performance.state_space import state_bytes_per_layer
from simulator.spec.deployment import Pool

RUNTIME_BYTES = 1.5e9
"""Driver context, communication buffers and captured graphs of one accelerator, by hand."""

SHARE_UNIT: Final = 1024
"""What :func:`window_share` counts in: 1024 is as many bytes as the growing KV."""

PHANTOM_TOKENS: Final = 1 << 20
"""Tokens of context that together take as much as a sequence's constant part, in models without growing KV."""


class DoesNotFit(SpecError):
    """A model that does not leave room for the KV cache of a single useful context.

    Attributes
    ----------
    shortage_bytes, allowed_bytes
        Memory missing on each accelerator, and what the engine may use of it.
    """

    def __init__(self, message: str, shortage_bytes: float, allowed_bytes: float) -> None:
        super().__init__(message)
        self.shortage_bytes = shortage_bytes
        self.allowed_bytes = allowed_bytes


MIN_KV_TOKENS = 2048
"""Context for which an engine must have room to be of use."""


def activation_bytes(engine: Engine, tokens: int) -> float:
    """Return the working memory of a step of so many tokens: hidden states and the widest inner vectors.

    Engines reserve it for a whole step on every pipeline stage, and for a rank's share of it with data parallelism.
    """
    model = engine.model
    inner = model.moe.experts_per_token * model.moe.expert_intermediate if model.moe else model.intermediate
    if model.ssm:
        inner = max(inner, model.ssm.inner)
    return ceil(tokens / engine.dp) * 2.0 * (4 * model.hidden + 3 * inner / engine.tp)


def window_bytes_per_token(engine: Engine, stage: Stage) -> float:
    """Return the KV of one token in the windowed layers of a stage, on one accelerator."""
    return stage.windowed * engine.kv_bytes_per_token_per_layer


def state_bytes(engine: Engine, stage: Stage) -> float:
    """Return the recurrent state of one sequence in a stage, on one accelerator."""
    return stage.state_space * state_bytes_per_layer(engine)


def context_bytes_per_token(engine: Engine, stage: Stage) -> float:
    """Return what a token of context takes for good on one accelerator of a stage: growing KV, the draft's included.

    In a model without growing KV (all layers windowed or recurrent) a token would take nothing, and a block could not
    be counted. There it takes 2^-20 of what a sequence holds at most beside it: a context of a million tokens counts
    as one sequence more.
    """
    growing = (stage.attention - stage.windowed) * engine.kv_bytes_per_token_per_layer
    if engine.model.growing_layers == 0:
        window = engine.model.window.window_tokens if engine.model.window else 0
        constant = window_bytes_per_token(engine, stage) * window + state_bytes(engine, stage)
        growing = constant / PHANTOM_TOKENS
    if engine.draft and stage.last:
        growing += engine.draft.model.attention_layers * engine.draft.kv_bytes_per_token_per_layer
    return growing


def fixed_bytes(engine: Engine, stage: Stage, step_tokens: int) -> float:
    """Return what is held whatever runs, on one accelerator of a stage: weights, working memory, adapters, runtime."""
    held = engine.stage_weight_bytes(stage) + activation_bytes(engine, step_tokens) + RUNTIME_BYTES
    if engine.adapters:
        held += engine.adapters.slots * adapter_bytes(engine, stage)
    if engine.draft and stage.last:
        held += engine.draft.weight_bytes
    return held


def kv_blocks(pool: Pool) -> int:
    """Return the KV blocks of each client of a pool.

    A block holds its tokens in all layers, so the pipeline stage with least room decides; data-parallel ranks have
    blocks of their own, which add up (that a request must fit into one rank is not seen).

    Raises
    ------
    DoesNotFit
        If less than ``MIN_KV_TOKENS`` of context fit beside the weights.
    """
    pool = with_engine_defaults(pool)
    engine = engine_of(pool)
    block = pool.kv_memory.block_tokens
    blocks = pool.kv_memory.blocks
    # A given number of blocks was counted on a real engine: only the device itself can contradict it.
    share = pool.kv_memory.memory_utilization if blocks is None else 1.0
    needed = -(-blocks // engine.dp) if blocks is not None else -(-MIN_KV_TOKENS // block)
    room = []
    for stage, own in zip(engine.stages, engine.stage_engines, strict=True):
        allowed = own.accelerator.usable_memory_bytes * share
        block_bytes = context_bytes_per_token(engine, stage) * block
        fixed = fixed_bytes(engine, stage, pool.batching.token_budget_tokens)
        room.append((fixed + needed * block_bytes - allowed, fixed, block_bytes, allowed, own.accelerator.name))
    shortage, fixed, block_bytes, allowed, short = max(room)
    if shortage > 0:
        hardware = " + ".join(f"{count} x {kind.name}" for kind, count in engine.hardware)
        raise DoesNotFit(
            f"pool {pool.name}: {engine.model.name} in {pool.weights} on {hardware} "
            f"needs {(fixed + needed * block_bytes) / 1e9:.1f} GB on each{f' {short}' if pool.mixed else ''} for "
            f"weights, activations and {needed * block} tokens of KV, {allowed / 1e9:.1f} GB are allowed; "
            "raise tp, lower the precision or choose an accelerator with more memory",
            shortage,
            allowed,
        )
    if blocks is not None:
        return blocks
    return engine.dp * min(int((allowed - fixed) // block_bytes) for _, fixed, block_bytes, allowed, _ in room)


def state_blocks(pool: Pool) -> int:
    """Return the KV blocks that take as much as one sequence's recurrent state; 0 for a model without."""
    engine, block = engine_of(pool), pool.kv_memory.block_tokens
    return max(
        ceil(state_bytes(engine, stage) / (context_bytes_per_token(engine, stage) * block)) for stage in engine.stages
    )


def window_share(pool: Pool) -> int:
    """Return the KV of a token in windowed layers over what it takes for good, in 1024ths, rounded up; 0 without."""
    engine = engine_of(pool)
    return max(
        ceil(SHARE_UNIT * window_bytes_per_token(engine, stage) / context_bytes_per_token(engine, stage))
        for stage in engine.stages
    )
