"""Designs that run the same course: they differ only in limits that never mattered.

A limit of a client acts at certain moments only: the largest batch when a request is admitted, the token budget when
prompts are put into a step, KV blocks when a request is admitted or grows. If a simulation never came to a limit, the
same deployment with another limit that it would not have come to either goes through the same states, step by step.
So its outcome is known without a simulation. Likewise a router has no choice where every stage has one client.

What is asked for, per pool, of both designs (``peak`` as observed in the one that was simulated):

- largest batch: above the most requests that ever ran on a client;
- token budget of chunked batching: above the most tokens that a step ever had; else, at least that, and no request
  ever waited for the budget;
- KV blocks, where they differ: at the peak there was still room for all running requests to grow, for the
  longest request and for the watermark; and there is no prefix cache, whose content depends on the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from dse.assessment import figures_of_cases
from dse.certificate.peaks import KV_BLOCKS, LONGEST, REFUSED, RUNNING, STEP_TOKENS
from dse.evaluation import Evaluation
from dse.spec import StudySpec
from simulator.lowering.pools import PoolPlan

LIMITS = ("max_batch_requests", "token_budget_tokens")
"""Dimensions of pools that are limits."""
ROUTER = "router"


@dataclass(frozen=True)
class Course:
    """What a simulation says about the limits of a pool."""

    running: float
    step_tokens: float
    kv_blocks: float
    refused_by_budget: bool
    longest_tokens: float


def courses_of(evaluation: Evaluation, spec: StudySpec, pool: str) -> list[Course] | None:
    """Return the course of a pool with each workload of a study; None if it was not noted."""
    courses = []
    for figures in figures_of_cases(evaluation.figures, spec):
        if f"{pool}.{RUNNING}" not in figures:
            return None
        courses.append(
            Course(
                figures[f"{pool}.{RUNNING}"],
                figures[f"{pool}.{STEP_TOKENS}"],
                figures[f"{pool}.{KV_BLOCKS}"],
                figures[f"{pool}.{REFUSED}"] > 0,
                figures[LONGEST],
            )
        )
    return courses


def is_unlimited(plan: PoolPlan, course: Course) -> bool:
    """Tell whether a client that goes through a course never comes to its batch limit or token budget."""
    batching = plan.pool.batching
    if course.running >= batching.max_batch_requests:
        return False
    if batching.policy == "chunked":
        return course.step_tokens < batching.token_budget_tokens
    return not course.refused_by_budget and course.step_tokens <= batching.token_budget_tokens


def has_room(plan: PoolPlan, course: Course) -> bool:
    """Tell whether a client that goes through a course never comes near its KV blocks."""
    block = plan.pool.kv_memory.block_tokens
    watermark = int(plan.blocks * plan.pool.kv_memory.watermark)
    longest = -(-course.longest_tokens // block)
    return course.kv_blocks + course.running + longest + watermark <= plan.blocks


def runs_alike(simulated: PoolPlan, other: PoolPlan, course: Course) -> bool:
    """Tell whether a pool with other limits would have gone through the same course as the one simulated.

    Parameters
    ----------
    simulated, other
        Plans of the pool, which may differ in ``max_batch_requests`` and ``token_budget_tokens`` only.
    course
        Of the simulation.
    """
    if simulated.engine != other.engine:
        # The time of a step depends on the limit itself.
        return False
    if simulated.pool.batching != other.pool.batching and not (
        is_unlimited(simulated, course) and is_unlimited(other, course)
    ):
        return False
    if simulated.blocks == other.blocks:
        return True
    plain = simulated.pool.prefix_cache is None and not simulated.engine.model.window and not simulated.engine.model.ssm
    return plain and has_room(simulated, course) and has_room(other, course)
