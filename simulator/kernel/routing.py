"""Which client takes a request. One function a rule; each returns a client or -1 if none is eligible."""

from simulator.kernel._compile import compiled
from simulator.kernel.layout import (
    NEVER,
    ROLE_DECODE,
    ROLE_PREFILL,
    ROUTER_JOIN_SHORTEST_QUEUE,
    ROUTER_ROUND_ROBIN,
)
from simulator.kernel.progress import outstanding_tokens


@compiled
def is_eligible(world, client, request, decoding):
    """Tell whether a client may take a request, for its decode (hand-over) or from its arrival on."""
    answered = request.prompt_tokens + request.output_tokens
    if decoding or client.role != ROLE_PREFILL:
        return (client.role == ROLE_DECODE) == decoding and answered <= client.capacity_tokens
    return request.prompt_tokens <= client.capacity_tokens and (
        request.output_tokens == 1 or answered <= world.decode_capacity_tokens
    )


@compiled
def next_in_turn(world, clients, request, decoding, start):
    """Return the first eligible client from ``start`` on, cyclically (round-robin)."""
    for step in range(clients.shape[0]):
        c = (start + step) % clients.shape[0]
        if is_eligible(world, clients[c], request, decoding):
            return c
    return -1


@compiled
def shortest_queue(world, clients, request, decoding):
    """Return the eligible client with the fewest outstanding requests."""
    best, least = -1, NEVER
    for c in range(clients.shape[0]):
        if clients[c].outstanding < least and is_eligible(world, clients[c], request, decoding):
            best, least = c, clients[c].outstanding
    return best


@compiled
def least_tokens(world, clients, request, decoding, now, source):
    """Return the eligible client with the fewest outstanding tokens.

    Steps that end right now count as ended on the clients whose events come before that of ``source``.
    """
    best, least = -1, NEVER
    for c in range(clients.shape[0]):
        if is_eligible(world, clients[c], request, decoding):
            tokens = outstanding_tokens(clients[c], now + 1 if c < source else now)
            if tokens < least:
                best, least = c, tokens
    return best


@compiled
def route(world, clients, request, decoding, now, source):
    """Pick a client by the world's rule and count the request as outstanding there.

    ``source`` is the prefill client that hands the request over, or -1 on arrival.
    """
    rule = world.handover_router if decoding else world.router
    if rule == ROUTER_ROUND_ROBIN:
        c = next_in_turn(
            world, clients, request, decoding, world.handover_pointer if decoding else world.arrival_pointer
        )
        if c >= 0 and decoding:
            world.handover_pointer = c + 1
        elif c >= 0:
            world.arrival_pointer = c + 1
    elif rule == ROUTER_JOIN_SHORTEST_QUEUE:
        c = shortest_queue(world, clients, request, decoding)
    else:
        c = least_tokens(world, clients, request, decoding, now, source)
    if c >= 0:
        client = clients[c]
        to_prefill = 0 if decoding else request.prompt_tokens
        to_generate = 1 if client.role == ROLE_PREFILL else request.output_tokens - request.generated
        client.outstanding += 1
        client.outstanding_tokens += to_prefill + to_generate
    return c
