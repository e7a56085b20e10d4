"""Steps that last longer or shorter than modelled, by factors from a table."""

from simulator.kernel._compile import compiled
from simulator.kernel.draws import draw_for_step
from simulator.kernel.layout import NOISE_BITS, NOISE_SHIFT

BEFORE_POINT = 32 - NOISE_BITS
AFTER_POINT = (1 << NOISE_SHIFT) - 1


@compiled
def with_noise(world, client, scratch, c, step_ps):
    """Return how long a client's next step lasts if the model says ``step_ps``."""
    factor = scratch[client.noise + (draw_for_step(world, c, client.steps) >> BEFORE_POINT)]
    # In two parts, so that no product exceeds 64 bits.
    low = ((step_ps & AFTER_POINT) * factor) >> NOISE_SHIFT
    return max(1, (step_ps >> NOISE_SHIFT) * factor + low)
