"""Which client of a stage takes a request. One function a rule; each returns a client or -1 if none is eligible."""

from simulator.kernel._compile import compiled
from simulator.kernel.layout import (
    NEVER,
    ROLE_DECODE,
    ROLE_PREFILL,
    ROLE_SERVICE,
    ROUTER_JOIN_SHORTEST_QUEUE,
    ROUTER_ROUND_ROBIN,
)
from simulator.kernel.progress import outstanding_tokens


@compiled
def can_ever_hold(world, request):
    """Tell whether the LLM stage has room for a request on some client, and on a decode client if it needs one."""
    answered = request.prompt_tokens + request.output_tokens
    if answered <= world.both_capacity_tokens:
        return True
    apart = request.output_tokens == 1 or answered <= world.decode_capacity_tokens
    return apart and request.prompt_tokens <= world.prefill_capacity_tokens


@compiled
def is_eligible(world, client, request, decoding):
    """Tell whether a client may take a request, for its decode (hand-over) or for the stage that it reached."""
    if client.stage != request.stage:
        return False
    if client.role == ROLE_SERVICE:
        return True
    answered = request.prompt_tokens + request.output_tokens
    if decoding or client.role != ROLE_PREFILL:
        return (client.role == ROLE_DECODE) == decoding and answered <= client.capacity_tokens
    return request.prompt_tokens <= client.capacity_tokens and (
        request.output_tokens == 1 or answered <= world.decode_capacity_tokens
    )


@compiled
def next_in_turn(world, clients, request, decoding, first, last, start):
    """Return the first eligible client from ``start`` on, cyclically (round-robin)."""
    ahead = max(0, start - first)
    for step in range(last - first):
        c = first + (ahead + step) % (last - first)
        if is_eligible(world, clients[c], request, decoding):
            return c
    return -1


@compiled
def shortest_queue(world, clients, request, decoding, first, last):
    """Return the eligible client with the fewest outstanding requests."""
    best, least = -1, NEVER
    for c in range(first, last):
        if clients[c].outstanding < least and is_eligible(world, clients[c], request, decoding):
            best, least = c, clients[c].outstanding
    return best


@compiled
def least_tokens(world, clients, request, decoding, first, last, now, source):
    """Return the eligible client with the fewest outstanding tokens.

    Steps that end right now count as ended on the clients whose events come before that of ``source``.
    """
    best, least = -1, NEVER
    for c in range(first, last):
        if is_eligible(world, clients[c], request, decoding):
            tokens = outstanding_tokens(clients[c], now + 1 if c < source else now)
            if tokens < least:
                best, least = c, tokens
    return best


@compiled
def pick(world, clients, scratch, request, decoding, now, source):
    """Apply the world's rule to the clients of the request's stage."""
    stage = world.stage_table + 3 * request.stage
    first, last = scratch[stage], scratch[stage + 1]
    rule = world.handover_router if decoding else world.router
    if rule == ROUTER_JOIN_SHORTEST_QUEUE:
        return shortest_queue(world, clients, request, decoding, first, last)
    if rule != ROUTER_ROUND_ROBIN:
        return least_tokens(world, clients, request, decoding, first, last, now, source)
    start = world.handover_pointer if decoding else scratch[stage + 2]
    c = next_in_turn(world, clients, request, decoding, first, last, start)
    if c >= 0 and decoding:
        world.handover_pointer = c + 1
    elif c >= 0:
        scratch[stage + 2] = c + 1
    return c


@compiled
def route(world, clients, scratch, request, decoding, now, source):
    """Pick a client and count the request as outstanding there.

    ``source`` is the prefill client that hands the request over, or -1 when it reaches a stage.
    """
    c = pick(world, clients, scratch, request, decoding, now, source)
    if c >= 0:
        client = clients[c]
        client.outstanding += 1
        if client.role == ROLE_SERVICE:
            client.outstanding_tokens += 1
        else:
            to_prefill = 0 if decoding else request.prompt_tokens
            to_generate = 1 if client.role == ROLE_PREFILL else request.output_tokens - request.generated
            client.outstanding_tokens += to_prefill + to_generate
    return c
