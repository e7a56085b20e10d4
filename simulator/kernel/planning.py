"""What a client does next: preempt, continue a prompt, admit, and how long the step or run of steps takes."""

from simulator.kernel._compile import compiled
from simulator.kernel.adapters import is_adapter_refused, take_adapter
from simulator.kernel.ahead import let_in
from simulator.kernel.blocks import (
    blocks_for,
    blocks_to_hold,
    count_phase,
    fixed_blocks,
    growth_in_iteration,
    longest_run,
)
from simulator.kernel.cost import linear_ps, prefill_attention_ps, run_ps, sequences_ps
from simulator.kernel.heaps import (
    finish_iteration,
    next_finish_iteration,
    push_finish,
    remove_finish,
    reschedule,
)
from simulator.kernel.layout import (
    BLOCKED_BATCH,
    BLOCKED_BUDGET,
    BLOCKED_KV,
    BLOCKED_NOT,
    DECODING,
    LONGEST_RUN,
    LONGEST_STEP_PS,
    NEVER,
    ORDER_PRIORITY,
    POLICY_CHUNKED,
    POLICY_STATIC,
    PREFILLING,
    STARTED,
    SWAPPED,
    WAITING,
)
from simulator.kernel.lists import pop_front, push_front, start_running, stop_running
from simulator.kernel.noise import with_noise
from simulator.kernel.pipeline import note
from simulator.kernel.prefix import free_request, look_up, make_room, reference_hits
from simulator.kernel.speculation import blocks_of_iteration, speculative_growth


@compiled
def growth_of(client, requests, scratch):
    """Return the blocks that the decoding requests take in the next iteration."""
    if client.draft > 0:
        return speculative_growth(client, requests)
    return growth_in_iteration(client, scratch, 0)


