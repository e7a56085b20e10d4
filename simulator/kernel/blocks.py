"""KV blocks: what a request holds, and how many the decodes of a client take as their contexts grow.

A decoding request takes a block in the iteration whose token no longer fits, i.e. when its context is a multiple
of the block size. All contexts grow by one an iteration, so a client keeps only how many of its
decodes have each *phase*, ``(context - iterations) mod block``, and growth over any run is a sum of counters.
"""

from simulator.kernel._compile import compiled
from simulator.kernel.layout import POLICY_STATIC, ROLE_PREFILL


@compiled
def blocks_for(client, tokens):
    """Return the blocks that hold a number of tokens."""
    return (tokens + client.block_tokens - 1) // client.block_tokens


@compiled
def blocks_held(client, request, context):
    """Return the blocks of a running request with a context (static batching reserved the answer too)."""
    if client.policy == POLICY_STATIC and client.role != ROLE_PREFILL:
        return blocks_for(client, request.prompt_tokens + request.output_tokens)
    return blocks_for(client, context)


@compiled
def count_phase(client, scratch, context, change):
    """Add ``change`` to the counter of decodes whose phase is that of a context."""
    phase = (context - client.iterations) % client.block_tokens
    scratch[client.phases + phase] += change


@compiled
def growth_in_iteration(client, scratch, ahead):
    """Return the blocks taken in the iteration that is ``ahead`` (0: the next) iterations away."""
    if client.policy == POLICY_STATIC:
        return 0
    phase = (-(client.iterations + ahead)) % client.block_tokens
    return scratch[client.phases + phase]


@compiled
def growth_in_run(client, scratch, steps):
    """Return the blocks taken in the next ``steps`` iterations."""
    if client.policy == POLICY_STATIC:
        return 0
    cycles = steps // client.block_tokens
    growth = cycles * client.decoding
    for ahead in range(steps - cycles * client.block_tokens):
        growth += growth_in_iteration(client, scratch, ahead)
    return growth


@compiled
def longest_run(client, scratch, steps):
    """Return the largest number of iterations, at most ``steps``, for which the free blocks suffice."""
    if client.policy == POLICY_STATIC:
        return steps
    if client.decoding * (steps // client.block_tokens + 1) <= client.free_blocks:
        return steps
    cycles = client.free_blocks // client.decoding
    left = client.free_blocks - cycles * client.decoding
    possible = cycles * client.block_tokens
    while possible < steps:
        left -= growth_in_iteration(client, scratch, possible)
        if left < 0:
            break
        possible += 1
    return min(possible, steps)
