"""Which accelerator each stage of a pipeline has, and how many layers: the mixed-integer program.

Stage p = 1 … P, kind of accelerator j, block of equal layers k (in the order of the depth):

    a[p, j]     1 if stage p is on kind j
    n[p, j, k]  layers of block k on stage p, if it is on kind j
    z           the objective: the longest stage's work on a step (throughput), or the way through all stages (latency)

    minimise z
    sum over j of a[p, j] = 1                                      a stage is on one kind
    sum over p of a[p, j] <= stages that there are of kind j       (or equal, if all must be used)
    sum over p, j of n[p, j, k] = layers of block k
    a[p, j] <= sum over k of n[p, j, k],  n[p, j, k] <= fit[p, j, k] a[p, j]
    sum over k of bytes[j, k] n[p, j, k] + fixed[p, j] a[p, j] <= allowed[j] a[p, j]
    throughput: z >= work[p] for every p, work[p] = sum over j, k of s[j, k] n[p, j, k] + last[p, j] a[p, j]
    both:       z >= sum over p of work[p] / m + sum of sends      m micro-batches, each in one stage at a time

Blocks lie one after the other: layers of a block stand on stage p only if all of the blocks before it stand on stages
up to p. A send between two stages costs what it costs between their kinds: ``pair >= a[p, j] + a[p + 1, i] - 1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from dse.placement.linear_program import INFINITE, LinearProgram, Solution
from dse.placement.stage_costs import DeviceCosts

UNITS: Final = 1000.0
"""What the work of a perfectly even split is scaled to: far above the solver's tolerances."""


@dataclass(frozen=True)
class SplitProblem:
    """What a split is made of.

    Attributes
    ----------
    kinds
        Costs of each kind of accelerator.
    stages_of_kind
        Stages that there are of each.
    pp
        Number of stages.
    blocks
        Layers of each block.
    micro_batches
        Micro-batches of the step.
    send_s
        Time of a send from one kind to another, seconds.
    use_all
        Whether every stage that there is must be used.
    order
        Kind of each stage, where it is given.
    latency
        Whether the way is to be shortest instead of the longest stage.
    """

    kinds: tuple[DeviceCosts, ...]
    stages_of_kind: tuple[int, ...]
    pp: int
    blocks: tuple[int, ...]
    micro_batches: int
    send_s: tuple[tuple[float, ...], ...]
    use_all: bool
    order: tuple[int, ...] | None
    latency: bool

    @property
    def tp(self) -> int:
        """Accelerators of each stage."""
        return self.kinds[0].engine.tp

    def last_s(self, stage: int, kind: int) -> float:
        """Return the time of a stage without its layers."""
        return self.kinds[kind].last_s if stage == self.pp - 1 else 0.0

    def fixed_bytes(self, stage: int, kind: int) -> float:
        """Return the memory of a stage without its layers."""
        return self.kinds[kind].fixed_bytes(first=stage == 0, last=stage == self.pp - 1)

    def work_s(self, stage: int, kind: int, layers: Sequence[int]) -> float:
        """Return the work of a stage with so many layers of each block."""
        own = self.kinds[kind]
        return self.last_s(stage, kind) + sum(each * count for each, count in zip(own.layer_s, layers, strict=True))


@dataclass(frozen=True)
class Split:
    """Kind of each stage, and its layers of each block; in seconds of the program's linear costs."""

    kinds: tuple[int, ...]
    layers: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SolvedSplit:
    """A split with what the solver proved, in seconds."""

    split: Split | None
    solution: Solution
    scale_s: float

    @property
    def objective_s(self) -> float:
        """Of the split."""
        return self.solution.objective * self.scale_s

    @property
    def bound_s(self) -> float:
        """No split is below it."""
        return self.solution.bound * self.scale_s


def solve_split(problem: SplitProblem, time_limit_s: float, below_s: float = INFINITE) -> SolvedSplit:
    """Return the best split.

    For throughput the way through all stages is left out at first, and with it the sends: then stages that can only
    have layers of the last block may change places, but for the last stage, and only one order of them is looked at. If
    the way of what is found is no longer than its longest stage, it is the best for both; else all is solved at once.

    Parameters
    ----------
    time_limit_s
        For each of the two.
    below_s
        Splits that take longer are not looked for.
    """
    if problem.latency:
        return _solve(problem, time_limit_s, below_s, way=True)
    found = _solve(problem, time_limit_s, below_s, way=False)
    if found.split is None or _way_s(problem, found.split) <= found.objective_s:
        return found
    return _solve(problem, time_limit_s, below_s, way=True)


def _way_s(problem: SplitProblem, split: Split) -> float:
    work = [problem.work_s(p, split.kinds[p], split.layers[p]) for p in range(problem.pp)]
    return sum(work) / problem.micro_batches + sum(problem.send_s[j][i] for j, i in pairwise(split.kinds))


