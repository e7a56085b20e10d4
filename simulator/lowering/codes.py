"""Words of the specification as the numbers that the kernel's records hold."""

from __future__ import annotations

from typing import Final

ROLES: Final = {"both": 0, "prefill": 1, "decode": 2, "service": 3}
QUANTITIES: Final = {"none": 0, "query": 1, "prompt": 2, "output": 3, "media": 4}
POLICIES: Final = {"static": 0, "continuous": 1, "chunked": 2}
ORDERS: Final = {"fcfs": 0, "shortest_first": 1, "least_work_left": 2, "priority": 3, "earliest_deadline": 4}
ROUTERS: Final = {
    "round_robin": 0,
    "join_shortest_queue": 1,
    "least_outstanding_tokens": 2,
    "least_prompt_tokens": 3,
    "least_output_tokens": 4,
    "least_kv_tokens": 5,
    "random": 6,
    "power_of_two": 7,
    "session_affinity": 8,
    "prefix_affinity": 9,
}
WRITES: Final = {"none": 0, "through": 1, "back": 2}
KEEPS: Final = {"keep": 0, "drop": 1, "offload": 2}
