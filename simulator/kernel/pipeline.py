"""The way of a request from stage to stage."""

from simulator.kernel._compile import compiled
from simulator.kernel.heaps import push_hop
from simulator.kernel.layout import DONE, HOPPING


@compiled
def leave_stage(world, client, requests, scratch, r, now):
    """Send a request that a client is done with to its next stage, or out of the system."""
    request = requests[r]
    request.stage += 1
    if request.stage == world.stages:
        request.state = DONE
        request.done_ps = now
        return
    request.state = HOPPING
    request.hop_ps = now + client.link_latency_ps
    push_hop(world, requests, scratch, r)
