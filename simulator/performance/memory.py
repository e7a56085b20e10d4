"""What fits: weights, working memory, and the KV blocks that are left."""

from __future__ import annotations

from simulator.errors import SpecError
from simulator.performance.engine import Engine, engine_of
from simulator.spec.deployment import Pool

RUNTIME_BYTES = 1.5e9
"""Driver context, communication buffers and captured graphs of one accelerator, by hand."""


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
    """Return the working memory of a step of so many tokens: hidden states and the widest inner vectors."""
    model = engine.model
    inner = model.moe.experts_per_token * model.moe.expert_intermediate if model.moe else model.intermediate
    return tokens * 2.0 * (4 * model.hidden + 3 * inner / engine.tp)


def kv_blocks(pool: Pool) -> int:
    """Return the KV blocks of each client of a pool.

    Raises
    ------
    DoesNotFit
        If less than ``MIN_KV_TOKENS`` of context fit beside the weights.
    """
    engine = engine_of(pool)
    block = pool.kv_memory.block_tokens
    block_bytes = engine.kv_bytes_per_token * block
    blocks = pool.kv_memory.blocks
    # A given number of blocks was counted on a real engine: only the device itself can contradict it.
    share = pool.kv_memory.memory_utilization if blocks is None else 1.0
    allowed = engine.accelerator.usable_memory_bytes * share
    fixed = engine.weight_bytes + activation_bytes(engine, pool.batching.token_budget_tokens) + RUNTIME_BYTES
    needed = blocks if blocks is not None else -(-MIN_KV_TOKENS // block)
    shortage = fixed + needed * block_bytes - allowed
    if shortage > 0:
        raise DoesNotFit(
            f"pool {pool.name}: {engine.model.name} in {pool.weights} on {pool.tp} x {engine.accelerator.name} "
            f"needs {(fixed + needed * block_bytes) / 1e9:.1f} GB on each for weights, activations and "
            f"{needed * block} tokens of KV, {allowed / 1e9:.1f} GB are allowed; "
            "raise tp, lower the precision or choose an accelerator with more memory",
            shortage,
            allowed,
        )
    return blocks if blocks is not None else int((allowed - fixed) // block_bytes)
