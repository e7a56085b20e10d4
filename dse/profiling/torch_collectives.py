"""Collectives of NCCL among the GPUs of one server, one process each."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

from dse.profiling.points import Collective
from dse.profiling.table import Measured

WARM_UP: Final = 5
REPEATS: Final = 20


def measure_collectives(points: Sequence[Collective]) -> list[Measured]:
    """Return the times of collectives: of each repeat that of the slowest participant."""
    multiprocessing = import_module("torch.multiprocessing")
    found: list[Measured] = []
    for workers in sorted({point.workers for point in points}):
        own = [point for point in points if point.workers == workers]
        times = multiprocessing.get_context("spawn").SimpleQueue()
        multiprocessing.spawn(_participant, args=(workers, _free_port(), own, times), nprocs=workers, join=True)
        found += [Measured(point, tuple(each)) for point, each in zip(own, times.get(), strict=True)]
    return found


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _participant(rank: int, workers: int, port: int, points: Sequence[Collective], times: Any) -> None:
    """Take part in all collectives; the first participant puts the times into the queue, once."""
    torch, dist = import_module("torch"), import_module("torch.distributed")
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=workers)
    try:
        found = [_times(torch, dist, _prepare(torch, dist, rank, point)) for point in points]
        if rank == 0:
            times.put(found)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _prepare(torch: Any, dist: Any, rank: int, point: Collective) -> Callable[[], object]:
    """Return one collective; sizes are those of NCCL-tests: the whole tensor, or what one participant sends."""
    count = max(point.workers, point.message_bytes // 2 // point.workers * point.workers)
    whole = torch.ones(count, dtype=torch.bfloat16, device="cuda")
    part = torch.ones(count // point.workers, dtype=torch.bfloat16, device="cuda")
    match point.collective:
        case "all_reduce":
            return lambda: dist.all_reduce(whole)
        case "all_gather":
            return lambda: dist.all_gather_into_tensor(whole, part)
        case "reduce_scatter":
            return lambda: dist.reduce_scatter_tensor(part, whole)
        case "all_to_all":
            other = torch.empty_like(whole)
            return lambda: dist.all_to_all_single(other, whole)
        case _:
            return (lambda: dist.send(whole, 1)) if rank == 0 else (lambda: dist.recv(whole, 0))


def _times(torch: Any, dist: Any, run: Callable[[], object]) -> list[float]:
    for _ in range(WARM_UP):
        run()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(REPEATS)]
    torch.cuda.synchronize()
    dist.barrier()
    for begin, end in pairs:
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    own = torch.tensor([begin.elapsed_time(end) * 1e-3 for begin, end in pairs], dtype=torch.float64, device="cuda")
    dist.all_reduce(own, op=dist.ReduceOp.MAX)
    return [float(each) for each in own.tolist()]
