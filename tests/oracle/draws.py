"""Draws: whole numbers that look random, but depend on the seed, the request and a salt alone."""

MASK = 2**32 - 1


def mix(x: int) -> int:
    """A bijection of the whole numbers below 2^32."""
    x = ((x ^ (x >> 16)) * 73244475) & MASK
    x = ((x ^ (x >> 16)) * 73244475) & MASK
    return x ^ (x >> 16)


def draw(seed: int, request: int, salt: int) -> int:
    """The draw of a request for a purpose."""
    return mix((mix((seed + request) & MASK) + salt) & MASK)