def _solve(problem: SplitProblem, time_limit_s: float, below_s: float, *, way: bool) -> SolvedSplit:
    program, kinds, stages = LinearProgram(), range(len(problem.kinds)), range(problem.pp)
    depth = range(len(problem.blocks))
    fastest = [min(kind.layer_s[k] for kind in problem.kinds) for k in depth]
    scale_s = sum(count * each for count, each in zip(problem.blocks, fastest, strict=True)) / problem.pp / UNITS
    here = {
        (p, j): program.variable(0, 1 if problem.order is None or problem.order[p] == j else 0, integer=True)
        for p in stages
        for j in kinds
    }
    layers = {
        (p, j, k): program.variable(0, _fit(problem, p, j, k), integer=True)
        for p in stages
        for j in kinds
        for k in depth
    }
    objective = program.variable(0.0, below_s / scale_s)
    program.cost = {objective: 1.0}
    for p in stages:
        program.equal({here[p, j]: 1.0 for j in kinds}, 1.0)
        for j in kinds:
            own = problem.kinds[j]
            program.at_least({here[p, j]: -1.0} | {layers[p, j, k]: 1.0 for k in depth}, 0.0)
            for k in depth:
                program.at_most({layers[p, j, k]: 1.0, here[p, j]: -float(_fit(problem, p, j, k))}, 0.0)
            room = own.allowed_bytes - problem.fixed_bytes(p, j)
            memory = {layers[p, j, k]: own.layer_bytes[k] / own.allowed_bytes for k in depth}
            program.at_most(memory | {here[p, j]: -room / own.allowed_bytes}, 0.0)
    for j in kinds:
        taken = {here[p, j]: 1.0 for p in stages}
        (program.equal if problem.use_all else program.at_most)(taken, float(problem.stages_of_kind[j]))
    for k in depth:
        program.equal({layers[p, j, k]: 1.0 for p in stages for j in kinds}, float(problem.blocks[k]))
    _blocks_follow(program, problem, layers)
    work = [
        {layers[p, j, k]: problem.kinds[j].layer_s[k] / scale_s for j in kinds for k in depth}
        | {here[p, j]: problem.last_s(p, j) / scale_s for j in kinds}
        for p in stages
    ]
    if not problem.latency:
        for each in work:
            program.at_most(each | {objective: -1.0}, 0.0)
    if way:
        passed = {variable: value / problem.micro_batches for each in work for variable, value in each.items()}
        passed |= _sends(program, problem, here, scale_s)
        program.at_most(passed | {objective: -1.0}, 0.0)
    else:
        # Every stage has a layer: after so many stages all blocks but the last are done.
        for p in stages[max(1, sum(problem.blocks[:-1])) : -2]:
            steps = {here[p, j]: float(j) for j in kinds} | {here[p + 1, j]: -float(j) for j in kinds}
            program.at_most(steps, 0.0)
    solution = program.minimise(time_limit_s)
    if not len(solution.values):
        return SolvedSplit(None, solution, scale_s)
    chosen = tuple(next(j for j in kinds if solution.values[here[p, j]] > 0.5) for p in stages)
    counts = tuple(tuple(round(solution.values[layers[p, chosen[p], k]]) for k in depth) for p in stages)
    return SolvedSplit(Split(chosen, counts), solution, scale_s)


def _fit(problem: SplitProblem, stage: int, kind: int, block: int) -> int:
    """Return the most layers of a block that a stage on a kind can have."""
    own = problem.kinds[kind]
    fits = own.most_layers(block, first=stage == 0, last=stage == problem.pp - 1)
    return min(fits, problem.blocks[block])


def _blocks_follow(program: LinearProgram, problem: SplitProblem, layers: dict[tuple[int, int, int], int]) -> None:
    """Add that a stage has layers of a block only if none of the block before it stands on a later stage."""
    kinds = range(len(problem.kinds))
    for k in range(1, len(problem.blocks)):
        for p in range(problem.pp):
            done = program.variable(0, 1, integer=True)
            before = {layers[q, j, k - 1]: 1.0 for q in range(p + 1) for j in kinds}
            program.at_least(before | {done: -float(problem.blocks[k - 1])}, 0.0)
            own = {layers[p, j, k]: 1.0 for j in kinds}
            program.at_most(own | {done: -float(problem.blocks[k])}, 0.0)


def _sends(
    program: LinearProgram, problem: SplitProblem, here: dict[tuple[int, int], int], scale_s: float
) -> dict[int, float]:
    """Add a variable for each pair of kinds of neighbours that is 1 if they are; return what they cost."""
    costs = {}
    kinds = range(len(problem.kinds))
    for p, j, i in ((p, j, i) for p in range(problem.pp - 1) for j in kinds for i in kinds):
        pair = program.variable(0, 1)
        program.at_most({here[p, j]: 1.0, here[p + 1, i]: 1.0, pair: -1.0}, 1.0)
        costs[pair] = problem.send_s[j][i] / scale_s
    return costs
