"""What a client does next: preempt, continue a prompt, admit, and how long the step or run of steps takes."""

from simulator.kernel._compile import compiled
from simulator.kernel.blocks import (
    blocks_for,
    blocks_held,
    count_phase,
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
    POLICY_CHUNKED,
    POLICY_STATIC,
    PREFILLING,
    READY,
    WAITING,
)
from simulator.kernel.lists import pop_front, push_front, start_running, stop_running


@compiled
def preempt_last(client, requests, scratch):
    """Evict the request admitted last; it will be recomputed."""
    r = client.running_tail
    request = requests[r]
    if request.state == DECODING:
        left = finish_iteration(client, request, scratch) - client.iterations
        request.generated = request.output_tokens - left
        context = request.prompt_tokens + request.generated - 1
        client.free_blocks += blocks_held(client, request, context)
        client.outstanding_tokens += request.prompt_tokens + request.generated
        if request.joined_iteration < client.iterations:
            request.last_token_ps = client.last_iteration_ps
        count_phase(client, scratch, context, -1)
        remove_finish(client, requests, scratch, r)
        client.decoding -= 1
        client.context_tokens -= context
    else:
        client.free_blocks += blocks_held(client, request, request.prompt_tokens + request.generated)
        client.outstanding_tokens += request.prefilled
        client.partial = -1
    stop_running(client, requests, r)
    request.prefilled = 0
    request.state = WAITING
    request.preemptions += 1
    client.preemptions += 1
    push_front(client, requests, r)


@compiled
def blocks_to_admit(client, request):
    """Return the blocks that must be free for a waiting request to be admitted."""
    if client.policy == POLICY_STATIC:
        return blocks_held(client, request, request.prompt_tokens)
    if request.state == READY:
        return blocks_for(client, request.prompt_tokens + 1)
    return blocks_for(client, request.prompt_tokens + request.generated)


@compiled
def refusal(client, request, growth):
    """Return why the head of the queue cannot join the step being planned, or ``BLOCKED_NOT``."""
    if client.running >= client.max_batch:
        return BLOCKED_BATCH
    if client.policy == POLICY_CHUNKED:
        if client.token_budget - client.decoding - client.step_prefill_tokens < 1:
            return BLOCKED_BUDGET
    elif request.state == WAITING and client.step_prefills > 0:
        target = request.prompt_tokens + request.generated
        if client.step_prefill_tokens + target > client.token_budget:
            return BLOCKED_BUDGET
    reserve = growth
    if client.running > 0 and client.policy != POLICY_STATIC:
        reserve += client.watermark_blocks
    if client.free_blocks - reserve < blocks_to_admit(client, request):
        return BLOCKED_KV
    return BLOCKED_NOT


@compiled
def start_decoding(client, requests, scratch, r, context, token_ps):
    """Let a running request decode from the client's next iteration on."""
    request = requests[r]
    request.state = DECODING
    request.joined_iteration = client.iterations
    request.last_token_ps = token_ps
    last = client.iterations + request.output_tokens - request.generated
    push_finish(client, requests, scratch, r, last)
    client.decoding += 1
    client.context_tokens += context
    count_phase(client, scratch, context, 1)


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
def admit(client, requests, scratch, now):
    """Move the head of the queue to the running list; return the attention time its prefill adds."""
    r = pop_front(client, requests)
    request = requests[r]
    if request.scheduled_ps < 0:
        request.scheduled_ps = now
    if request.state == READY:
        client.free_blocks -= blocks_held(client, request, request.prompt_tokens)
        start_running(client, requests, r)
        start_decoding(client, requests, scratch, r, request.prompt_tokens, request.last_token_ps)
        return 0
    target = request.prompt_tokens + request.generated
    client.free_blocks -= blocks_held(client, request, target)
    start_running(client, requests, r)
    request.state = PREFILLING
    request.prefilled = 0
    if client.policy == POLICY_CHUNKED:
        target = min(target, client.token_budget - client.decoding - client.step_prefill_tokens)
    return give_chunk(client, requests, r, target)


@compiled
def plan(world, clients, requests, scratch, tables, c, now):
    """Plan a client's next step, or the longest run of equal steps, and schedule its end."""
    client = clients[c]
    client.prefill_head = -1
    client.step_prefills = 0
    client.step_prefill_tokens = 0
    client.blocked = BLOCKED_NOT
    attention = 0

    growth = growth_in_iteration(client, scratch, 0)
    while growth > client.free_blocks:
        preempt_last(client, requests, scratch)
        client.blocked = BLOCKED_KV
        growth = growth_in_iteration(client, scratch, 0)
    # What holds the queue back may differ in the next step: after a preemption, and once a static batch runs.
    once = client.blocked != BLOCKED_NOT or (client.policy == POLICY_STATIC and client.running == 0)

    if client.partial >= 0:
        request = requests[client.partial]
        left = request.prompt_tokens + request.generated - request.prefilled
        room = max(0, client.token_budget - client.decoding)
        attention += give_chunk(client, requests, client.partial, min(left, room))

    if client.policy == POLICY_STATIC and client.running > 0:
        if client.waiting_head >= 0:
            client.blocked = BLOCKED_BATCH
    elif client.blocked == BLOCKED_NOT:
        while client.waiting_head >= 0:
            client.blocked = refusal(client, requests[client.waiting_head], growth)
            if client.blocked != BLOCKED_NOT:
                break
            attention += admit(client, requests, scratch, now)
            growth = growth_in_iteration(client, scratch, 0)

    decodes = client.decoding
    if client.policy != POLICY_CHUNKED and client.step_prefills > 0:
        decodes = 0
    client.step_decodes = decodes
    tokens = client.step_prefill_tokens + decodes
    client.peak_blocks = max(
        client.peak_blocks, client.total_blocks - client.free_blocks + (growth if decodes > 0 else 0)
    )
    if tokens == 0:
        client.run_steps = 0
        reschedule(world, clients, scratch, c, NEVER)
        return

    context = client.context_tokens + decodes if decodes > 0 else 0
    client.step_start_ps = now
    client.step_ps = (
        linear_ps(tables, client.linear, tokens)
        + sequences_ps(tables, client.sequences, client.step_prefills + decodes)
        + client.attention_ps * context
        + attention
    )
    client.step_growth_ps = client.attention_ps * decodes
    client.run_steps = 1
    if client.step_prefills == 0 and not once and client.step_ps < LONGEST_STEP_PS:
        steps = min(world.max_run, LONGEST_RUN, next_finish_iteration(client, scratch) - client.iterations)
        client.run_steps = longest_run(client, scratch, steps)
    reschedule(world, clients, scratch, c, now + run_ps(client, client.run_steps))
