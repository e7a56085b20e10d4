"""Least durations of a client's steps, from the kernel's own integer tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from simulator.kernel import new_clients
from simulator.kernel.layout import (
    EXACT_TOKENS,
    LAST_SHIFT,
    LAST_TOKENS,
    LINEAR_KNOTS,
    MIDDLE_SHIFT,
    MIDDLE_TOKENS,
    NOISE_SHIFT,
    SEQUENCE_KNOTS,
)
from simulator.lowering.noise import noise_factors
from simulator.lowering.pools import PoolPlan, fill_pool, plan_pool
from simulator.lowering.tables import Tables, engine_tables
from simulator.performance.engine import Engine, engine_of
from simulator.spec.deployment import Deployment, Link, Pool

Floats = npt.NDArray[np.float64]

ROUNDING_PS: Final = 3.0
"""Most that a step of one prompt loses to rounding down: once between knots of the table, twice in attention."""

KNOTS: Final = np.concatenate(
    [
        np.arange(EXACT_TOKENS + 1),
        np.arange(EXACT_TOKENS, MIDDLE_TOKENS, 1 << MIDDLE_SHIFT)[1:],
        np.arange(MIDDLE_TOKENS, LAST_TOKENS + 1, 1 << LAST_SHIFT),
    ]
).astype(np.float64)
"""Tokens at which the kernel's table of token-wise work is given."""


