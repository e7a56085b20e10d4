"""What a layer costs on each kind of accelerator: times and memory from the simulator's own cost model.

A model's depth falls into blocks of equal layers: dense layers that lead a mixture of experts, and all others. What a
stage of the pipeline costs is affine in its layers of each block, as in the simulator (that is exact for one block; the
host's wait for a stage with layers of both is the only term that is not, and is checked afterwards).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from dse.placement.spec import SplitSpec
from simulator import catalog
from simulator.catalog import Model
from simulator.performance.engine import Engine, engine_of
from simulator.performance.engine_defaults import with_engine_defaults
from simulator.performance.explanation import StepLoad, stage_seconds
from simulator.performance.memory import (
    MIN_KV_TOKENS,
    context_bytes_per_token,
    fixed_bytes,
    state_bytes,
    window_bytes_per_token,
)
from simulator.performance.pipeline import Stage, stages
from simulator.spec.deployment import Pool


def blocks(model: Model) -> tuple[int, ...]:
    """Return the number of layers of each block, in the order of the depth."""
    leading = model.moe.dense_layers if model.moe and model.moe.dense_first else 0
    return (leading, model.layers - leading) if leading else (model.layers,)


def load_of(spec: SplitSpec) -> StepLoad:
    """Return the step for which layers are split."""
    chunks = ((spec.prompt_tokens, 0),) if spec.prompt_tokens else ()
    return StepLoad(chunks, spec.decodes, spec.context_tokens)


def pool_of(spec: SplitSpec, accelerator: str, tp: int, pp: int) -> Pool:
    """Return a pool of one client on equal accelerators, with room in its batch for the step."""
    pool = Pool(
        model=spec.model, accelerator=accelerator, tp=tp, pp=pp, weights=spec.weights, kv=spec.kv, engine=spec.engine
    )
    pool = with_engine_defaults(pool)
    load = load_of(spec)
    batch = max(pool.batching.max_batch_requests, load.sequences)
    budget = max(pool.batching.token_budget_tokens, load.tokens(0), batch)
    batching = pool.batching.model_copy(update={"max_batch_requests": batch, "token_budget_tokens": budget})
    return pool.model_copy(update={"batching": batching})


def held_tokens(spec: SplitSpec, pool: Pool) -> int:
    """Return the tokens of context that must find room in whole KV blocks, those that admission leaves free included.

    Those of the step, each request in blocks of its own, where nothing else is said; at least what an engine needs to
    be of use.
    """
    block, requests = pool.kv_memory.block_tokens, [spec.context_tokens + 1] * spec.decodes
    held = sum(ceil(tokens / block) for tokens in [*requests, spec.prompt_tokens])
    blocks = ceil(spec.kv_tokens / block) if spec.kv_tokens else ceil(held / (1 - pool.kv_memory.watermark)) + 1
    return max(blocks, ceil(MIN_KV_TOKENS / block)) * block


def window_tokens(spec: SplitSpec, model: Model) -> int:
    """Return the tokens of a request that layers with a window hold."""
    longest = max(spec.context_tokens + 1, spec.prompt_tokens)
    return min(model.window.window_tokens, longest) if model.window else 0


@dataclass(frozen=True)
class DeviceCosts:
    """What layers cost on stages of one kind of accelerator.

    Attributes
    ----------
    accelerator
        Its name.
    engine, pool
        The model on a pipeline of these alone.
    layer_s
        Time that a layer of each block adds to a stage's work on a step, seconds.
    layer_bytes
        Memory that it takes on each accelerator of the stage, with its part of the KV cache, bytes.
    last_s
        Time of what only the last stage does, seconds.
    allowed_bytes
        What the engine may use of an accelerator's memory.
    """

    accelerator: str
    engine: Engine
    pool: Pool
    layer_s: tuple[float, ...]
    layer_bytes: tuple[float, ...]
    last_s: float
    allowed_bytes: float
    _fixed_bytes: tuple[tuple[float, float], tuple[float, float]]

    def fixed_bytes(self, *, first: bool, last: bool) -> float:
        """Return the memory of a stage without its layers: work space, runtime, embedding, output head."""
        return self._fixed_bytes[first][last]

    def most_layers(self, block: int, *, first: bool = False, last: bool = False) -> int:
        """Return how many layers of a block fit into one stage, others left out."""
        room = self.allowed_bytes - self.fixed_bytes(first=first, last=last)
        return max(0, int(room / self.layer_bytes[block]))


def memory_bytes(spec: SplitSpec, engine: Engine, pool: Pool, stage: Stage) -> float:
    """Return the memory of each accelerator of a stage: weights, work space, runtime, and KV of the tokens held.

    Every request has its window and a recurrent state besides, where the model has such layers.
    """
    sequences, block = max(1, load_of(spec).sequences), pool.kv_memory.block_tokens
    # A request's window and state are counted in whole blocks of growing KV.
    window = window_bytes_per_token(engine, stage) * window_tokens(spec, engine.model)
    rounding = 2 * block * context_bytes_per_token(engine, stage) if window or engine.model.ssm else 0.0
    held = fixed_bytes(engine, stage, pool.batching.token_budget_tokens)
    held += context_bytes_per_token(engine, stage) * held_tokens(spec, pool)
    return held + sequences * (window + state_bytes(engine, stage) + rounding)


def device_costs(spec: SplitSpec, accelerator: str, tp: int, pp: int) -> DeviceCosts:
    """Return what layers cost on an accelerator in a pipeline of so many stages.

    Raises
    ------
    SpecError
        If a name is unknown, or the model cannot be split so.
    """
    pool = pool_of(spec, accelerator, tp, pp)
    engine = engine_of(pool)
    layers, load = blocks(engine.model), load_of(spec)
    whole = [replace(stage, first=False, last=False) for stage in stages(engine.model, layers)]
    layer_s = [stage_seconds(engine, stage, load) / stage.layers for stage in whole]
    last_s = stage_seconds(engine, replace(whole[-1], last=True), load) - layer_s[-1] * layers[-1]
    none = Stage(0, 0.0, 0.0, 0.0, 0.0, 0.0, first=False, last=False)
    base = memory_bytes(spec, engine, pool, none)

    def fixed(first: bool, last: bool) -> float:
        return memory_bytes(spec, engine, pool, replace(none, first=first, last=last))

    return DeviceCosts(
        accelerator=accelerator,
        engine=engine,
        pool=pool,
        layer_s=tuple(layer_s),
        layer_bytes=tuple((memory_bytes(spec, engine, pool, stage) - base) / stage.layers for stage in whole),
        last_s=last_s,
        allowed_bytes=catalog.accelerator(accelerator).usable_memory_bytes * pool.kv_memory.memory_utilization,
        _fixed_bytes=((fixed(False, False), fixed(False, True)), (fixed(True, False), fixed(True, True))),
    )
