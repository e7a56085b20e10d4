"""What the end of a step, or of a run of steps, does to a client and its requests."""

from simulator.kernel._compile import compiled
from simulator.kernel.blocks import blocks_held, count_phase, growth_in_run
from simulator.kernel.cost import knot_of
from simulator.kernel.heaps import (
    next_finish_iteration,
    next_to_finish,
    push_hop,
    remove_finish,
)
from simulator.kernel.latency_histogram import count_gap, count_series
from simulator.kernel.layout import (
    BLOCKED_BATCH,
    BLOCKED_BUDGET,
    BLOCKED_KV,
    DECODING,
    HANDED_OVER,
    PREFILLING,
    ROLE_PREFILL,
)
from simulator.kernel.lists import stop_running
from simulator.kernel.pipeline import leave_stage
from simulator.kernel.planning import start_decoding
from simulator.kernel.routing import route


@compiled
def count_token_gaps(world, client, requests, scratch):
    """Count the gaps between tokens over the run that ends."""
    first_end = client.step_start_ps + client.step_ps
    regular = client.step_decodes
    r = client.fresh_head
    while r >= 0:
        request = requests[r]
        if request.state == DECODING and request.joined_iteration == client.iterations:
            count_gap(world, scratch, first_end - request.last_token_ps, 1)
            regular -= 1
        r = request.next
    if regular > 0:
        count_gap(world, scratch, first_end - client.last_iteration_ps, regular)
    if client.run_steps > 1:
        second = client.step_ps + client.step_growth_ps
        count_series(world, scratch, second, client.step_growth_ps, client.run_steps - 1, client.step_decodes)


@compiled
def finish(world, client, requests, scratch, r, c, context, now):
    """Let a request that has all its tokens leave the client."""
    request = requests[r]
    request.generated = request.output_tokens
    request.finish_ps = now
    request.client = c
    client.free_blocks += blocks_held(client, request, context)
    client.outstanding -= 1
    stop_running(client, requests, r)
    leave_stage(world, client, requests, scratch, r, now)


@compiled
def end_decodes(world, client, requests, scratch, c, now):
    """Advance all decoding requests by the iterations of the run that ends."""
    steps, decodes = client.run_steps, client.step_decodes
    count_token_gaps(world, client, requests, scratch)
    client.free_blocks -= growth_in_run(client, scratch, steps)
    client.peak_blocks = max(client.peak_blocks, client.total_blocks - client.free_blocks)
    client.decode_tokens += steps * decodes
    client.decode_context_tokens += steps * (client.context_tokens + decodes)
    client.decode_context_tokens += decodes * (steps * (steps - 1) // 2)
    client.context_tokens += steps * decodes
    client.outstanding_tokens -= steps * decodes
    client.iterations += steps
    client.last_iteration_ps = now
    client.fresh_head = client.prefill_head
    while client.decoding > 0 and next_finish_iteration(client, scratch) == client.iterations:
        r = next_to_finish(client, scratch)
        context = requests[r].prompt_tokens + requests[r].output_tokens - 1
        remove_finish(client, requests, scratch, r)
        client.decoding -= 1
        client.context_tokens -= context
        count_phase(client, scratch, context, -1)
        finish(world, client, requests, scratch, r, c, context, now)


@compiled
def end_prompt(world, clients, requests, scratch, r, c, now):
    """Emit the token that a completed prefill yields and send the request on its way."""
    client, request = clients[c], requests[r]
    context = request.prompt_tokens + request.generated
    request.generated += 1
    if request.first_token_ps < 0:
        request.first_token_ps = now
        request.prefill_client = c
    else:
        count_gap(world, scratch, now - request.last_token_ps, 1)
    client.outstanding_tokens -= 1
    if request.generated == request.output_tokens:
        finish(world, client, requests, scratch, r, c, context, now)
    elif client.role == ROLE_PREFILL:
        stop_running(client, requests, r)
        client.outstanding -= 1
        request.state = HANDED_OVER
        request.last_token_ps = now
        request.hop_ps = now + client.link_latency_ps + request.prompt_tokens * client.link_ps_per_token
        request.client = route(world, clients, scratch, request, True, now, c)
        push_hop(world, requests, scratch, r)
    else:
        start_decoding(client, requests, scratch, r, context, now)


@compiled
def end_prefills(world, clients, requests, scratch, c, now):
    """Credit the prompt tokens of the step that ends, in order of admission."""
    client = clients[c]
    client.prefill_tokens += client.step_prefill_tokens
    client.outstanding_tokens -= client.step_prefill_tokens
    client.partial = -1
    r = client.prefill_head
    while r >= 0:
        request = requests[r]
        following = request.next
        if request.state == PREFILLING:
            request.prefilled += request.chunk
            if request.prefilled == request.prompt_tokens + request.generated:
                end_prompt(world, clients, requests, scratch, r, c, now)
            else:
                client.partial = r
        r = following


@compiled
def end_step(world, clients, requests, scratch, c, now):
    """Apply the effects of the run that ends now: decodes first, then prefills."""
    client = clients[c]
    duration = now - client.step_start_ps
    client.busy_ps += duration
    client.steps += client.run_steps
    tokens = client.step_prefill_tokens + client.step_decodes
    scratch[client.step_histogram + knot_of(tokens)] += client.run_steps
    if client.blocked == BLOCKED_KV:
        client.blocked_kv_ps += duration
    elif client.blocked == BLOCKED_BATCH:
        client.blocked_batch_ps += duration
    elif client.blocked == BLOCKED_BUDGET:
        client.blocked_budget_ps += duration
    if client.step_decodes > 0:
        end_decodes(world, client, requests, scratch, c, now)
    if client.step_prefills > 0:
        end_prefills(world, clients, requests, scratch, c, now)
    client.run_steps = 0
