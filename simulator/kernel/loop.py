"""The event loop: arrivals, hand-overs and hops, and client events, in this order when simultaneous."""

from simulator.kernel._compile import compiled
from simulator.kernel.blocks import blocks_held
from simulator.kernel.completion import end_step
from simulator.kernel.cost import run_ps
from simulator.kernel.heaps import pop_hop, reschedule
from simulator.kernel.layout import HANDED_OVER, HORIZON_PS, NEVER, READY, REJECTED, ROLE_SERVICE, WAITING
from simulator.kernel.lists import push_back
from simulator.kernel.planning import plan
from simulator.kernel.progress import steps_ended
from simulator.kernel.routing import can_ever_hold, route
from simulator.kernel.service import end_batch, plan_service


@compiled
def enqueue(world, clients, requests, scratch, c, r, now):
    """Let a request join a client's queue; wake the client, or cut its run at the next end of a step.

    A request that joins others left waiting cuts nothing: within a run, what keeps the head waiting stays.
    """
    client = clients[c]
    alone = client.waiting_head < 0
    push_back(client, requests, r)
    if client.role == ROLE_SERVICE:
        client.waiting += 1
        requests[r].joined_ps = now
    if client.run_steps == 0:
        if client.event_ps > now:
            reschedule(world, clients, scratch, c, now)
    elif client.run_steps > 1 and alone:
        client.run_steps = steps_ended(client, now) + 1
        reschedule(world, clients, scratch, c, client.step_start_ps + run_ps(client, client.run_steps))


@compiled
def reach_stage(world, clients, requests, scratch, r, now):
    """Route a request to a client of the stage that it reached."""
    request = requests[r]
    c = route(world, clients, scratch, request, False, now, -1)
    request.state = WAITING
    if clients[c].role != ROLE_SERVICE:
        request.client = c
    enqueue(world, clients, requests, scratch, c, r, now)


@compiled
def arrive(world, clients, requests, scratch, r):
    """Let a request enter the first stage, or reject it if the LLM stage could never hold it."""
    if can_ever_hold(world, requests[r]):
        reach_stage(world, clients, requests, scratch, r, requests[r].arrival_ps)
    else:
        requests[r].state = REJECTED


@compiled
def hand_over(world, clients, requests, scratch, r):
    """Free the KV of a request on its prefill client and queue it at its decode client."""
    request = requests[r]
    now = request.hop_ps
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
        hop_ps = NEVER
        if world.hops > 0:
            hop_ps = requests[scratch[world.hop_heap]].hop_ps
        if (
            arrived < requests.shape[0]
            and requests[arrived].arrival_ps <= hop_ps
            and requests[arrived].arrival_ps <= client_ps
        ):
            arrive(world, clients, requests, scratch, arrived)
            arrived += 1
        elif hop_ps < NEVER and hop_ps <= client_ps:
            r = pop_hop(world, requests, scratch)
            if requests[r].state == HANDED_OVER:
                hand_over(world, clients, requests, scratch, r)
            else:
                reach_stage(world, clients, requests, scratch, r, requests[r].hop_ps)
        elif client_ps < HORIZON_PS:
            c = scratch[world.event_heap + clients.shape[0]]
            if clients[c].role == ROLE_SERVICE:
                if clients[c].run_steps > 0:
                    end_batch(world, clients[c], requests, scratch, client_ps)
                plan_service(world, clients, requests, scratch, tables, c, client_ps)
            else:
                if clients[c].run_steps > 0:
                    end_step(world, clients, requests, scratch, c, client_ps)
                plan(world, clients, requests, scratch, tables, c, client_ps)
        else:
            world.overrun = client_ps < NEVER
            return
        world.events += 1
