"""Draws: whole numbers that look random, but depend on a seed, a request and a salt, or a client's step, alone."""

MASK = 2**32 - 1


def mix(x: int) -> int:
    """A bijection of the whole numbers below 2^32."""
    x = ((x ^ (x >> 16)) * 73244475) & MASK
    x = ((x ^ (x >> 16)) * 73244475) & MASK
    return x ^ (x >> 16)


def draw(seed: int, request: int, salt: int) -> int:
    """The draw of a request for a purpose."""
    return mix((mix((seed + request) & MASK) + salt) & MASK)


def draw_of_step(seed: int, client: int, steps_before: int) -> int:
    """The draw of a client's step."""
    return draw(seed, 2**32 - 1 - client, mix(steps_before))
