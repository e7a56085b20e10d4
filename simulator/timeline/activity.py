"""Energy that each entry of the log adds to that of idle devices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simulator.kernel.layout import (
    EXACT_TOKENS,
    LAST_KNOT,
    LAST_SHIFT,
    LINEAR_KNOTS,
    MIDDLE_KNOT,
    MIDDLE_SHIFT,
    MIDDLE_TOKENS,
)
from simulator.lowering import PoolPlan
from simulator.metrics import Result
from simulator.performance.power import shares_of
from simulator.timeline.parts import Log, Part
from simulator.workload import PS_PER_S

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def knots_of(tokens: Integers) -> Integers:
    """Return the last knot of the linear table at or before numbers of tokens."""
    middle = MIDDLE_KNOT + ((tokens - EXACT_TOKENS) >> MIDDLE_SHIFT)
    last = np.minimum(LAST_KNOT + ((tokens - MIDDLE_TOKENS) >> LAST_SHIFT), LINEAR_KNOTS - 2)
    return np.asarray(np.select([tokens <= EXACT_TOKENS, tokens < MIDDLE_TOKENS], [tokens, middle], last))


def logged_share(result: Result, part: Part, log: Log) -> float:
    """Return the share of a part's work, by time, that the log of it holds."""
    rows = result.lowered.memory.clients[part.plan.first : part.plan.first + part.clients]
    return float((log.end_ps - log.start_ps).sum() / max(1, int(rows["busy_ps"].sum())))


def dynamic_j(result: Result, part: Part, log: Log) -> Floats:
    """Return the energy above idle of each entry of a part's log, shape (entries,).

    Their sum is the part's energy over the span less that of idle devices (times the share of its work that the log
    holds). It is dealt out to services by time, and to pools by what each entry draws
    (:meth:`simulator.performance.power.PowerShares.dynamic_s`).
    """
    busy_s = (log.end_ps - log.start_ps) / PS_PER_S
    weight = busy_s
    if isinstance(part.plan, PoolPlan):
        shares = shares_of(part.plan.engine.accelerator)
        weight = shares.dynamic_s(busy_s, *_resource_s(result, part.plan, log, logged_share(result, part, log)))
    whole = part.energy_j - part.idle_w * result.span_s
    return weight * (whole * logged_share(result, part, log) / max(float(weight.sum()), 1e-300))


def _resource_s(result: Result, plan: PoolPlan, log: Log, share: float) -> tuple[Floats, Floats]:
    """Return the seconds that arithmetic and memory alone would need, of each entry.

    The log has neither contexts nor pairs of tokens. A request's context is taken as its share of the blocks in use,
    its pairs as the square of the prompt tokens of the step; both are scaled to what the pool's clients counted.
    """
    rows = result.lowered.memory.clients[plan.first : plan.first + plan.pool.clients]
    cost, drafted = plan.cost, int(rows["draft"][0])
    tokens = log.blocks * plan.pool.kv_memory.block_tokens / np.maximum(log.running, 1) + log.steps / 2
    contexts = _scaled(log.steps * log.decodes * tokens, share * float(rows["decode_context_tokens"].sum()))
    pairs = _scaled(log.prefill_tokens.astype(np.float64) ** 2, share * float(rows["prefill_pairs"].sum()))
    generated = _scaled((log.steps * log.decodes).astype(np.float64), share * float(rows["decode_tokens"].sum()))
    knots = knots_of(log.prefill_tokens + log.decodes * (1 + drafted))
    compute = log.steps * cost.linear.compute_s[knots] + contexts * cost.decode_compute_s
    compute += pairs * cost.prefill_pair_s + generated * cost.sequences.compute_s[1]
    memory = log.steps * (cost.linear.memory_s[knots] + cost.sequences.memory_s[0]) + contexts * cost.decode_memory_s
    return np.asarray(compute), np.asarray(memory)


def _scaled(values: Floats, total: float) -> Floats:
    """Return values with the same proportions that sum up to a total."""
    return values * (total / max(float(values.sum()), 1e-300))
