"""Time of a kernel from its operations and bytes, softly limited by compute or memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Work:
    """Time of some kernels, and the time that each resource alone would need.

    Attributes
    ----------
    seconds
        Duration, same shape as the tokens it was computed for.
    compute_s, memory_s, link_s
        Arithmetic, memory traffic and link traffic at achievable rates; for utilisation and energy.
    """

    seconds: Floats
    compute_s: Floats
    memory_s: Floats
    link_s: Floats

    def __add__(self, other: Work) -> Work:
        """Return the work of both, one after the other."""
        return Work(
            self.seconds + other.seconds,
            self.compute_s + other.compute_s,
            self.memory_s + other.memory_s,
            self.link_s + other.link_s,
        )

    def __mul__(self, times: float) -> Work:
        """Return the work repeated."""
        return Work(self.seconds * times, self.compute_s * times, self.memory_s * times, self.link_s * times)


def kernel(flops: Floats, moved_bytes: Floats, flops_per_s: float, bytes_per_s: float) -> Work:
    """Return the work of a kernel that computes while it streams.

    The duration is ``(c⁴ + m⁴)^¼`` of compute time c and memory time m: the roofline
    ``max(c, m)`` (Williams et al., CACM 2009) with a smooth ridge, where real kernels overlap imperfectly
    (at most 19 % above the maximum).

    Parameters
    ----------
    flops, moved_bytes
        Operations and bytes, any shape.
    flops_per_s, bytes_per_s
        Achievable rates.
    """
    compute, memory = flops / flops_per_s, moved_bytes / bytes_per_s
    duration = np.sqrt(np.sqrt(compute**4 + memory**4))
    return Work(duration, compute, memory, np.zeros_like(duration))


def stream(moved_bytes: Floats, bytes_per_s: float) -> Work:
    """Return the work of a kernel that only moves memory."""
    seconds = moved_bytes / bytes_per_s
    return Work(seconds, np.zeros_like(seconds), seconds, np.zeros_like(seconds))


def wait(seconds: float | Floats, like: Floats) -> Work:
    """Return time in which no resource works (launches, scheduling), in the shape of ``like``."""
    zero = np.zeros_like(like)
    return Work(zero + seconds, zero, zero, zero)
