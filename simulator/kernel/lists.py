"""The waiting queue and the running list of a client: requests linked by index."""

from simulator.kernel._compile import compiled
from simulator.kernel.adapters import release_adapter
from simulator.kernel.layout import ORDER_FCFS
from simulator.kernel.queues import insert, rank_of, without_first


@compiled
def push_back(client, requests, r):
    """Let a request join the waiting queue."""
    if client.order != ORDER_FCFS:
        requests[r].rank = rank_of(client, requests[r])
        client.waiting_head = insert(requests, client.waiting_head, r)
        return
    requests[r].next = -1
    if client.waiting_tail < 0:
        client.waiting_head = r
    else:
        requests[client.waiting_tail].next = r
    client.waiting_tail = r


@compiled
def push_front(client, requests, r):
    """Put a preempted request back: first come, first served lets it be the head."""
    if client.order != ORDER_FCFS:
        push_back(client, requests, r)
        return
    requests[r].next = client.waiting_head
    if client.waiting_head < 0:
        client.waiting_tail = r
    client.waiting_head = r


@compiled
def pop_front(client, requests):
    """Take the head of the waiting queue."""
    r = client.waiting_head
    if client.order != ORDER_FCFS:
        client.waiting_head = without_first(requests, r)
        return r
    client.waiting_head = requests[r].next
    if client.waiting_head < 0:
        client.waiting_tail = -1
    return r


@compiled
def start_running(client, requests, r):
    """Append a request to the running list, which is in order of admission."""
    request = requests[r]
    request.next = -1
    request.previous = client.running_tail
    if client.running_tail >= 0:
        requests[client.running_tail].next = r
    client.running_tail = r
    client.running += 1
    if client.fresh_head < 0:
        client.fresh_head = r


@compiled
def stop_running(client, requests, scratch, r):
    """Unlink a request from the running list."""
    request = requests[r]
    if client.fresh_head == r:
        client.fresh_head = request.next
    if request.previous >= 0:
        requests[request.previous].next = request.next
    if request.next >= 0:
        requests[request.next].previous = request.previous
    else:
        client.running_tail = request.previous
    client.running -= 1
    release_adapter(client, scratch, request.adapter)
