"""One kind of kernel in a step, by name: what a step's time is the sum of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simulator.performance.roofline import Floats, Work, wait


@dataclass(frozen=True)
class Operator:
    """A kernel, or kernels of one purpose, that some layers repeat.

    Attributes
    ----------
    name
        What it is for a person: ``"qkv projection"``.
    work
        Work of one layer on one accelerator.
    layers
        How many layers have it; a fraction where kinds of layers are spread over pipeline stages.
    """

    name: str
    work: Work
    layers: float

    @property
    def total(self) -> Work:
        """Work of all layers."""
        return self.work * self.layers


def total_work(operators: Iterable[Operator], like: Floats) -> Work:
    """Return the sum of some operators, none of them of the shape of ``like``."""
    work = wait(0.0, like)
    for operator in operators:
        work += operator.total
    return work
