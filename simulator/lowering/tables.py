"""Costs in seconds as the kernel's integer tables."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from simulator.kernel.layout import (
    EXACT_TOKENS,
    LAST_SHIFT,
    LAST_TOKENS,
    MIDDLE_SHIFT,
    MIDDLE_TOKENS,
    SEQUENCE_KNOTS,
)
from simulator.performance.engine import Engine
from simulator.performance.service_cost import ServiceCost, service_cost
from simulator.performance.step_cost import StepCost, step_cost
from simulator.spec.stages import Service, ServiceStage
from simulator.workload import PS_PER_S

Integers = npt.NDArray[np.int64]

_TOKENS = np.concatenate(
    [
        np.arange(EXACT_TOKENS + 1),
        np.arange(EXACT_TOKENS, MIDDLE_TOKENS, 1 << MIDDLE_SHIFT)[1:],
        np.arange(MIDDLE_TOKENS, LAST_TOKENS + 1, 1 << LAST_SHIFT),
    ]
).astype(np.float64)
_SEQUENCES = np.arange(SEQUENCE_KNOTS, dtype=np.float64)


def picoseconds(seconds: npt.NDArray[np.float64]) -> Integers:
    """Return whole picoseconds, at least one: a step of no duration would let time stand still."""
    return np.maximum(np.rint(seconds * PS_PER_S), 1).astype(np.int64)


@lru_cache(maxsize=512)
def engine_tables(engine: Engine) -> tuple[StepCost, Integers]:
    """Return the cost of an engine's steps and its integer tables, linear first, then sequences."""
    cost = step_cost(engine, _TOKENS, _SEQUENCES)
    return cost, picoseconds(np.concatenate([cost.linear.seconds, cost.sequences.seconds]))


def service_tables(stage: ServiceStage, service: Service, attention_tokens: float) -> tuple[ServiceCost, Integers]:
    """Return the cost of a service's batches and its integer tables, linear first, then sequences."""
    # A model in a file may have changed since it was last read.
    from_file = (getattr(stage, "model", None) or "").endswith(".json")
    cost_of = _service_tables.__wrapped__ if from_file else _service_tables
    return cost_of(stage, service, attention_tokens)


@lru_cache(maxsize=512)
def _service_tables(stage: ServiceStage, service: Service, attention_tokens: float) -> tuple[ServiceCost, Integers]:
    cost = service_cost(stage, service, _TOKENS, _SEQUENCES, attention_tokens=attention_tokens)
    return cost, picoseconds(np.concatenate([cost.linear_s, cost.sequences_s]))


class Tables:
    """Tables one after the other."""

    def __init__(self) -> None:
        self._parts: list[Integers] = []
        self._length = 0

    def add(self, table: npt.ArrayLike) -> int:
        """Append a table; return its offset."""
        part = np.asarray(table, dtype=np.int64)
        start, self._length = self._length, self._length + len(part)
        self._parts.append(part)
        return start

    def add_cost(self, table: Integers) -> tuple[int, int]:
        """Append a cost table; return the offsets of its linear and its sequences part."""
        start = self.add(table)
        return start, start + len(_TOKENS)

    def joined(self) -> Integers:
        """Return all of them."""
        return np.concatenate(self._parts)
