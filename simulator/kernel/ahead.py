"""Scheduling ahead: a client decides the batch of a step while the step before it runs.

Requests that join while a step runs come too late for the step after it. They wait in a list of their own, in order
of joining, until the batch that they may be part of is decided; an idle client has none there.
"""

from simulator.kernel._compile import compiled
from simulator.kernel.cost import run_ps
from simulator.kernel.layout import ORDER_FCFS
from simulator.kernel.lists import push_back
from simulator.kernel.queues import is_before, rank_of


@compiled
def join_late(client, requests, r, now):
    """Let a request wait until the next batch but one; tell whether it would be the head of the queue then."""
    request = requests[r]
    request.joined_ps = now
    request.next = -1
    if client.late_head < 0:
        client.late_head = r
    else:
        requests[client.late_tail].next = r
    client.late_tail = r
    if client.waiting_head < 0:
        return True
    if client.order == ORDER_FCFS:
        return False
    request.rank = rank_of(client, request)
    return is_before(requests, r, client.waiting_head)


@compiled
def let_in(client, requests, decided_ps):
    """Let the requests join the queue that were there when a batch was decided."""
    while client.late_head >= 0 and requests[client.late_head].joined_ps <= decided_ps:
        r = client.late_head
        client.late_head = requests[r].next
        if client.late_head < 0:
            client.late_tail = -1
        push_back(client, requests, r)


@compiled
def decided_ps(client):
    """Return when the step that follows the run under way is decided: at the start of its last iteration."""
    return client.step_start_ps + run_ps(client, client.run_steps - 1)
