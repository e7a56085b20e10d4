"""A service client: batches of whole requests, started when full or when the first has waited long enough."""

from simulator.kernel._compile import compiled
from simulator.kernel.cost import knot_of, linear_ps, sequences_ps
from simulator.kernel.heaps import reschedule
from simulator.kernel.layout import (
    NEVER,
    QUANTITY_MEDIA,
    QUANTITY_OUTPUT,
    QUANTITY_PROMPT,
    QUANTITY_QUERY,
    STARTED,
)
from simulator.kernel.log import log_work
from simulator.kernel.pipeline import leave_stage, note


@compiled
def units_of(client, request):
    """Return how much work a request is for a service."""
    if client.quantity == QUANTITY_QUERY:
        return request.query_tokens
    if client.quantity == QUANTITY_PROMPT:
        return request.prompt_tokens
    if client.quantity == QUANTITY_OUTPUT:
        return request.output_tokens
    if client.quantity == QUANTITY_MEDIA:
        return request.media_tokens
    return 1


@compiled
def take_batch(client, requests, scratch, size, now):
    """Move the first requests of the queue into the batch; return how much work they are."""
    units = 0
    client.batch_head = client.waiting_head
    r = last = client.waiting_head
    for _ in range(size):
        units += units_of(client, requests[r])
        note(scratch, requests[r], STARTED, now)
        last, r = r, requests[r].next
    requests[last].next = -1
    client.waiting_head = r
    if r < 0:
        client.waiting_tail = -1
    client.waiting -= size
    client.running = size
    return units


@compiled
def plan_service(world, clients, requests, scratch, c, now):
    """Start a batch, or wait until one is due."""
    client = clients[c]
    client.run_steps = 0
    if client.waiting == 0:
        reschedule(world, clients, scratch, c, NEVER)
        return
    due = requests[client.waiting_head].joined_ps + client.max_wait_ps
    if client.waiting < client.max_batch and due > now:
        reschedule(world, clients, scratch, c, due)
        return
    size = min(client.waiting, client.max_batch)
    units = take_batch(client, requests, scratch, size, now)
    client.run_steps = 1
    client.step_start_ps = now
    client.step_ps = linear_ps(scratch, client.linear, units) + sequences_ps(scratch, client.sequences, size)
    scratch[client.step_histogram + knot_of(units)] += 1
    reschedule(world, clients, scratch, c, now + client.step_ps)


@compiled
def end_batch(world, client, requests, scratch, c, now):
    """Let the requests of the batch leave."""
    client.busy_ps += client.step_ps
    client.steps += 1
    log_work(world, client, scratch, c, now)
    client.service_requests += client.running
    client.outstanding -= client.running
    client.outstanding_tokens -= client.running
    client.outstanding_prompt -= client.running
    client.outstanding_output -= client.running
    client.running = 0
    r = client.batch_head
    while r >= 0:
        following = requests[r].next
        requests[r].service_ps += now - requests[r].joined_ps
        leave_stage(world, client, requests, scratch, r, now)
        r = following
    client.batch_head = -1
