"""The settings of a pool that occur among designs, each lowered once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from dse.screening.distinct import Indices, distinct
from search_spaces import Design, Space, dimensions_of_pool
from search_spaces.codes import Codes
from simulator import Pool, SpecError
from simulator.kernel.layout import (
    EXACT_TOKENS,
    LAST_KNOT,
    LAST_SHIFT,
    LINEAR_KNOTS,
    MIDDLE_KNOT,
    MIDDLE_SHIFT,
    MIDDLE_TOKENS,
)
from simulator.lowering.pools import PoolPlan, plan_pool
from simulator.performance.engine import Engine
from simulator.performance.price import pool_usd_per_hour

Floats = npt.NDArray[np.float64]

SETTING = np.dtype(
    [
        ("possible", "?"),
        ("engine", "i4"),
        ("chunked", "?"),
        ("stage", "i4"),
        ("prefills", "?"),
        ("decodes", "?"),
        ("token_budget_tokens", "f8"),
        ("max_batch_requests", "f8"),
        ("kv_tokens", "f8"),
        ("accelerators", "f8"),
        ("usd_per_hour", "f8"),
        ("tdp_w", "f8"),
        ("idle_w", "f8"),
        ("decode_s", "f8"),
        ("decode_step_s", "f8"),
        ("decode_sequence_s", "f8"),
        ("prefill_pair_s", "f8"),
        ("frontend_s", "f8"),
    ]
)
"""What a client of one setting is; prices and power are those of one client."""


class PoolSettings:
    """The settings of one pool that designs have had so far.

    Parameters
    ----------
    space
        Of the designs.
    name
        Of the pool.
    pool_at
        Returns the pool of a name in a design.
    stages
        Names of the LLM stages.

    Attributes
    ----------
    plans
        The pool as one client of each setting, lowered; None where that is impossible.
    records
        Of dtype ``SETTING``, shape (settings,).
    """

    def __init__(self, space: Space, name: str, pool_at: Callable[[Design, str], Pool], stages: Sequence[str]) -> None:
        self.name, self._space, self._pool_at, self._stages = name, space, pool_at, tuple(stages)
        names = [dimension.name for dimension in space.closed]
        matters = set(dimensions_of_pool(space, name))
        if "groups" not in matters:
            # The number of clients must be a multiple of that of groups; else it says nothing about one of them.
            matters.discard(f"{name}.clients")
        self._columns = [column for column, each in enumerate(names) if each in matters]
        self._exists = names.index(f"{name}.accelerator")
        self._number: dict[bytes, int] = {}
        self._engines: dict[Engine, int] = {}
        self._linear: list[Floats] = []
        self._sequences: list[Floats] = []
        self.plans: list[PoolPlan | None] = []
        self.records = np.zeros(0, SETTING)
        self._tables: tuple[Floats, Floats] | None = None

    def of(self, codes: Codes) -> Indices:
        """Return the setting of each row of codes; -1 without such a pool, shape (rows,)."""
        rows = np.flatnonzero(codes[:, self._exists] >= 0)
        different = distinct(codes[rows], self._columns)
        numbers = np.array([self._setting(codes[row]) for row in rows[different.first]], dtype=np.intp)
        of_row = np.full(len(codes), -1, dtype=np.intp)
        of_row[rows] = numbers[different.of_row] if len(numbers) else -1
        return of_row

    def _setting(self, row: Codes) -> int:
        key = row[self._columns].tobytes()
        number = self._number.get(key)
        if number is None:
            number = self._number[key] = len(self.plans)
            plan = self._lowered(self._space.design_of(row))
            self.plans.append(plan)
            if number >= len(self.records):
                self.records = np.concatenate([self.records, np.zeros(max(256, number), SETTING)])
            if plan:
                self._fill(self.records[number], plan)
        return number

    def _lowered(self, design: Design) -> PoolPlan | None:
        """Return a pool with one client, lowered; None if that is impossible."""
        try:
            return plan_pool(self._pool_at(design, self.name).model_copy(update={"clients": 1}), 0)
        except (ValidationError, SpecError):
            return None

    def _fill(self, record: Any, plan: PoolPlan) -> None:
        """Write what a client is into its record."""
        pool, cost = plan.pool, plan.cost
        hardware = plan.engine.hardware
        if plan.engine not in self._engines:
            self._engines[plan.engine] = len(self._linear)
            self._linear.append(cost.linear.seconds)
            self._sequences.append(cost.sequences.seconds)
            self._tables = None
        record["possible"] = True
        record["engine"] = self._engines[plan.engine]
        record["chunked"] = pool.batching.policy == "chunked"
        record["stage"] = self._stages.index(pool.stage)
        record["prefills"], record["decodes"] = pool.role != "decode", pool.role != "prefill"
        record["token_budget_tokens"] = pool.batching.token_budget_tokens
        record["max_batch_requests"] = pool.batching.max_batch_requests
        record["kv_tokens"] = plan.blocks * pool.kv_memory.block_tokens
        record["accelerators"] = pool.accelerators_per_client
        record["usd_per_hour"] = pool_usd_per_hour(pool)
        record["tdp_w"] = sum(count * chip.tdp_w for chip, count in hardware)
        record["idle_w"] = sum(count * chip.idle_w for chip, count in hardware)
        record["frontend_s"] = plan.request_s
        for field in ("decode_s", "decode_step_s", "decode_sequence_s", "prefill_pair_s"):
            record[field] = getattr(cost, field)

    @property
    def _stacked(self) -> tuple[Floats, Floats]:
        """The tables of all engines, shapes (engines, knots)."""
        if self._tables is None:
            self._tables = np.array(self._linear), np.array(self._sequences)
        return self._tables

    def linear_s(self, engine: Indices, tokens: Floats) -> Floats:
        """Return the time of token-wise work of steps, interpolated as the kernel does; shape of ``tokens``."""
        linear = self._stacked[0]
        tokens = np.minimum(tokens, 1.0e6)
        place = np.where(
            tokens <= EXACT_TOKENS,
            tokens,
            np.where(
                tokens < MIDDLE_TOKENS,
                MIDDLE_KNOT + (tokens - EXACT_TOKENS) / (1 << MIDDLE_SHIFT),
                LAST_KNOT + (tokens - MIDDLE_TOKENS) / (1 << LAST_SHIFT),
            ),
        )
        knot = np.minimum(place.astype(np.intp), LINEAR_KNOTS - 2)
        low, high = linear[engine, knot], linear[engine, knot + 1]
        return np.asarray(low + (high - low) * (place - knot))

    def sequences_s(self, engine: Indices, sequences: Floats) -> Floats:
        """Return the time that grows with the sequences of steps; shape of ``sequences``."""
        table = self._stacked[1]
        low = np.minimum(sequences.astype(np.intp), table.shape[1] - 2)
        start, end = table[engine, low], table[engine, low + 1]
        return np.asarray(start + (end - start) * (sequences - low))
