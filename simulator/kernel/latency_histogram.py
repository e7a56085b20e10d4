"""Inter-token latencies in logarithmic bins of at most 0.8 %, filled in closed form over a run."""

import math

from simulator.kernel._compile import compiled
from simulator.kernel.layout import ITL_BITS


@compiled
def exponent_of(gap_ps):
    """Return by how many bits a gap is shortened to fit a bin number."""
    return max(0, math.frexp(float(gap_ps))[1] - ITL_BITS - 1)


@compiled
def count_gap(world, scratch, gap_ps, count):
    """Count a gap between two tokens ``count`` times."""
    exponent = exponent_of(gap_ps)
    scratch[world.itl_histogram + (exponent << ITL_BITS) + (gap_ps >> exponent)] += count


@compiled
def count_series(world, scratch, gap_ps, growth_ps, length, count):
    """Count ``length`` gaps in arithmetic progression, each ``count`` times."""
    left = length
    while left > 0:
        exponent = exponent_of(gap_ps)
        mantissa = gap_ps >> exponent
        inside = left
        if growth_ps > 0:
            edge = (mantissa + 1) << exponent
            inside = min(left, (edge - gap_ps + growth_ps - 1) // growth_ps)
        scratch[world.itl_histogram + (exponent << ITL_BITS) + mantissa] += inside * count
        gap_ps += inside * growth_ps
        left -= inside
