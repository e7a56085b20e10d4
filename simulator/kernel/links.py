"""Links that transfers share equally: processor sharing by virtual time.

The service that every transfer under way has had grows by ``elapsed / transfers``; a transfer ends when that has grown
by its work. The queue of a link is ordered by the service at which transfers end, kept in their ``rank``.
"""

from simulator.kernel._compile import compiled
from simulator.kernel.heaps import push_hop, reschedule
from simulator.kernel.layout import CACHE_LATENCY_PS, FETCHING, HORIZON_PS, NEVER
from simulator.kernel.queues import insert, without_first


@compiled
def advance(link, now):
    """Credit the transfers under way with their service until now."""
    if link.running > 0:
        link.virtual_ps += (now - link.virtual_at_ps) // link.running
    link.virtual_at_ps = now


@compiled
def await_next(world, clients, requests, scratch, c, now):
    """Schedule the end of the transfer that ends first."""
    link = clients[c]
    end_ps = NEVER
    if link.running > 0:
        left = requests[link.waiting_head].rank - link.virtual_ps
        end_ps = HORIZON_PS if left > (HORIZON_PS - now) // link.running else now + left * link.running
    reschedule(world, clients, scratch, c, end_ps)


@compiled
def start_transfer(world, clients, requests, scratch, c, r, work_ps, now):
    """Put a request's transfer on a link."""
    link = clients[c]
    advance(link, now)
    requests[r].rank = link.virtual_ps + max(1, work_ps)
    link.waiting_head = insert(requests, link.waiting_head, r)
    link.running += 1
    await_next(world, clients, requests, scratch, c, now)


@compiled
def end_transfer(world, clients, requests, scratch, c, now):
    """Take the transfer that ends now off the link; after a latency the request goes on."""
    link = clients[c]
    advance(link, now)
    r = link.waiting_head
    link.waiting_head = without_first(requests, r)
    link.running -= 1
    link.steps += 1
    request = requests[r]
    if request.state == FETCHING:
        latency_ps = scratch[request.tier + CACHE_LATENCY_PS]
    else:
        latency_ps = clients[request.prefill_client].link_latency_ps
    request.hop_ps = now + max(1, latency_ps)
    push_hop(world, requests, scratch, r)
    await_next(world, clients, requests, scratch, c, now)
