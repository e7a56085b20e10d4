"""Layers split over a pipeline of different accelerators: every tp and number of stages solved, the best kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Literal

import numpy as np

from dse.placement.linear_program import INFINITE, NOTHING, Status
from dse.placement.spec import SplitSpec
from dse.placement.split_program import SolvedSplit, Split, SplitProblem, solve_split
from dse.placement.stage_costs import (
    DeviceCosts,
    blocks,
    device_costs,
    held_tokens,
    load_of,
    memory_bytes,
    pool_of,
)
from simulator import catalog
from simulator.errors import SpecError
from simulator.performance.engine import engine_of, one_vendor, tensor_parallel_sizes
from simulator.performance.explanation import stages_seconds, steps_seconds
from simulator.performance.memory import DoesNotFit, kv_blocks
from simulator.performance.mixed_pipeline import mean_send, send
from simulator.performance.pipeline import even_layers
from simulator.spec.deployment import Deployment, Pool


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a pipeline.

    Attributes
    ----------
    accelerator
        Of its ``tp`` devices.
    layers
        How many it has.
    work_s
        How long it works on a step, seconds.
    memory_bytes, allowed_bytes
        What each of its devices holds with the KV wanted, and what the engine may use of it.
    """

    accelerator: str
    layers: int
    work_s: float
    memory_bytes: float
    allowed_bytes: float

    @property
    def fits(self) -> bool:
        """Whether memory suffices."""
        return self.memory_bytes <= self.allowed_bytes


