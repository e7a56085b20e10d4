"""The event loop: arrivals, hops of single requests, and client events, in this order when simultaneous."""

from simulator.kernel._compile import compiled, entry
from simulator.kernel.ahead import decided_ps, join_late, let_in
from simulator.kernel.blocks import growth_in_run
from simulator.kernel.completion import end_step
from simulator.kernel.cost import run_ps
from simulator.kernel.heaps import pop_hop, reschedule
from simulator.kernel.layout import (
    FETCHING,
    FOLLOWING,
    HANDED_OVER,
    HORIZON_PS,
    NEVER,
    REACHED,
    READY,
    REJECTED,
    ROLE_LINK,
    ROLE_SERVICE,
    UNSEEN,
    WAITING,
)
from simulator.kernel.links import end_transfer
from simulator.kernel.lists import push_back
from simulator.kernel.pipeline import end_way, note
from simulator.kernel.planning import plan
from simulator.kernel.prefix import free_request
from simulator.kernel.progress import steps_ended
from simulator.kernel.routing import can_ever_hold, route_to_stage
from simulator.kernel.service import end_batch, plan_service
from simulator.kernel.tiers import begin_fetch, end_fetch


@compiled
def cut_run(world, clients, scratch, c, now, more):
    """End a client's run at the next end of a step, or ``more`` steps later if it lasts that long."""
    client = clients[c]
    client.run_steps = min(client.run_steps, steps_ended(client, now) + 1 + more)
    reschedule(world, clients, scratch, c, client.step_start_ps + run_ps(client, client.run_steps))


@compiled
def enqueue(world, clients, requests, scratch, c, r, now):
    """Let a request join a client's queue; wake the client, or cut its run if there is a new head.

    A request that joins behind others cuts nothing: within a run, what keeps the head waiting stays.
    """
    client = clients[c]
    if client.ahead == 1 and client.run_steps > 0:
        if join_late(client, requests, r, now) and client.run_steps > 1:
            cut_run(world, clients, scratch, c, now, 1)
        return
    push_back(client, requests, r)
    if client.role == ROLE_SERVICE:
        client.waiting += 1
        requests[r].joined_ps = now
    if client.run_steps == 0:
        if client.event_ps > now:
            reschedule(world, clients, scratch, c, now)
    elif client.run_steps > 1 and client.waiting_head == r:
        cut_run(world, clients, scratch, c, now, 0)


@compiled
def reach_stage(world, clients, requests, scratch, r, now):
    """Route a request to a client of the stage that it reached, or let it be done."""
    request = requests[r]
    if scratch[request.way] < 0:
        end_way(world, requests, scratch, r, now)
        return
    request.stage = scratch[request.way]
    note(scratch, request, REACHED, now)
    c = route_to_stage(world, clients, requests, scratch, r, now)
    request.state = WAITING
    if clients[c].role != ROLE_SERVICE:
        request.client = c
        if begin_fetch(world, clients, requests, scratch, c, r, now):
            return
    enqueue(world, clients, requests, scratch, c, r, now)


@compiled
def arrive(world, clients, requests, scratch, r):
    """Let a request enter its first stage, or reject it if its LLM stage could never hold it."""
    request = requests[r]
    if request.llm_stage < 0 or can_ever_hold(world, clients, request, scratch):
        reach_stage(world, clients, requests, scratch, r, request.arrival_ps)
    else:
        request.state = REJECTED


@compiled
def hand_over(world, clients, requests, scratch, r, now):
    """Free the KV of a request on its prefill client and queue it at its decode client."""
    request = requests[r]
    c = request.prefill_client
    source = clients[c]
    if source.run_steps > 1:
        # A client that lends itself is decoding: its blocks grew until now, before these are freed.
        grown = growth_in_run(source, scratch, steps_ended(source, now) + 1)
        source.peak_blocks = max(source.peak_blocks, source.total_blocks - source.free_blocks + grown)
    free_request(world, source, request, scratch, request.prompt_tokens)
    if source.waiting_head >= 0:
        if source.event_ps == NEVER:
            reschedule(world, clients, scratch, c, now)
        elif source.run_steps > 1:
            cut_run(world, clients, scratch, c, now, 0)
    request.state = READY
    enqueue(world, clients, requests, scratch, request.client, r, now)


@compiled
def hop(world, clients, requests, scratch, r):
    """Let a request reach what it was on its way to."""
    request = requests[r]
    now = request.hop_ps
    if request.state == HANDED_OVER:
        hand_over(world, clients, requests, scratch, r, now)
    elif request.state == FOLLOWING:
        arrive(world, clients, requests, scratch, r)
    elif request.state == FETCHING:
        if not end_fetch(world, clients, requests, scratch, r, now):
            request.state = WAITING
            enqueue(world, clients, requests, scratch, request.client, r, now)
    else:
        reach_stage(world, clients, requests, scratch, r, now)


@compiled
def client_event(world, clients, requests, scratch, c, now):
    """End what a client was doing and let it plan what comes next."""
    client = clients[c]
    if client.role == ROLE_LINK:
        end_transfer(world, clients, requests, scratch, c, now)
    elif client.role == ROLE_SERVICE:
        if client.run_steps > 0:
            end_batch(world, client, requests, scratch, c, now)
        plan_service(world, clients, requests, scratch, c, now)
    else:
        if client.run_steps > 0:
            if client.late_head >= 0:
                let_in(client, requests, decided_ps(client))
            end_step(world, clients, requests, scratch, c, now)
        plan(world, clients, requests, scratch, c, now)


@compiled
def is_follower(request):
    """Tell whether a request arrives after others: it waits for them, or it did."""
    return request.needs > 0 or request.state != UNSEEN


@entry
def run(world, clients, requests, scratch):
    """Serve all requests; everything that happened is left in the arrays.

    Parameters
    ----------
    world
        Record of dtype ``WORLD``.
    clients, requests
        Record arrays of dtypes ``CLIENT`` and ``REQUEST``; requests that follow no others are sorted by arrival.
    scratch
        Flat int64 array at whose offsets the records point.
    """
    while True:
        while world.arrived < requests.shape[0] and is_follower(requests[world.arrived]):
            world.arrived += 1
        arrival_ps = world.until_ps
        if world.arrived < requests.shape[0]:
            arrival_ps = requests[world.arrived].arrival_ps
        client_ps = scratch[world.event_heap]
        hop_ps = NEVER
        if world.hops > 0:
            hop_ps = requests[scratch[world.hop_heap]].hop_ps
        if arrival_ps < NEVER and arrival_ps <= hop_ps and arrival_ps <= client_ps:
            if world.arrived == requests.shape[0]:
                return
            world.arrived += 1
            arrive(world, clients, requests, scratch, world.arrived - 1)
        elif hop_ps < NEVER and hop_ps <= client_ps:
            r = pop_hop(world, requests, scratch)
            hop(world, clients, requests, scratch, r)
        elif client_ps < HORIZON_PS:
            c = scratch[world.event_heap + clients.shape[0]]
            client_event(world, clients, requests, scratch, c, client_ps)
        else:
            world.overrun = client_ps < NEVER
            return
        world.events += 1
