"""The event loop: arrivals, hand-overs and client events, in this order when simultaneous."""

from simulator.kernel._compile import compiled
from simulator.kernel.blocks import blocks_held
from simulator.kernel.completion import end_step
from simulator.kernel.cost import run_ps
from simulator.kernel.heaps import pop_handover, reschedule
from simulator.kernel.layout import HORIZON_PS, NEVER, READY, REJECTED, WAITING
from simulator.kernel.lists import push_back
from simulator.kernel.planning import plan
from simulator.kernel.progress import steps_ended
from simulator.kernel.routing import route


@compiled
def enqueue(world, clients, requests, scratch, c, r, now):
    """Let a request join a client's queue; wake the client, or cut its run at the next end of a step.

    A request that joins others left waiting cuts nothing: within a run, what keeps the head waiting stays.
    """
    client = clients[c]
    alone = client.waiting_head < 0
    push_back(client, requests, r)
    if client.run_steps == 0:
        if client.event_ps == NEVER:
            reschedule(world, clients, scratch, c, now)
    elif client.run_steps > 1 and alone:
        client.run_steps = steps_ended(client, now) + 1
        reschedule(world, clients, scratch, c, client.step_start_ps + run_ps(client, client.run_steps))


@compiled
def arrive(world, clients, requests, scratch, r):
    """Route an arriving request, or reject it."""
    request = requests[r]
    c = route(world, clients, request, False, request.arrival_ps, -1)
    if c < 0:
        request.state = REJECTED
        return
    request.state = WAITING
    request.client = c
    enqueue(world, clients, requests, scratch, c, r, request.arrival_ps)


@compiled
def hand_over(world, clients, requests, scratch, r):
    """Free the KV of a request on its prefill client and queue it at its decode client."""
    request = requests[r]
    now = request.handover_ps
    source = clients[request.prefill_client]
    source.free_blocks += blocks_held(source, request, request.prompt_tokens)
    if source.event_ps == NEVER and source.waiting_head >= 0:
        reschedule(world, clients, scratch, request.prefill_client, now)
    request.state = READY
    enqueue(world, clients, requests, scratch, request.client, r, now)


@compiled
def run(world, clients, requests, scratch, tables):
    """Serve all requests; everything that happened is left in the arrays.

    Parameters
    ----------
    world
        Record of dtype ``WORLD``.
    clients, requests
        Record arrays of dtypes ``CLIENT`` and ``REQUEST``, requests sorted by arrival.
    scratch, tables
        Flat int64 arrays at whose offsets the records point.
    """
    arrived = 0
    while True:
        client_ps = scratch[world.event_heap]
        handover_ps = NEVER
        if world.handovers > 0:
            handover_ps = requests[scratch[world.handover_heap]].handover_ps
        if (
            arrived < requests.shape[0]
            and requests[arrived].arrival_ps <= handover_ps
            and requests[arrived].arrival_ps <= client_ps
        ):
            arrive(world, clients, requests, scratch, arrived)
            arrived += 1
        elif handover_ps < NEVER and handover_ps <= client_ps:
            hand_over(world, clients, requests, scratch, pop_handover(world, requests, scratch))
        elif client_ps < HORIZON_PS:
            c = scratch[world.event_heap + clients.shape[0]]
            if clients[c].run_steps > 0:
                end_step(world, clients, requests, scratch, c, client_ps)
            plan(world, clients, requests, scratch, tables, c, client_ps)
        else:
            world.overrun = client_ps < NEVER
            return
        world.events += 1
