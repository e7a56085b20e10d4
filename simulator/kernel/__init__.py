"""The compiled event loop: plain arrays in, plain arrays out."""

from __future__ import annotations

from simulator.kernel._compile import cache_folder, is_cached
from simulator.kernel.memory import Memory, allocate, new_clients, new_requests, new_stages, run_interpreted

__all__ = [
    "Memory",
    "allocate",
    "cache_folder",
    "is_cached",
    "new_clients",
    "new_requests",
    "new_stages",
    "run_compiled",
    "run_interpreted",
    "warm_up",
]


def run_compiled(memory: Memory) -> None:
    """Run the compiled kernel on a memory, once; results are left in its arrays."""
    from simulator.kernel.loop import run

    run(memory.world[0], memory.clients, memory.requests, memory.scratch)


def warm_up() -> None:
    """Compile the kernel, or load it from the cache, by running it on nothing."""
    import numpy as np

    none = np.zeros(0, dtype=np.int64)
    run_compiled(allocate(new_clients(1), new_stages(1), new_requests(0), none, max_run=1))
