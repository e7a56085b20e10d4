"""Requests ordered by ``(rank, index)``: a skew heap linked through the requests themselves.

A queue is the index of its first request, -1 if empty; ``next`` and ``previous`` are a request's left and right
child. Merging two queues is all there is to it (Sleator and Tarjan, 1986): amortised logarithmic, no memory.
"""

from simulator.kernel._compile import compiled
from simulator.kernel.layout import (
    ORDER_EARLIEST_DEADLINE,
    ORDER_LEAST_WORK_LEFT,
    ORDER_PRIORITY,
    WAITING,
)


@compiled
def is_before(requests, a, b):
    """Tell whether request ``a`` comes before ``b``."""
    return requests[a].rank < requests[b].rank or (requests[a].rank == requests[b].rank and a < b)


@compiled
def merge(requests, a, b):
    """Return the queue of all requests of two queues."""
    if a < 0:
        return b
    if b < 0:
        return a
    if is_before(requests, b, a):
        a, b = b, a
    first = a
    while True:
        right = requests[a].previous
        requests[a].previous = requests[a].next
        if right < 0:
            requests[a].next = b
            return first
        if is_before(requests, b, right):
            b, right = right, b
        requests[a].next = right
        a = right


@compiled
def insert(requests, queue, r):
    """Return the queue with a request more."""
    requests[r].next = -1
    requests[r].previous = -1
    return merge(requests, queue, r)


@compiled
def without_first(requests, queue):
    """Return the queue without its first request."""
    return merge(requests, requests[queue].next, requests[queue].previous)


@compiled
def rank_of(client, request):
    """Return where a request stands in a client's queue: smaller is nearer to the front."""
    if client.order == ORDER_PRIORITY:
        return request.priority
    if client.order == ORDER_EARLIEST_DEADLINE:
        return request.deadline_ps
    if client.order == ORDER_LEAST_WORK_LEFT:
        to_prefill = request.prompt_tokens + request.generated if request.state == WAITING else 0
        return to_prefill + request.output_tokens - request.generated
    return request.prompt_tokens + request.generated
