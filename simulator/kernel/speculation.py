"""Decoding with speculation: requests advance by different numbers of tokens, so nothing is fast-forwarded."""

from simulator.kernel._compile import compiled
from simulator.kernel.blocks import blocks_for, fixed_blocks
from simulator.kernel.draws import draw
from simulator.kernel.latency_histogram import count_gap
from simulator.kernel.layout import DECODING

DRAW = 1 << 20


@compiled
def blocks_of_iteration(client, request):
    """Return the blocks that the next iteration of a decoding request may fill."""
    most = min(request.prompt_tokens + request.generated + client.draft, request.prompt_tokens + request.output_tokens)
    return blocks_for(client, most) + fixed_blocks(client, request)


@compiled
def speculative_growth(client, requests):
    """Return the blocks that the decoding requests take in their next iteration."""
    growth = 0
    r = client.running_tail
    while r >= 0:
        if requests[r].state == DECODING:
            growth += max(0, blocks_of_iteration(client, requests[r]) - requests[r].blocks)
        r = requests[r].previous
    return growth


@compiled
def accepted_tokens(world, client, request, scratch):
    """Return how many drafted tokens the model accepts."""
    drawn = draw(world, request, DRAW + request.generated)
    accepted = 0
    for i in range(client.draft):
        if scratch[client.thresholds + i] <= drawn:
            accepted += 1
    return accepted


@compiled
def emit_tokens(world, client, request, scratch, now):
    """Advance a decoding request by one iteration; return its new tokens."""
    held = max(request.blocks, blocks_of_iteration(client, request))
    client.free_blocks -= held - request.blocks
    request.blocks = held
    left = request.output_tokens - request.generated
    tokens = min(1 + accepted_tokens(world, client, request, scratch), left)
    count_gap(world, scratch, now - request.last_token_ps, 1)
    if tokens > 1:
        count_gap(world, scratch, 0, tokens - 1)
    request.generated += tokens
    request.last_token_ps = now
    return tokens
