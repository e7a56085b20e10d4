"""What the end of a step, or of a run of steps, does to a client and its requests."""

from simulator.kernel._compile import compiled
from simulator.kernel.blocks import growth_in_run
from simulator.kernel.cost import knot_of
from simulator.kernel.heaps import next_finish_iteration, next_to_finish, push_hop
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
from simulator.kernel.links import start_transfer
from simulator.kernel.lists import stop_running
from simulator.kernel.log import log_work
from simulator.kernel.pipeline import leave_stage
from simulator.kernel.planning import start_decoding, stop_decoding
from simulator.kernel.prefix import free_finished, share_chunks
from simulator.kernel.routing import count_out, route_to_decode
from simulator.kernel.speculation import emit_tokens


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
    free_finished(world, client, request, scratch, context)
    count_out(client, request)
    stop_running(client, requests, scratch, r)
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
        stop_decoding(client, requests, scratch, r, context)
        finish(world, client, requests, scratch, r, c, context, now)


@compiled
def end_speculative_decodes(world, client, requests, scratch, c, now):
    """Advance every decoding request by the tokens that were accepted for it."""
    client.decode_context_tokens += client.context_tokens + client.step_decodes * (1 + client.draft)
    client.iterations += 1
    client.last_iteration_ps = now
    r = client.running_tail
    while r >= 0:
        request = requests[r]
        following = request.previous
        if request.state == DECODING:
            tokens = emit_tokens(world, client, request, scratch, now)
            client.decode_tokens += tokens
            client.context_tokens += tokens
            client.outstanding_tokens -= tokens
            if request.generated == request.output_tokens:
                context = request.prompt_tokens + request.generated - 1
                stop_decoding(client, requests, scratch, r, context)
                finish(world, client, requests, scratch, r, c, context, now)
        r = following
    client.peak_blocks = max(client.peak_blocks, client.total_blocks - client.free_blocks)
    client.fresh_head = client.prefill_head


@compiled
def send_to_decode(world, clients, requests, scratch, r, c, now):
    """Send the KV of a request whose prompt is done to a decode client; tell whether it goes anywhere."""
    client, request = clients[c], requests[r]
    target = route_to_decode(world, clients, requests, scratch, r, c, now)
    if target == c:
        return False
    stop_running(client, requests, scratch, r)
    count_out(client, request)
    request.state = HANDED_OVER
    request.last_token_ps = now
    request.client = target
    request.prefill_client = c
    work_ps = request.prompt_tokens * client.link_ps_per_token
    if client.link_layers > 0:
        work_ps = max(work_ps // client.link_layers, work_ps - (now - request.scheduled_ps))
    if client.egress >= 0:
        start_transfer(world, clients, requests, scratch, client.egress, r, work_ps, now)
    else:
        request.hop_ps = now + max(1, client.link_latency_ps + work_ps)
        push_hop(world, requests, scratch, r)
    return True


@compiled
def end_prompt(world, clients, requests, scratch, r, c, now):
    """Emit the token that a completed prefill yields and send the request on its way."""
    client, request = clients[c], requests[r]
    context = request.prompt_tokens + request.generated
    if client.cache >= 0:
        share_chunks(world, client, request, scratch, request.prompt_chunks)
    request.generated += 1
    if request.first_token_ps < 0:
        request.first_token_ps = now
        request.prefill_client = c
    else:
        count_gap(world, scratch, now - request.last_token_ps, 1)
    client.outstanding_tokens -= 1
    if request.generated == request.output_tokens:
        finish(world, client, requests, scratch, r, c, context, now)
    elif (
        client.role != ROLE_PREFILL
        or request.generated > 1  # it stayed before it was preempted
        or not send_to_decode(world, clients, requests, scratch, r, c, now)
    ):
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
    log_work(world, client, scratch, c, now)
    tokens = client.step_prefill_tokens + client.step_decodes * (1 + client.draft)
    scratch[client.step_histogram + knot_of(tokens)] += client.run_steps
    if client.blocked == BLOCKED_KV:
        client.blocked_kv_ps += duration
    elif client.blocked == BLOCKED_BATCH:
        client.blocked_batch_ps += duration
    elif client.blocked == BLOCKED_BUDGET:
        client.blocked_budget_ps += duration
    if client.step_decodes > 0:
        if client.draft > 0:
            end_speculative_decodes(world, client, requests, scratch, c, now)
        else:
            end_decodes(world, client, requests, scratch, c, now)
    if client.step_prefills > 0:
        end_prefills(world, clients, requests, scratch, c, now)
    client.run_steps = 0
