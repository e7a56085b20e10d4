"""The way of a request from stage to stage, and to the requests that follow it."""

from simulator.kernel._compile import compiled
from simulator.kernel.heaps import push_hop
from simulator.kernel.layout import DONE, FOLLOWING, HOPPING, LEFT, VISIT_FIELDS


@compiled
def release_followers(world, requests, scratch, r, now):
    """Let the requests arrive that have waited for this one to be done, and for no other."""
    request = requests[r]
    for f in range(request.first_follower, request.first_follower + request.followers):
        follower = requests[f]
        follower.needs -= 1
        if follower.needs == 0:
            follower.arrival_ps = now + max(1, follower.wait_ps)
            follower.deadline_ps += follower.arrival_ps
            follower.former = request.client
            follower.state = FOLLOWING
            follower.hop_ps = follower.arrival_ps
            push_hop(world, requests, scratch, f)


@compiled
def end_way(world, requests, scratch, r, now):
    """Let a request be done."""
    request = requests[r]
    request.state = DONE
    request.done_ps = now
    if request.followers > 0:
        release_followers(world, requests, scratch, r, now)


@compiled
def note(scratch, request, field, now):
    """Record when something happened at the stage where a request is."""
    if request.visit >= 0:
        scratch[request.visit + field] = now


@compiled
def leave_stage(world, client, requests, scratch, r, now):
    """Send a request that a client is done with to its next stage, or out of the system."""
    request = requests[r]
    note(scratch, request, LEFT, now)
    request.way += 1
    if scratch[request.way] < 0:
        end_way(world, requests, scratch, r, now)
        return
    if request.visit >= 0:
        request.visit += VISIT_FIELDS
    request.state = HOPPING
    request.hop_ps = now + client.link_latency_ps
    push_hop(world, requests, scratch, r)
