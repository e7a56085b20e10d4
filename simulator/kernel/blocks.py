"""KV blocks: what a request holds, and how many the decodes of a client take as their contexts grow.

A decoding request takes a block in the iteration whose token no longer fits, i.e. when its context is a multiple
of the block size. All contexts grow by one an iteration, so a client keeps only how many of its
decodes have each *phase*, ``(context - iterations) mod block``, and growth over any run is a sum of counters.
With speculation contexts grow by different amounts: there, see :mod:`simulator.kernel.speculation`.
"""

from simulator.kernel._compile import compiled
from simulator.kernel.layout import COEFFICIENT_SHIFT, POLICY_STATIC, ROLE_PREFILL


@compiled
def blocks_for(client, tokens):
    """Return the blocks that hold a number of tokens."""
    return (tokens + client.block_tokens - 1) // client.block_tokens


@compiled
def fixed_blocks(client, request):
    """Return the blocks of a request that do not grow: recurrent state, and KV that only a window sees."""
    if client.window_share == 0:
        return client.state_blocks
    tokens = request.prompt_tokens
    if client.role != ROLE_PREFILL:
        tokens += request.output_tokens
    share = min(tokens, client.window_tokens) * client.window_share
    block = client.block_tokens << COEFFICIENT_SHIFT
    return client.state_blocks + (share + block - 1) // block


@compiled
def fits(client, request, tokens):
    """Tell whether a client could hold so many tokens of a request if it held nothing else."""
    if client.window_share == 0:
        return tokens <= client.capacity_tokens
    return blocks_for(client, tokens) + fixed_blocks(client, request) <= client.total_blocks


@compiled
def blocks_to_hold(client, request, context):
    """Return the blocks that a request takes at its admission with so much context, shared ones not counted.

    Static batching reserves the answer, too.
    """
    if client.policy == POLICY_STATIC and client.role != ROLE_PREFILL:
        context = request.prompt_tokens + request.output_tokens
    return blocks_for(client, context) + fixed_blocks(client, request)


@compiled
def blocks_held(world, client, request, context):
    """Return the blocks that a running request with a context holds alone."""
    if client.draft > 0:
        return request.blocks
    held = blocks_to_hold(client, request, context)
    if request.shared > 0:
        held -= request.shared * (world.chunk_tokens // client.block_tokens)
    return held


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
    # Before entries of the prefix cache make room, the client plans again.
    free = client.free_blocks - client.cached_blocks
    if client.decoding * (steps // client.block_tokens + 1) <= free:
        return steps
    cycles = free // client.decoding
    left = free - cycles * client.decoding
    possible = cycles * client.block_tokens
    while possible < steps:
        left -= growth_in_iteration(client, scratch, possible)
        if left < 0:
            break
        possible += 1
    return min(possible, steps)
