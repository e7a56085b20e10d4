"""A log of what clients did when, kept on request: one entry for each run of steps and each batch."""

from simulator.kernel._compile import compiled
from simulator.kernel.layout import (
    LOG_BLOCKS,
    LOG_CLIENT,
    LOG_DECODES,
    LOG_END_PS,
    LOG_FIELDS,
    LOG_PREFILL_TOKENS,
    LOG_RUNNING,
    LOG_START_PS,
    LOG_STEPS,
)


@compiled
def log_work(world, client, scratch, c, now):
    """Note the run or batch that ends now, if it lies in the window that is watched; what does not fit is counted."""
    if world.log_capacity == 0 or now < world.log_from_ps or client.step_start_ps > world.log_until_ps:
        return
    world.logged += 1
    if world.logged > world.log_capacity:
        return
    place = world.log + LOG_FIELDS * (world.logged - 1)
    scratch[place + LOG_CLIENT] = c
    scratch[place + LOG_START_PS] = client.step_start_ps
    scratch[place + LOG_END_PS] = now
    scratch[place + LOG_STEPS] = client.run_steps
    scratch[place + LOG_PREFILL_TOKENS] = client.step_prefill_tokens
    scratch[place + LOG_DECODES] = client.step_decodes
    scratch[place + LOG_RUNNING] = client.running
    scratch[place + LOG_BLOCKS] = client.total_blocks - client.free_blocks