@dataclass(frozen=True, eq=False)
class Client:
    """One client of a pool, as the kernel sees it: fields as in ``simulator.kernel.layout.CLIENT``.

    Attributes
    ----------
    plan
        Its pool as it is lowered.
    linear, sequences
        Its integer tables, picoseconds.
    pace
        What noise leaves at least of a step's duration; 1 without noise.
    """

    plan: PoolPlan
    linear: Floats
    sequences: Floats
    pace: float
    max_batch: int
    token_budget: int
    block_tokens: int
    total_blocks: int
    min_prompt: int
    max_prompt: int
    attention_ps: int
    prefill_pair: int
    prefill_read: int
    window_tokens: int
    window_ps: int
    window_pair: int
    window_share: int
    decode_ps: int
    decode_sequence_ps: int
    state_blocks: int
    draft: int
    thresholds: tuple[int, ...]

    @property
    def pool(self) -> Pool:
        """Its pool, the engine's defaults included."""
        return self.plan.pool

    @property
    def policy(self) -> str:
        """How it batches."""
        return self.plan.pool.batching.policy

    @property
    def request_s(self) -> float:
        """Time of a request's way to it and back, seconds."""
        return self.plan.request_s

    def fits(self, tokens: npt.NDArray[np.int64], fixed: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Tell which requests it could hold with so many tokens if it held nothing else."""
        return np.asarray(-(-tokens // self.block_tokens) + fixed <= self.total_blocks)

    def fixed_blocks(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the blocks that do not grow, of requests that may have so many tokens here."""
        share = np.minimum(tokens, self.window_tokens) * self.window_share
        return np.asarray(self.state_blocks - (-share // (self.block_tokens << 10)), dtype=np.int64)


_COPIED: Final = tuple(
    name for name in Client.__dataclass_fields__ if name not in ("plan", "linear", "sequences", "pace", "thresholds")
)


def client_of(pool: Pool) -> Client:
    """Return a client of a pool.

    Raises
    ------
    SpecError
        If a name is unknown, or the model cannot be sharded in this way or does not fit.
    """
    if pool.clients != 1 or pool.groups != 1 or pool.name:
        pool = pool.model_copy(update={"clients": 1, "groups": 1, "name": ""})
    return _client_of(pool, engine_of(pool))


@lru_cache(maxsize=4096)
def _client_of(pool: Pool, engine: Engine) -> Client:
    plan = plan_pool(pool, 0)
    record, tables = new_clients(1), Tables()
    # What the link does is no matter here.
    fill_pool(record, plan, Deployment.model_construct(pools=(pool,), link=Link()), tables)
    table = engine_tables(engine)[1].astype(np.float64)
    linear = table[:LINEAR_KNOTS]
    pace = 1.0
    if pool.step_noise_cv:
        # A step of d ps lasts at least d · least - 1.
        pace = max(0.0, float(noise_factors(pool.step_noise_cv)[0]) / (1 << NOISE_SHIFT) - 1 / float(linear.min()))
    draft = int(record["draft"][0])
    first = int(record["thresholds"][0])
    return Client(
        plan,
        linear,
        table[LINEAR_KNOTS:],
        pace,
        thresholds=tuple(tables.joined()[first : first + draft].tolist()),
        **{name: int(record[name][0]) for name in _COPIED},
    )


@dataclass(frozen=True, eq=False)
class StepFloor:
    """Least durations of a client's steps of at most ``most_tokens`` tokens, picoseconds, before noise."""

    client: Client
    most_tokens: int

    @cached_property
    def knots(self) -> Floats:
        """Tokens at which :attr:`least` is given: those of the table from 1 on, and the most."""
        inside = KNOTS[1 : int(np.searchsorted(KNOTS, self.most_tokens))]
        return np.append(inside, float(self.most_tokens))

    @cached_property
    def linear(self) -> Floats:
        """The client's table at the knots, less what rounding may take."""
        table = self.client.linear
        values = np.interp(self.knots, KNOTS, table)
        beyond = self.knots[-1] - KNOTS[-1]
        if beyond > 0:
            values[-1] = table[-1] + (table[-1] - table[-2]) * beyond / (KNOTS[-1] - KNOTS[-2])
        return values - ROUNDING_PS

    @cached_property
    def least(self) -> Floats:
        """Least token-wise time of a step of at least so many tokens: a running minimum from the end."""
        return running_minimum(self.linear)

    def least_linear(self, tokens: Floats) -> Floats:
        """Return the least token-wise time of steps with at least so many tokens.

        Between knots the running minimum is joined by straight lines: nowhere above the table, which is straight there.
        """
        return np.interp(tokens, self.knots, self.least)

    @cached_property
    def least_sequences(self) -> Floats:
        """Least per-sequence time of a step with at least 1, 2, … ``max_batch`` sequences."""
        table, most = self.client.sequences, self.client.max_batch
        values = table[1 : most + 1]
        if most > SEQUENCE_KNOTS - 1:
            beyond = np.arange(1, most - SEQUENCE_KNOTS + 2)
            values = np.concatenate([values, table[-1] + beyond * (table[-1] - table[-2])])
        return running_minimum(values)

    @cached_property
    def decode_steps(self) -> Floats:
        """Least time of steps with 1, 2, … ``max_batch`` decodes, without attention."""
        client = self.client
        decodes = np.arange(1, client.max_batch + 1, dtype=np.float64)
        each = self.least_linear(decodes * (1 + client.draft)) + self.least_sequences
        return each + client.decode_ps + client.decode_sequence_ps * decodes

    @cached_property
    def decode_step(self) -> float:
        """Least time of a step with any decode, without attention."""
        return float(self.decode_steps.min())

    @cached_property
    def _hull(self) -> tuple[Floats, Floats]:
        """Corners of the greatest convex function below what a step with so many tokens of one prompt lasts."""
        return lower_hull(self.knots, self.least + self.least_sequences[0])

    def prefill(self, tokens: Floats, most_chunk: int | None) -> Floats:
        """Return the least time of the steps that compute so many tokens of a prompt, without attention.

        Parameters
        ----------
        tokens
            Tokens to compute, at least 1.
        most_chunk
            Most tokens of one step; None: all of them are in the same step.
        """
        whole = self.least_linear(tokens) + self.least_sequences[0]
        if most_chunk is None:
            return np.asarray(whole)
        at, value = self._hull
        fewest = np.ceil(tokens / most_chunk)
        # By Jensen's inequality no split into k chunks beats k equal ones by the convex function below the table;
        # more chunks than needed help only beyond the chunk with the least time per token.
        cheapest = int(np.argmin(value / at))
        steps = np.maximum(fewest, 2)
        even = tokens / steps
        few = steps * np.interp(even, at, value)
        split = np.where(even <= at[cheapest], few, tokens * (value[cheapest] / at[cheapest]))
        return np.where(fewest > 1, split, np.minimum(whole, split))


@lru_cache(maxsize=4096)
def step_floor(client: Client, most_tokens: int) -> StepFloor:
    """Return the floors of a client's steps of at most so many tokens."""
    return StepFloor(client, most_tokens)


def running_minimum(values: Floats) -> Floats:
    """Return the least of each value and those behind it."""
    return np.asarray(np.minimum.accumulate(values[::-1])[::-1])


def lower_hull(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the corners of the greatest convex function below some points, ``x`` ascending.

    A point on or above the line between its neighbours is no corner, whatever becomes of these: all such leave at once,
    until there are none.
    """
    while len(x) > 2:
        run, rise = np.diff(x), np.diff(y)
        corner = np.ones(len(x), dtype=np.bool_)
        corner[1:-1] = rise[:-1] * run[1:] < rise[1:] * run[:-1]
        if corner.all():
            break
        x, y = x[corner], y[corner]
    return x, y
