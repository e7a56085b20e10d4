"""Going through a sweep; how a point is timed is the business of a bench."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dse.profiling.points import Collective, Point
from dse.profiling.table import Measured


class Bench(Protocol):
    """Something that times points."""

    def seconds(self, point: Point) -> list[float]:
        """Return the times of some repeats, after a warm-up.

        Raises
        ------
        Unmeasured
            If the point cannot be measured here.
        """
        ...

    def collectives(self, points: Sequence[Collective]) -> list[Measured]:
        """Return the times of collectives; none if there is one accelerator."""
        ...

    def machine(self) -> dict[str, Any]:
        """Return what is known of the accelerator and the software."""
        ...


class Unmeasured(Exception):
    """A point that cannot be measured: too large for the memory, or without a kernel."""


def measure(
    points: Sequence[Point], bench: Bench, listener: Callable[[int], None] | None = None
) -> tuple[list[Measured], dict[str, int]]:
    """Return the times of all points that can be measured, and how many were left out for which reason.

    Parameters
    ----------
    points
        What to measure.
    bench
        What times it.
    listener
        Told how many points are done.
    """
    found: list[Measured] = []
    left_out: dict[str, int] = {}
    for number, point in enumerate(points, 1):
        try:
            found.append(Measured(point, tuple(bench.seconds(point))))
        except Unmeasured as reason:
            left_out[str(reason)] = left_out.get(str(reason), 0) + 1
        if listener:
            listener(number)
    return found, left_out
