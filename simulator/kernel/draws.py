"""Random numbers that depend on nothing but the seed, the request and what they are for."""

from simulator.kernel._compile import compiled

MASK = (1 << 32) - 1
MULTIPLIER = 73244475  # an odd number below 2**27, so that a product with 32 bits stays below 2**63


@compiled
def mix(x):
    """Scramble 32 bits: two rounds of xor-shift and multiplication."""
    x = ((x ^ (x >> 16)) * MULTIPLIER) & MASK
    x = ((x ^ (x >> 16)) * MULTIPLIER) & MASK
    return x ^ (x >> 16)


@compiled
def draw(world, request, salt):
    """Return 32 random bits of a request for one purpose."""
    return mix((mix((world.seed + request.number) & MASK) + salt) & MASK)
