"""Which client of a stage takes a request."""

from simulator.kernel._compile import compiled
from simulator.kernel.blocks import fits
from simulator.kernel.draws import draw
from simulator.kernel.layout import (
    FOR_DECODE,
    FOR_LENT_PREFILL,
    FOR_PREFILL,
    NEVER,
    POLICY_STATIC,
    ROLE_BOTH,
    ROLE_DECODE,
    ROLE_PREFILL,
    ROLE_SERVICE,
    ROUTER_JOIN_SHORTEST_QUEUE,
    ROUTER_LEAST_KV_TOKENS,
    ROUTER_LEAST_OUTPUT_TOKENS,
    ROUTER_LEAST_OUTSTANDING_TOKENS,
    ROUTER_LEAST_PROMPT_TOKENS,
    ROUTER_POWER_OF_TWO,
    ROUTER_PREFIX_AFFINITY,
    ROUTER_RANDOM,
    ROUTER_ROUND_ROBIN,
    ROUTER_SESSION_AFFINITY,
    STAGE_AFFINITY,
    STAGE_FIELDS,
    STAGE_FIRST,
    STAGE_HANDOVER_POINTER,
    STAGE_HANDOVER_ROUTER,
    STAGE_LAST,
    STAGE_LEND_DECODE_TOKENS,
    STAGE_LEND_PREFILL_TOKENS,
    STAGE_LLM,
    STAGE_LOCAL_HANDOVER,
    STAGE_POINTER,
    STAGE_ROUTER,
)
from simulator.kernel.prefix import leading_chunks
from simulator.kernel.progress import outstanding_tokens


@compiled
def takes_hand_over(scratch, stage, client, request, group):
    """Tell whether a client may decode a request that comes from a prefill client of a group."""
    if client.role != ROLE_DECODE or (scratch[stage + STAGE_LOCAL_HANDOVER] == 1 and client.group != group):
        return False
    return fits(client, request, request.prompt_tokens + request.output_tokens)


@compiled
def can_hand_over(scratch, stage, clients, client, request):
    """Tell whether some decode client could hold a request once its prompt is done at a prefill client."""
    hint = client.decode_hint
    if hint >= 0 and takes_hand_over(scratch, stage, clients[hint], request, client.group):
        return True
    for c in range(scratch[stage + STAGE_FIRST], scratch[stage + STAGE_LAST]):
        if takes_hand_over(scratch, stage, clients[c], request, client.group):
            return True
    return False


@compiled
def is_eligible(scratch, stage, clients, client, request, purpose, group):
    """Tell whether a client may take a request for a purpose; ``group`` is that of who hands it over."""
    if client.role == ROLE_SERVICE:
        return True
    if purpose == FOR_DECODE:
        return takes_hand_over(scratch, stage, client, request, group)
    if request.prompt_tokens < client.min_prompt or request.prompt_tokens > client.max_prompt:
        return False
    answered = request.prompt_tokens + request.output_tokens
    if client.role == ROLE_PREFILL:
        apart = request.output_tokens == 1 or can_hand_over(scratch, stage, clients, client, request)
        return apart and fits(client, request, request.prompt_tokens)
    return (client.role == ROLE_BOTH or purpose == FOR_LENT_PREFILL) and fits(client, request, answered)


@compiled
def can_ever_hold(world, clients, request, scratch):
    """Tell whether some client of a request's LLM stage could take it."""
    stage = world.stages + STAGE_FIELDS * request.llm_stage
    for c in range(scratch[stage + STAGE_FIRST], scratch[stage + STAGE_LAST]):
        if is_eligible(scratch, stage, clients, clients[c], request, FOR_PREFILL, -1):
            return True
    return False


@compiled
def all_above(scratch, stage, clients, request, purpose, group, tokens, now, source):
    """Tell whether every eligible client has more outstanding tokens than so many."""
    for c in range(scratch[stage + STAGE_FIRST], scratch[stage + STAGE_LAST]):
        client = clients[c]
        if not is_eligible(scratch, stage, clients, client, request, purpose, group):
            continue
        if outstanding_tokens(client, now + 1 if c < source else now) <= tokens:
            return False
    return True


