"""Three binary heaps, all in scratch memory.

A client's decodes by (finishing iteration, request); the clients by (next event, client); and hand-overs by
(arrival, request).
"""

from simulator.kernel._compile import compiled

# Iterations get the other 36 bits: at 100 microseconds a step they outlast the simulation's horizon.
REQUEST_BITS = 27
REQUEST_MASK = (1 << REQUEST_BITS) - 1


@compiled
def finish_iteration(client, request, scratch):
    """Return the client's iteration at whose end a decoding request emits its last token."""
    return scratch[client.finish_heap + request.heap_slot] >> REQUEST_BITS


@compiled
def next_finish_iteration(client, scratch):
    """Return the first iteration at whose end a request finishes; the client decodes at least one."""
    return scratch[client.finish_heap] >> REQUEST_BITS


@compiled
def next_to_finish(client, scratch):
    """Return the request that finishes first."""
    return scratch[client.finish_heap] & REQUEST_MASK


@compiled
def _finish_up(heap, slot, key, requests, scratch):
    while slot > 0:
        parent = (slot - 1) >> 1
        other = scratch[heap + parent]
        if other <= key:
            break
        scratch[heap + slot] = other
        requests[other & REQUEST_MASK].heap_slot = slot
        slot = parent
    scratch[heap + slot] = key
    requests[key & REQUEST_MASK].heap_slot = slot


@compiled
def _finish_down(heap, size, slot, key, requests, scratch):
    while True:
        child = 2 * slot + 1
        if child >= size:
            break
        if child + 1 < size and scratch[heap + child + 1] < scratch[heap + child]:
            child += 1
        other = scratch[heap + child]
        if other >= key:
            break
        scratch[heap + slot] = other
        requests[other & REQUEST_MASK].heap_slot = slot
        slot = child
    scratch[heap + slot] = key
    requests[key & REQUEST_MASK].heap_slot = slot


@compiled
def push_finish(client, requests, scratch, r, iteration):
    """Add a decoding request; the heap's size is ``client.decoding``, raised by the caller afterwards."""
    _finish_up(client.finish_heap, client.decoding, (iteration << REQUEST_BITS) | r, requests, scratch)


@compiled
def remove_finish(client, requests, scratch, r):
    """Take a request out; the caller lowers ``client.decoding`` afterwards."""
    heap, slot, last = client.finish_heap, requests[r].heap_slot, client.decoding - 1
    key = scratch[heap + last]
    if slot == last:
        return
    if slot > 0 and scratch[heap + ((slot - 1) >> 1)] > key:
        _finish_up(heap, slot, key, requests, scratch)
    else:
        _finish_down(heap, last, slot, key, requests, scratch)


@compiled
def reschedule(world, clients, scratch, c, event_ps):
    """Set a client's next event and restore the order of the clients' heap."""
    times, names, size = world.event_heap, world.event_heap + clients.shape[0], clients.shape[0]
    clients[c].event_ps = event_ps
    slot = clients[c].event_slot
    while slot > 0:
        parent = (slot - 1) >> 1
        time, name = scratch[times + parent], scratch[names + parent]
        if time < event_ps or (time == event_ps and name < c):
            break
        scratch[times + slot], scratch[names + slot] = time, name
        clients[name].event_slot = slot
        slot = parent
    while True:
        child = 2 * slot + 1
        if child >= size:
            break
        time, name = scratch[times + child], scratch[names + child]
        if child + 1 < size:
            right, right_name = scratch[times + child + 1], scratch[names + child + 1]
            if right < time or (right == time and right_name < name):
                child, time, name = child + 1, right, right_name
        if event_ps < time or (event_ps == time and c < name):
            break
        scratch[times + slot], scratch[names + slot] = time, name
        clients[name].event_slot = slot
        slot = child
    scratch[times + slot], scratch[names + slot] = event_ps, c
    clients[c].event_slot = slot


@compiled
def _earlier(requests, a, b):
    return requests[a].hop_ps < requests[b].hop_ps or (requests[a].hop_ps == requests[b].hop_ps and a < b)


@compiled
def push_hop(world, requests, scratch, r):
    """Add a request whose KV is on its way to a decode client."""
    heap, slot = world.hop_heap, world.hops
    world.hops += 1
    while slot > 0:
        parent = (slot - 1) >> 1
        other = scratch[heap + parent]
        if _earlier(requests, other, r):
            break
        scratch[heap + slot] = other
        slot = parent
    scratch[heap + slot] = r


@compiled
def pop_hop(world, requests, scratch):
    """Take the request whose KV arrives first."""
    heap = world.hop_heap
    first = scratch[heap]
    world.hops -= 1
    size, r, slot = world.hops, scratch[heap + world.hops], 0
    while True:
        child = 2 * slot + 1
        if child >= size:
            break
        if child + 1 < size and _earlier(requests, scratch[heap + child + 1], scratch[heap + child]):
            child += 1
        other = scratch[heap + child]
        if _earlier(requests, r, other):
            break
        scratch[heap + slot] = other
        slot = child
    scratch[heap + slot] = r
    return first
