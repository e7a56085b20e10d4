"""Time of a kernel from its operations and bytes, softly limited by compute or memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def _nothing() -> Floats:
    """Return a zero that adds to any shape."""
    return np.zeros(())


@dataclass(frozen=True)
class Chip:
    """Peaks of one accelerator at the precision of some kernels.

    Attributes
    ----------
    flops_per_s, bytes_per_s
        Dense peak of the matrix units and peak memory bandwidth.
    multiprocessors
        Streaming multiprocessors; None where the notion does not fit.
    """

    flops_per_s: float
    bytes_per_s: float
    multiprocessors: int | None


@dataclass(frozen=True)
class Work:
    """Time of some kernels, the time that each resource alone would need, and what they do.

    Attributes
    ----------
    seconds
        Duration, same shape as the tokens it was computed for.
    compute_s, memory_s, link_s
        Arithmetic, memory traffic and link traffic at achievable rates; for utilisation and energy.
    flops, moved_bytes, link_bytes
        Operations, bytes of memory and bytes sent, per accelerator; for explanations.
    """

    seconds: Floats
    compute_s: Floats
    memory_s: Floats
    link_s: Floats
    flops: Floats = field(default_factory=_nothing)
    moved_bytes: Floats = field(default_factory=_nothing)
    link_bytes: Floats = field(default_factory=_nothing)

    @property
    def parts(self) -> tuple[Floats, ...]:
        """All of its figures, in the order of the constructor."""
        return (
            self.seconds,
            self.compute_s,
            self.memory_s,
            self.link_s,
            self.flops,
            self.moved_bytes,
            self.link_bytes,
        )

    def __add__(self, other: Work) -> Work:
        """Return the work of both, one after the other."""
        return Work(*(mine + its for mine, its in zip(self.parts, other.parts, strict=True)))

    def __mul__(self, times: float | Floats) -> Work:
        """Return the work repeated."""
        return Work(*(part * times for part in self.parts))


def soft_maximum(first: Floats, second: Floats, sharpness: float) -> Floats:
    """Return ``(first^s + second^s)^(1/s)``: the sum for s = 1, the maximum for large s. Both are not negative."""
    longest = np.maximum(first, second)
    shortest = np.minimum(first, second)
    # The quotient keeps small times to high powers from vanishing.
    share = np.divide(shortest, longest, out=np.zeros_like(longest), where=longest > 0)
    return np.asarray(longest * (1.0 + share**sharpness) ** (1.0 / sharpness))


def kernel(
    flops: Floats,
    moved_bytes: Floats,
    flops_per_s: float,
    bytes_per_s: float,
    *,
    sharpness: float = 4.0,
    latency_s: float = 0.0,
) -> Work:
    """Return the work of a kernel that computes while it streams.

    The duration is ``latency + (c^s + m^s)^(1/s)`` of compute time c and memory time m: the roofline
    ``max(c, m)`` (Williams et al., CACM 2009) with a smooth ridge, where real kernels overlap imperfectly
    (for s = 4 at most 19 % above the maximum).

    Parameters
    ----------
    flops, moved_bytes
        Operations and bytes, any shape.
    flops_per_s, bytes_per_s
        Achievable rates.
    sharpness
        Exponent s.
    latency_s
        Time in which neither is busy.
    """
    compute, memory = flops / flops_per_s, moved_bytes / bytes_per_s
    duration = latency_s + soft_maximum(compute, memory, sharpness)
    return Work(duration, compute, memory, np.zeros_like(duration), flops, moved_bytes)


def stream(moved_bytes: Floats, bytes_per_s: float, latency_s: float = 0.0) -> Work:
    """Return the work of a kernel that only moves memory: ``latency + bytes / rate``."""
    seconds = moved_bytes / bytes_per_s
    zero = np.zeros_like(seconds)
    return Work(latency_s + seconds, zero, seconds, zero, zero, moved_bytes)


def wait(seconds: float | Floats, like: Floats) -> Work:
    """Return time in which no resource works (launches, scheduling), in the shape of ``like``."""
    zero = np.zeros_like(like)
    return Work(zero + seconds, zero, zero, zero)