@compiled
def next_in_turn(scratch, stage, clients, request, purpose, group, start):
    """Return the first eligible client from ``start`` on, cyclically (round-robin)."""
    count = scratch[stage + STAGE_LAST] - scratch[stage + STAGE_FIRST]
    ahead = max(0, start - scratch[stage + STAGE_FIRST])
    for step in range(count):
        c = scratch[stage + STAGE_FIRST] + (ahead + step) % count
        if is_eligible(scratch, stage, clients, clients[c], request, purpose, group):
            return c
    return -1


@compiled
def eligible_at(scratch, stage, clients, request, purpose, group, place):
    """Return the eligible client at a place, in order of index; with ``place`` -1 how many there are."""
    found = 0
    for c in range(scratch[stage + STAGE_FIRST], scratch[stage + STAGE_LAST]):
        if is_eligible(scratch, stage, clients, clients[c], request, purpose, group):
            if found == place:
                return c
            found += 1
    return found


@compiled
def drawn(world, scratch, stage, clients, request, purpose, group, power):
    """Return an eligible client at random, or the one with fewer requests of two at random."""
    count = eligible_at(scratch, stage, clients, request, purpose, group, -1)
    if count == 0:
        return -1
    salt = 4 * request.stage + (2 if purpose == FOR_DECODE else 0)
    a = eligible_at(scratch, stage, clients, request, purpose, group, draw(world, request, salt) % count)
    if not power:
        return a
    b = eligible_at(scratch, stage, clients, request, purpose, group, draw(world, request, salt + 1) % count)
    if a > b:
        a, b = b, a
    return b if clients[b].outstanding < clients[a].outstanding else a


@compiled
def load_of(world, stage, client, request, scratch, rule, now):
    """Return what a rule wants to be least."""
    if rule == ROUTER_LEAST_PROMPT_TOKENS:
        return client.outstanding_prompt
    if rule == ROUTER_LEAST_OUTPUT_TOKENS:
        return client.outstanding_output
    if rule == ROUTER_LEAST_KV_TOKENS:
        return client.outstanding_prompt + client.outstanding_output
    load = outstanding_tokens(client, now)
    if rule == ROUTER_PREFIX_AFFINITY:
        hits = 0
        if client.cache >= 0 and request.prompt_chunks > 0:
            hits = leading_chunks(world, client.cache, request, scratch, 0)
        load += scratch[stage + STAGE_AFFINITY] * (request.prompt_tokens - world.chunk_tokens * hits)
    return load


@compiled
def shortest_queue(scratch, stage, clients, request, purpose, group):
    """Return the eligible client with the fewest outstanding requests."""
    best, least = -1, NEVER
    for c in range(scratch[stage + STAGE_FIRST], scratch[stage + STAGE_LAST]):
        if clients[c].outstanding < least and is_eligible(scratch, stage, clients, clients[c], request, purpose, group):
            best, least = c, clients[c].outstanding
    return best


@compiled
def least_loaded(world, clients, stage, request, scratch, purpose, group, rule, now, source):
    """Return the eligible client with the least load by a rule.

    Steps that end right now count as ended on the clients whose events come before that of ``source``.
    """
    best, least = -1, NEVER
    for c in range(scratch[stage + STAGE_FIRST], scratch[stage + STAGE_LAST]):
        client = clients[c]
        # Were all steps of its run over, a client would have this much left: no need to know how many are.
        at_least = client.outstanding_tokens - client.step_decodes * client.run_steps
        if rule == ROUTER_LEAST_OUTSTANDING_TOKENS and at_least >= least:
            continue
        load = load_of(world, stage, client, request, scratch, rule, now + 1 if c < source else now)
        if load < least and is_eligible(scratch, stage, clients, client, request, purpose, group):
            best, least = c, load
    return best


@compiled
def rule_for(scratch, stage, purpose):
    """Return the rule for a purpose; affinities are of no use everywhere."""
    rule = scratch[stage + STAGE_HANDOVER_ROUTER] if purpose == FOR_DECODE else scratch[stage + STAGE_ROUTER]
    if scratch[stage + STAGE_LLM] == 0 or purpose == FOR_DECODE:
        if rule == ROUTER_SESSION_AFFINITY:
            return ROUTER_JOIN_SHORTEST_QUEUE
        if rule == ROUTER_PREFIX_AFFINITY:
            return ROUTER_LEAST_OUTSTANDING_TOKENS
    return rule