@dataclass(frozen=True)
class Pipeline:
    """A split, evaluated by the simulator's cost model.

    Attributes
    ----------
    pool
        One client with this split.
    stages
        Its stages in order.
    way_s
        Time of a micro-batch through all stages, sends included, seconds.
    step_s
        Time of the step as it is simulated, the engine's own included, seconds.
    kv_tokens
        Tokens of context for which there is room; 0 if the model does not fit.
    """

    pool: Pool
    stages: tuple[PlannedStage, ...]
    way_s: float
    step_s: float
    kv_tokens: int

    @property
    def bottleneck(self) -> int:
        """Place of the stage that works longest, from 0."""
        return max(range(len(self.stages)), key=lambda place: self.stages[place].work_s)

    @property
    def cycle_s(self) -> float:
        """Time in which every request advances by a step: the longest stage's work, or the way if that is longer."""
        return max(self.way_s, self.stages[self.bottleneck].work_s)

    @property
    def bubbles(self) -> float:
        """Idle share of the stages in a full pipeline: ``1 - mean work / longest work``."""
        work = [stage.work_s for stage in self.stages]
        return 1.0 - sum(work) / len(work) / max(work)

    @property
    def fits(self) -> bool:
        """Whether memory suffices on all stages."""
        return all(stage.fits for stage in self.stages)

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of each stage."""
        return tuple(stage.layers for stage in self.stages)


@dataclass(frozen=True)
class Alternative:
    """One tp and number of stages: what the solver found; seconds of the objective.

    With the status ``no better`` it is proved that it has no split below the best of those before it.
    """

    tp: int
    pp: int
    status: Status | Literal["no better"]
    objective_s: float
    bound_s: float
    nodes: int


@dataclass(frozen=True)
class SplitPlan:
    """The best split, the uniform one beside it, and the proof.

    Attributes
    ----------
    spec
        What was asked.
    planned, uniform
        The best split, and one with as equal numbers of layers as possible on the same devices in the order given;
        None where there are more stages than layers.
    alternatives
        Every tp and number of stages that was solved.
    """

    spec: SplitSpec
    planned: Pipeline
    uniform: Pipeline
    alternatives: tuple[Alternative, ...]

    @property
    def status(self) -> Status:
        """Optimal if every alternative is solved to its end, or proved not to be better."""
        return "optimal" if self.gap <= NOTHING else "feasible"

    @property
    def objective_s(self) -> float:
        """Of the split, as the solver counts it."""
        return min(each.objective_s for each in self.alternatives)

    @property
    def bound_s(self) -> float:
        """No split with any of the alternatives is below it."""
        return min(each.bound_s for each in self.alternatives)

    @property
    def gap(self) -> float:
        """``(objective - bound) / objective``."""
        return max(0.0, self.objective_s - self.bound_s) / self.objective_s

    @property
    def deployment(self) -> Deployment:
        """A deployment to simulate."""
        return Deployment(pools=(self.planned.pool,))


def plan_split(spec: SplitSpec) -> SplitPlan:
    """Return the best split of a model's layers, with the solver's proof.

    Every tp that is to be tried is solved, and with ``use: any`` every number of stages; the bound of all of them is
    the least of their bounds.

    Raises
    ------
    SpecError
        If a name is unknown, no tp divides model and devices, no split has enough memory (naming what is short), or
        none was found in time.
    """
    model = catalog.model(spec.model)
    one_vendor([devices.accelerator for devices in spec.devices])
    counts = [devices.count for devices in spec.devices]
    problems = []
    for tp in _degrees(spec, counts):
        most = min(sum(count // tp for count in counts), model.layers)
        sizes = range(1, most + 1) if spec.use == "any" else [sum(counts) // tp]
        problems += [split_problem(spec, tp, pp) for pp in sizes]
    # Short pipelines are solved at once, and what they reach spares much of the search among the long ones.
    problems.sort(key=lambda problem: problem.pp)
    alternatives: list[Alternative] = []
    best: Split | None = None
    best_s, tp, end = INFINITE, 1, monotonic() + spec.time_limit_s
    for problem in problems:
        solved = solve_split(problem, max(1.0, end - monotonic()), best_s)
        alternatives.append(_alternative(problem, solved, best_s))
        if solved.split is not None and solved.objective_s < best_s:
            best, best_s, tp = solved.split, solved.objective_s, problem.tp
    if best is None:
        if all(each.status == "infeasible" for each in alternatives):
            raise SpecError(_shortage(spec, problems))
        raise SpecError(f"time_limit_s: no split was found in {spec.time_limit_s:g} s; allowed: longer")
    names = [spec.devices[kind].accelerator for kind in best.kinds]
    planned = evaluate(spec, names, [sum(layers) for layers in best.layers], tp)
    if spec.order == "free":
        listed = [devices.accelerator for devices in spec.devices]
        names.sort(key=listed.index)
    return SplitPlan(
        spec, planned, evaluate(spec, names, even_layers(model.layers, len(names)), tp), tuple(alternatives)
    )


def _alternative(problem: SplitProblem, solved: SolvedSplit, best_s: float) -> Alternative:
    """Return what was found of an alternative of which only what is below the best so far was looked for."""
    status: Status | Literal["no better"] = solved.solution.status
    bound_s = solved.bound_s
    if status == "infeasible" and best_s < INFINITE:
        status, bound_s = "no better", best_s
    return Alternative(problem.tp, problem.pp, status, solved.objective_s, bound_s, solved.solution.nodes)


def split_problem(spec: SplitSpec, tp: int, pp: int) -> SplitProblem:
    """Return the problem of a tp and a number of stages."""
    kinds = tuple(device_costs(spec, devices.accelerator, tp, pp) for devices in spec.devices)
    load = load_of(spec)
    micro_batches = min(load.tokens(0), pp)
    each = np.array([float(ceil(load.tokens(0) / micro_batches))])
    counts = tuple(devices.count // tp for devices in spec.devices)
    order = None
    if spec.order == "given":
        order = tuple(kind for kind, count in enumerate(counts) for _ in range(count))
    return SplitProblem(
        kinds=kinds,
        stages_of_kind=counts,
        pp=pp,
        blocks=blocks(kinds[0].engine.model),
        micro_batches=micro_batches,
        send_s=tuple(tuple(float(send(j.engine, i.engine, each).seconds[0]) for i in kinds) for j in kinds),
        use_all=spec.use == "all",
        order=order,
        latency=spec.objective == "latency",
    )


def pipeline_pool(spec: SplitSpec, accelerators: Sequence[str], layers: Sequence[int], tp: int) -> Pool:
    """Return a pool of one client whose stages have these accelerators and layers."""
    several = len(set(accelerators)) > 1
    return pool_of(spec, accelerators[0], tp, len(layers)).model_copy(
        update={
            "layers_per_stage": tuple(layers) if len(layers) > 1 else None,
            "stage_accelerators": tuple(accelerators) if several else None,
        }
    )


def evaluate(spec: SplitSpec, accelerators: Sequence[str], layers: Sequence[int], tp: int) -> Pipeline:
    """Return a split as the simulator's cost model sees it; it need not fit.

    Raises
    ------
    SpecError
        If the model cannot be split so.
    """
    pool = pipeline_pool(spec, accelerators, layers, tp)
    engine, load = engine_of(pool), load_of(spec)
    work = stages_seconds(engine, load)
    allowed = pool.kv_memory.memory_utilization
    stages = tuple(
        PlannedStage(
            own.accelerator.name,
            stage.layers,
            seconds,
            memory_bytes(spec, engine, pool, stage),
            own.accelerator.usable_memory_bytes * allowed,
        )
        for own, stage, seconds in zip(engine.stage_engines, engine.stages, work, strict=True)
    )
    micro_batches = min(load.tokens(0), engine.pp)
    way_s = sum(work) / micro_batches
    if engine.pp > 1:
        each = np.array([float(ceil(load.tokens(0) / micro_batches))])
        way_s += float(mean_send(engine, each).seconds[0]) * (engine.pp - 1)
    try:
        room = kv_blocks(pool) * pool.kv_memory.block_tokens
    except DoesNotFit:
        room = 0
    return Pipeline(pool, stages, way_s, steps_seconds(engine, [load])[0], room)


def _degrees(spec: SplitSpec, counts: Sequence[int]) -> list[int]:
    """Return the degrees of tensor parallelism to try.

    Raises
    ------
    SpecError
        If there is none.
    """
    model = catalog.model(spec.model)
    allowed = tensor_parallel_sizes(model)
    largest = max(counts)
    if spec.use == "all":
        dividing = [tp for tp in allowed if all(count % tp == 0 for count in counts)]
    else:
        dividing = [tp for tp in allowed if tp <= largest]
    dividing = [tp for tp in dividing if spec.use == "any" or sum(counts) // tp <= model.layers]
    tried = dividing if spec.tp is None else [tp for tp in spec.tp if tp in dividing]
    if not tried:
        given = "absent" if spec.tp is None else ", ".join(map(str, spec.tp))
        raise SpecError(
            f"tp: {given}, but stages of {', '.join(map(str, counts))} devices and {model.name} allow "
            f"{', '.join(map(str, dividing)) or 'none'}"
        )
    return tried


def _shortage(spec: SplitSpec, problems: Sequence[SplitProblem]) -> str:
    """Return which memory is short where most layers fit."""

    def fits(problem: SplitProblem) -> int:
        return sum(_most(kind) * count for kind, count in zip(problem.kinds, problem.stages_of_kind, strict=True))

    best = max(problems, key=fits)
    first = best.kinds[0]
    held, layers = held_tokens(spec, first.pool), sum(best.blocks)
    each = ", ".join(
        f"{count * first.engine.tp} x {kind.accelerator} {_most(kind)} ({kind.allowed_bytes / 1e9:.1f} GB allowed, "
        f"{max(kind.layer_bytes) / 1e9:.2f} GB a layer)"
        for kind, count in zip(best.kinds, best.stages_of_kind, strict=True)
    )
    ends = (first.fixed_bytes(first=True, last=True) - first.fixed_bytes(first=False, last=False)) / 1e9
    return (
        f"devices: {first.engine.model.name} in {spec.weights} with {held:,} tokens of KV does not fit: its {layers} "
        f"layers need room, stages of tp {first.engine.tp} have it for {fits(best)}, each of {each}, beside "
        f"{ends:.1f} GB of embedding and head on the first and last; allowed: more devices, fewer kv_tokens or a "
        "lower precision"
    )


def _most(kind: DeviceCosts) -> int:
    """Return how many layers of the last block, which has most of them, fit into one stage of a kind."""
    return kind.most_layers(len(kind.layer_s) - 1)
