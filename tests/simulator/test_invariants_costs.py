"""A larger batch never takes less time: cost tables of every catalogued model, sharded in every possible way."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from simulator import Pool, SpecError, catalog
from simulator.kernel.layout import LINEAR_KNOTS
from simulator.lowering.tables import engine_tables
from simulator.performance.engine import Engine, engine_of
from simulator.performance.step_cost import step_cost

MODELS = [name for name in catalog.model_names() if catalog.model(name).kind == "decoder"]
ACCELERATORS = ("a100-80gb", "h100-sxm", "b200", "mi300x", "l4")
PARALLELISM: list[dict[str, int]] = [
    {},
    {"tp": 2},
    {"tp": 8},
    {"pp": 2},
    {"pp": 4},
    {"tp": 2, "pp": 2},
    {"dp": 2},
    {"tp": 2, "dp": 4},
    {"tp": 8, "ep": 8},
    {"dp": 8, "ep": 4},
    {"tp": 2, "dp": 4, "ep": 8},
    {"dp": 2, "pp": 2, "ep": 2},
]
EXTRAS: list[dict[str, Any]] = [
    {},
    {"weights": "fp8", "kv": "fp8"},
    {"speculation": {"draft_model": "llama-3.2-1b", "draft_tokens": 4, "acceptance": 0.7}},
    {"speculation": {"draft_tokens": 3, "acceptance": [0.8, 0.6, 0.4]}},
]


def engines_of(model: str) -> list[Engine]:
    """Return all engines that the lists above and the model allow."""
    engines = []
    for accelerator in ACCELERATORS:
        for parallelism in PARALLELISM:
            for extra in EXTRAS:
                try:
                    engine = engine_of(Pool.parse({"model": model, "accelerator": accelerator} | parallelism | extra))
                except SpecError:
                    continue
                engines.append(engine)
    return engines


def test_the_lists_reach_every_kind_of_model_and_parallelism() -> None:
    seen: Counter[str] = Counter()
    for model in MODELS:
        for engine in engines_of(model):
            kinds = {
                "pipeline": engine.pp > 1,
                "attention-data": engine.dp > 1,
                "experts": engine.ep > 1,
                "window": engine.model.window is not None,
                "state space": engine.model.ssm is not None,
                "latent": engine.model.mla is not None,
                "draft": engine.draft is not None,
            }
            seen.update(kind for kind, there in kinds.items() if there)
    assert min(seen[kind] for kind in kinds) >= 10, seen


@pytest.mark.parametrize("model", MODELS)
def test_more_tokens_or_sequences_never_take_less_time(model: str) -> None:
    """The kernel's integer tables never fall, and no coefficient is negative, so no step is quicker with more in it.

    Every term of a step's cost grows with tokens, sequences, contexts and chunks, if all of these hold.
    """
    engines = engines_of(model)
    assert engines
    for engine in engines:
        cost, table = engine_tables(engine)
        linear, sequences = table[:LINEAR_KNOTS], table[LINEAR_KNOTS:]
        name = f"{engine.accelerator.name}, tp {engine.tp}, pp {engine.pp}, dp {engine.dp}, ep {engine.ep}"
        assert (np.diff(linear) >= 0).all(), name
        assert (np.diff(sequences) >= 0).all(), name
        assert min(linear[0], sequences[0]) >= 1
        # More of it is more in the end: no table is flat.
        assert linear[-1] > linear[0]
        assert sequences[-1] > sequences[0]
        for field in (
            "decode_s",
            "window_s",
            "prefill_pair_s",
            "prefill_read_s",
            "window_pair_s",
            "decode_step_s",
            "decode_sequence_s",
            "adapter_s",
            "adapter_load_s",
        ):
            assert getattr(cost, field) >= 0, (name, field)
        # A context costs something in one kind of layer or another, if there are layers with attention.
        attends = any(stage.attention > 0 for stage in engine.stages)
        assert (cost.decode_s + cost.window_s > 0) == attends or engine.draft is not None, name


@pytest.mark.parametrize("model", MODELS)
def test_no_resource_is_busy_longer_than_the_step(model: str) -> None:
    tokens, sequences = np.array([1.0, 7, 64, 500, 4096, 100_000]), np.array([0.0, 1, 7, 64, 500, 1024])
    for engine in engines_of(model):
        cost = step_cost(engine, tokens, sequences)
        for work in (cost.linear, cost.sequences):
            for part in (work.compute_s, work.memory_s, work.link_s):
                assert (part >= 0).all()
                assert (part <= work.seconds * (1 + 1e-9)).all(), (engine.accelerator.name, engine.tp, engine.pp)
