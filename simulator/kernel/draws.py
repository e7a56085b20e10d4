"""Random numbers that depend on nothing but the seed, the request or client and what they are for."""

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
def draw_numbered(world, number, salt):
    """Return 32 random bits of whoever has a number, for one purpose."""
    return mix((mix((world.seed + number) & MASK) + salt) & MASK)


@compiled
def draw(world, request, salt):
    """Return 32 random bits of a request for one purpose."""
    return draw_numbered(world, request.number, salt)


@compiled
def draw_for_step(world, c, step):
    """Return 32 random bits of a client's step; clients are numbered from the other end than requests."""
    return draw_numbered(world, MASK - c, mix(step & MASK))
