"""Where a client is inside the run under way."""

from simulator.kernel._compile import compiled
from simulator.kernel.cost import run_ps


@compiled
def steps_ended(client, now):
    """Return how many iterations of the run under way have ended before ``now`` (not at it)."""
    if client.run_steps <= 1:
        return 0
    elapsed = now - client.step_start_ps - 1
    if elapsed < client.step_ps:
        return 0
    # Solve steps * a + growth * steps * (steps - 1) / 2 = elapsed in floats, then mend the rounding in integers.
    steps = elapsed // client.step_ps
    if client.step_growth_ps > 0:
        linear = client.step_ps - 0.5 * client.step_growth_ps
        root = (linear * linear + 2.0 * client.step_growth_ps * elapsed) ** 0.5
        steps = int((root - linear) / client.step_growth_ps)
    steps = max(0, min(steps, client.run_steps - 1))
    while steps > 0 and run_ps(client, steps) > elapsed:
        steps -= 1
    while steps < client.run_steps - 1 and run_ps(client, steps + 1) <= elapsed:
        steps += 1
    return steps


@compiled
def outstanding_tokens(client, now):
    """Return the tokens a client still has to compute for the requests routed to it."""
    if client.step_decodes == 0:
        return client.outstanding_tokens
    return client.outstanding_tokens - client.step_decodes * steps_ended(client, now)