@compiled
def window_of(client, request):
    """Return how much context of a request its windowed layers see on average."""
    return min(client.window_tokens, request.prompt_tokens + request.output_tokens // 2)


@compiled
def stop_decoding(client, requests, scratch, r, context):
    """Take a request out of what the decodes of a client sum up to."""
    request = requests[r]
    if client.draft == 0:
        remove_finish(client, requests, scratch, r)
        count_phase(client, scratch, context, -1)
    client.decoding -= 1
    client.context_tokens -= context
    client.window_context -= window_of(client, request)


@compiled
def victim(client, requests):
    """Return the running request to preempt: the last, by priority if that is the client's order."""
    found = r = client.running_tail
    if client.order == ORDER_PRIORITY:
        while r >= 0:
            if requests[r].priority > requests[found].priority:
                found = r
            r = requests[r].previous
    return found


@compiled
def preempt(world, client, requests, scratch):
    """Evict a request; it will be recomputed, or swapped in again."""
    r = victim(client, requests)
    request = requests[r]
    swapped = False
    if request.state == DECODING:
        if client.draft == 0:
            left = finish_iteration(client, request, scratch) - client.iterations
            request.generated = request.output_tokens - left
            if request.joined_iteration < client.iterations:
                request.last_token_ps = client.last_iteration_ps
        context = request.prompt_tokens + request.generated - 1
        stop_decoding(client, requests, scratch, r, context)
        swapped = client.swap_ps > 0 and context <= client.swap_free
        if swapped:
            client.swap_free -= context
            client.extra_ps += client.swap_ps * context
        else:
            client.outstanding_tokens += request.prompt_tokens + request.generated
    else:
        context = request.prompt_tokens + request.generated
        client.outstanding_tokens += request.prefilled
        client.partial = -1
    free_request(world, client, request, scratch, context)
    stop_running(client, requests, scratch, r)
    request.prefilled = 0
    request.state = SWAPPED if swapped else WAITING
    request.preemptions += 1
    client.preemptions += 1
    push_front(client, requests, r)


@compiled
def blocks_to_admit(world, client, request):
    """Return the blocks that must be free for a waiting request to be admitted."""
    target = request.prompt_tokens + request.generated
    if client.policy == POLICY_STATIC:
        return blocks_to_hold(client, request, request.prompt_tokens)
    if client.draft > 0 and request.state != WAITING:
        return blocks_of_iteration(client, request)
    # With its KV present, the request needs room for the token that comes next: as much as if it were prefilled.
    needed = blocks_for(client, target) + fixed_blocks(client, request)
    if client.reuses == 1 and request.state == WAITING:
        needed -= (request.hits - request.idle_hits) * (world.chunk_tokens // client.block_tokens)
    return needed


@compiled
def refusal(world, client, request, scratch, growth):
    """Return why the head of the queue cannot join the step being planned, or ``BLOCKED_NOT``."""
    if client.running >= client.max_batch or is_adapter_refused(client, scratch, request.adapter):
        return BLOCKED_BATCH
    if request.state == WAITING and client.reuses == 1:
        look_up(world, client, request, scratch)
    if client.policy == POLICY_CHUNKED:
        if client.token_budget - client.decoding * (1 + client.draft) - client.step_prefill_tokens < 1:
            return BLOCKED_BUDGET
    elif request.state == WAITING and client.step_prefills > 0:
        target = request.prompt_tokens + request.generated
        if client.reuses == 1:
            target -= request.covered * world.chunk_tokens
        if client.step_prefill_tokens + target > client.token_budget:
            return BLOCKED_BUDGET
    reserve = growth
    if client.running > 0 and client.policy != POLICY_STATIC:
        reserve += client.watermark_blocks
    if client.free_blocks - reserve < blocks_to_admit(world, client, request):
        return BLOCKED_KV
    return BLOCKED_NOT


@compiled
def take_blocks(client, request, context):
    """Take the blocks of a request that is admitted."""
    held = blocks_to_hold(client, request, context)
    client.free_blocks -= held
    if client.draft > 0:
        request.blocks = held


@compiled
def start_decoding(client, requests, scratch, r, context, token_ps):
    """Let a running request decode from the client's next iteration on."""
    request = requests[r]
    request.state = DECODING
    request.joined_iteration = client.iterations
    request.last_token_ps = token_ps
    if client.draft == 0:
        last = client.iterations + request.output_tokens - request.generated
        push_finish(client, requests, scratch, r, last)
        count_phase(client, scratch, context, 1)
    client.decoding += 1
    client.context_tokens += context
    client.window_context += window_of(client, request)


@compiled
def give_chunk(client, requests, r, tokens):
    """Put prompt tokens of a request into the step being planned; return their attention time."""
    request = requests[r]
    request.chunk = tokens
    if client.prefill_head < 0:
        client.prefill_head = r
    if tokens == 0:
        return 0
    client.step_prefills += 1
    client.step_prefill_tokens += tokens
    client.prefill_pairs += tokens * request.prefilled + tokens * (tokens + 1) // 2
    return prefill_attention_ps(client, tokens, request.prefilled)


@compiled
def admit(world, client, requests, scratch, now):
    """Move the head of the queue to the running list; return the attention time its prefill adds."""
    r = pop_front(client, requests)
    request = requests[r]
    if request.scheduled_ps < 0:
        request.scheduled_ps = now
        note(scratch, request, STARTED, now)
    take_adapter(client, scratch, request.adapter)
    if request.state != WAITING:
        context = request.prompt_tokens + request.generated - 1
        if request.state == SWAPPED:
            client.swap_free += context
            client.extra_ps += client.swap_ps * context
        take_blocks(client, request, context)
        start_running(client, requests, r)
        start_decoding(client, requests, scratch, r, context, request.last_token_ps)
        return 0
    target = request.prompt_tokens + request.generated
    take_blocks(client, request, target)
    start_running(client, requests, r)
    request.state = PREFILLING
    request.prefilled = 0
    if client.reuses == 1:
        request.fetch_from = request.fetched = 0
        request.prefilled = request.covered * world.chunk_tokens
        reference_hits(world, client, request, scratch)
        client.free_blocks += request.hits * (world.chunk_tokens // client.block_tokens)
    target -= request.prefilled
    if client.policy == POLICY_CHUNKED:
        room = client.token_budget - client.decoding * (1 + client.draft) - client.step_prefill_tokens
        target = min(target, room)
    return give_chunk(client, requests, r, target)


@compiled
def admit_from_queue(world, client, requests, scratch, growth, now):
    """Admit from the head of the queue as long as there is room; return the attention time that prefills add."""
    attention = 0
    while True:
        while client.waiting_head >= 0:
            head = requests[client.waiting_head]
            client.blocked = refusal(world, client, head, scratch, growth)
            if client.blocked != BLOCKED_NOT:
                break
            attention += admit(world, client, requests, scratch, now)
            growth = growth_of(client, requests, scratch)
        if client.late_head < 0 or client.running > 0:
            return attention
        # Nothing was decided ahead.
        let_in(client, requests, now)


@compiled
def plan(world, clients, requests, scratch, c, now):
    """Plan a client's next step, or the longest run of equal steps, and schedule its end."""
    client = clients[c]
    client.prefill_head = -1
    client.step_prefills = 0
    client.step_prefill_tokens = 0
    client.blocked = BLOCKED_NOT
    attention = 0

    growth = growth_of(client, requests, scratch)
    while growth > client.free_blocks:
        preempt(world, client, requests, scratch)
        client.blocked = BLOCKED_KV
        growth = growth_of(client, requests, scratch)
    # What holds the queue back may differ in the next step: after a preemption, and once a static batch runs.
    once = client.blocked != BLOCKED_NOT or (client.policy == POLICY_STATIC and client.running == 0)

    if client.partial >= 0:
        request = requests[client.partial]
        left = request.prompt_tokens + request.generated - request.prefilled
        room = max(0, client.token_budget - client.decoding * (1 + client.draft))
        attention += give_chunk(client, requests, client.partial, min(left, room))

    if client.policy == POLICY_STATIC and client.running > 0:
        if client.waiting_head >= 0:
            client.blocked = BLOCKED_BATCH
    elif client.blocked == BLOCKED_NOT:
        attention += admit_from_queue(world, client, requests, scratch, growth, now)
        growth = growth_of(client, requests, scratch)

    decodes = client.decoding
    if client.policy != POLICY_CHUNKED and client.step_prefills > 0:
        decodes = 0
    client.step_decodes = decodes
    if decodes == 0:
        growth = 0
    make_room(world, client, scratch, growth)
    client.peak_blocks = max(client.peak_blocks, client.total_blocks - client.free_blocks + growth)
    client.peak_running = max(client.peak_running, client.running)
    decoded = decodes * (1 + client.draft)
    tokens = client.step_prefill_tokens + decoded
    client.peak_step_tokens = max(client.peak_step_tokens, tokens)
    if tokens == 0:
        let_in(client, requests, now)
        client.run_steps = 0
        reschedule(world, clients, scratch, c, NEVER)
        return

    client.step_start_ps = now
    client.step_ps = (
        linear_ps(scratch, client.linear, tokens)
        + sequences_ps(scratch, client.sequences, client.step_prefills + decodes)
        + attention
        + client.extra_ps
        + client.adapter_ps * client.active_adapters
    )
    if decodes > 0:
        client.step_ps += (
            client.attention_ps * (client.context_tokens + decoded)
            + client.window_ps * client.window_context
            + client.decode_ps
            + client.decode_sequence_ps * decodes
        )
    # What swaps and loads add passes with this step; who joined late may be the head of the queue after it.
    once = once or client.extra_ps > 0 or client.draft > 0 or client.late_head >= 0
    if client.noise >= 0:
        once = True
        client.step_ps = with_noise(world, client, scratch, c, client.step_ps)
    client.extra_ps = 0
    client.step_growth_ps = client.attention_ps * decodes
    client.run_steps = 1
    if client.step_prefills == 0 and not once and client.step_ps < LONGEST_STEP_PS:
        steps = min(world.max_run, LONGEST_RUN, next_finish_iteration(client, scratch) - client.iterations)
        client.run_steps = longest_run(client, scratch, steps)
    reschedule(world, clients, scratch, c, now + run_ps(client, client.run_steps))