@compiled
def pick(world, clients, requests, scratch, r, purpose, group, now, source):
    """Apply the rule of the request's stage; return -1 if no client is eligible."""
    request = requests[r]
    stage = world.stages + STAGE_FIELDS * request.stage
    rule = rule_for(scratch, stage, purpose)
    if rule == ROUTER_ROUND_ROBIN:
        start = scratch[stage + STAGE_HANDOVER_POINTER] if purpose == FOR_DECODE else scratch[stage + STAGE_POINTER]
        c = next_in_turn(scratch, stage, clients, request, purpose, group, start)
        if c >= 0 and purpose == FOR_DECODE:
            scratch[stage + STAGE_HANDOVER_POINTER] = c + 1
        elif c >= 0:
            scratch[stage + STAGE_POINTER] = c + 1
        return c
    if rule in (ROUTER_RANDOM, ROUTER_POWER_OF_TWO):
        return drawn(world, scratch, stage, clients, request, purpose, group, rule == ROUTER_POWER_OF_TWO)
    if rule == ROUTER_SESSION_AFFINITY:
        former = request.former
        here = scratch[stage + STAGE_FIRST] <= former < scratch[stage + STAGE_LAST]
        if here and is_eligible(scratch, stage, clients, clients[former], request, purpose, group):
            return former
    if rule in (ROUTER_SESSION_AFFINITY, ROUTER_JOIN_SHORTEST_QUEUE):
        return shortest_queue(scratch, stage, clients, request, purpose, group)
    return least_loaded(world, clients, stage, request, scratch, purpose, group, rule, now, source)


@compiled
def count_in(client, request, tokens):
    """Count a request as outstanding on a client, with so many tokens to compute."""
    client.outstanding += 1
    if client.role == ROLE_SERVICE:
        client.outstanding_tokens += 1
        client.outstanding_prompt += 1
        client.outstanding_output += 1
        return
    client.outstanding_tokens += tokens
    client.outstanding_prompt += request.prompt_tokens
    client.outstanding_output += request.output_tokens


@compiled
def count_out(client, request):
    """Count a request off a client of an LLM stage."""
    client.outstanding -= 1
    client.outstanding_prompt -= request.prompt_tokens
    client.outstanding_output -= request.output_tokens


@compiled
def route_to_stage(world, clients, requests, scratch, r, now):
    """Pick the client that serves a request at the stage it reached."""
    request = requests[r]
    stage = world.stages + STAGE_FIELDS * request.stage
    purpose = FOR_PREFILL
    limit = scratch[stage + STAGE_LEND_PREFILL_TOKENS]
    if limit >= 0 and all_above(scratch, stage, clients, request, FOR_PREFILL, -1, limit, now, -1):
        purpose = FOR_LENT_PREFILL
    c = pick(world, clients, requests, scratch, r, purpose, -1, now, -1)
    client = clients[c]
    to_generate = 1 if client.role == ROLE_PREFILL else request.output_tokens
    count_in(client, request, request.prompt_tokens + to_generate)
    return c


@compiled
def route_to_decode(world, clients, requests, scratch, r, source, now):
    """Pick the client that decodes a request whose prompt is done; ``source`` if it lends itself."""
    request = requests[r]
    stage = world.stages + STAGE_FIELDS * request.stage
    lender = clients[source]
    answered = request.prompt_tokens + request.output_tokens
    # Static batching did not reserve room for the answer.
    limit = scratch[stage + STAGE_LEND_DECODE_TOKENS]
    may_stay = limit >= 0 and lender.policy != POLICY_STATIC and fits(lender, request, answered)
    if may_stay and all_above(scratch, stage, clients, request, FOR_DECODE, lender.group, limit, now, source):
        lender.outstanding_tokens += request.output_tokens - request.generated
        return source
    c = pick(world, clients, requests, scratch, r, FOR_DECODE, lender.group, now, source)
    count_in(clients[c], request, request.output_tokens - request.generated)
    return c
