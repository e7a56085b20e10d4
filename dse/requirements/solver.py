"""The least of each resource that keeps the promises in the cost model, and chips that just keep them.

More of a resource never makes a step longer, so the least is found by halving a bracket on a logarithmic scale. Under a
load more speed may once in a while mean a later token (batches fall otherwise); what is returned keeps the promises all
the same, and what lies half a percent below does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dse.requirements.bounds import Bound
from dse.requirements.chip import RESOURCES, WORDS, Chip, Resource
from dse.requirements.judge import Judge, Verdict
from simulator import catalog

TOLERANCE: Final = 0.005
"""Largest ratio, less 1, of what is returned and the most that does not keep the promises."""

GENEROUS: Final = 1000.0
"""How many times the larger of the bound and the largest in the catalogue a resource has that is to cost no time."""

PLENTY: Final = 4.0
"""On the front: how many times the least a chip has of what it has plenty of."""


@dataclass(frozen=True)
class Solution:
    """A chip that just keeps the promises.

    Attributes
    ----------
    label
        How its resources are balanced.
    chip
        Its figures.
    verdict
        What it reaches.
    """

    label: str
    chip: Chip
    verdict: Verdict


def least(keeps: Callable[[float], bool], low: float, high: float, tolerance: float = TOLERANCE) -> float | None:
    """Return the least value that keeps, to a tolerance; None if the highest does not.

    Parameters
    ----------
    keeps
        Whether a value does; some value on, all do.
    low, high
        Where to look.
    tolerance
        Largest ratio, less 1, of the answer and a value below it that does not keep.
    """
    if not keeps(high):
        return None
    if keeps(low):
        return low
    while high / low > 1 + tolerance:
        middle = math.sqrt(low * high)
        if keeps(middle):
            high = middle
        else:
            low = middle
    return high


class Solver:
    """Finds chips for one use case.

    Parameters
    ----------
    judge
        Of the use case.
    bounds
        What no chip can go below, by resource; a resource without one is not needed.
    """

    def __init__(self, judge: Judge, bounds: dict[Resource, Bound]) -> None:
        self.judge = judge
        self.bounds = bounds
        known = [Chip.of(name, judge.case) for name in catalog.accelerator_names()]
        like = Chip.of(judge.case.like, judge.case)
        most: dict[Resource, float] = {
            resource: GENEROUS * max(bounds[resource].value, *(chip.of_resource(resource) for chip in known))
            if resource in bounds
            else like.of_resource(resource)
            for resource in RESOURCES
        }
        self.unlimited = like.changed(most)

    @property
    def resources(self) -> tuple[Resource, ...]:
        """What the use case needs."""
        return tuple(resource for resource in RESOURCES if resource in self.bounds)

    @property
    def speeds(self) -> tuple[Resource, ...]:
        """What the use case needs, but for memory."""
        return tuple(resource for resource in self.resources if resource != "memory")

    def keeps(self, chip: Chip) -> bool:
        """Return whether a chip keeps the promises."""
        return self.judge.keeps(chip.name(self.judge.case))

    def solution(self, label: str, chip: Chip) -> Solution:
        """Return a chip with what it reaches."""
        return Solution(label, chip, self.judge.verdict(chip.name(self.judge.case)))

    def least_of(self, resource: Resource, chip: Chip) -> float | None:
        """Return the least of a resource with which a chip keeps the promises; None if no amount does.

        Parameters
        ----------
        resource
            What is free.
        chip
            All else.
        """
        high = max(chip.of_resource(resource), self.unlimited.of_resource(resource))
        return least(lambda value: self.keeps(chip.changed({resource: value})), self.bounds[resource].value, high)

    def alone(self) -> dict[Resource, float] | None:
        """Return the least of each resource where the others cost no time; None if no chip keeps the promises."""
        if not self.keeps(self.unlimited):
            return None
        found = {resource: self.least_of(resource, self.unlimited) for resource in self.resources}
        return {resource: value for resource, value in found.items() if value is not None}

    def front(self, alone: dict[Resource, float], *, balanced_only: bool = False) -> tuple[Solution, ...]:
        """Return chips that just keep the promises, the balanced one first.

        The balanced chip has the same multiple of the least of every speed, then the least memory. Of each speed follow
        a chip with little of it (the others have :data:`PLENTY` times the multiple) and one with plenty of it.

        Parameters
        ----------
        alone
            The least of each resource alone.
        balanced_only
            Whether to find only the balanced chip.
        """
        found = [self._in_proportion("balanced", alone, {})]
        if len(self.speeds) > 1 and not balanced_only:
            for resource in self.speeds:
                rest: dict[Resource, float] = {other: PLENTY for other in self.speeds if other != resource}
                found.append(self._in_proportion(f"little {WORDS[resource]}", alone, rest))
                if len(self.speeds) > 2:
                    found.append(self._in_proportion(f"plenty of {WORDS[resource]}", alone, {resource: PLENTY}))
        return tuple(found)

    def _in_proportion(self, label: str, alone: dict[Resource, float], weights: dict[Resource, float]) -> Solution:
        """Return the smallest chip whose speeds have these weights times the least of each, with the least memory."""

        def sized(scale: float) -> Chip:
            speeds = {each: scale * weights.get(each, 1.0) * alone[each] for each in self.speeds}
            return self.unlimited.changed(speeds)

        scale = least(lambda value: self.keeps(sized(value)), 1.0, GENEROUS)
        chip = sized(GENEROUS if scale is None else scale)
        memory = self.least_of("memory", chip)
        assert memory is not None, "with unlimited memory the chip was just seen to keep the promises"
        return self.solution(label, chip.changed({"memory": memory}))
