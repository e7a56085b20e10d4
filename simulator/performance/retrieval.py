"""Time to search an inverted file of compressed vectors (IVF) on the cores of a server.

A query is compared with all coarse centroids, then the codes of the nearest ``probes`` lists are scanned (Jégou et al.,
"Product quantization for nearest neighbor search", TPAMI 2011; FAISS, arXiv:2401.08281). FAISS searches one query per
thread, so a batch takes as many rounds as the busiest thread has queries; the threads share the memory bus. This is
the model of RAGO (arXiv:2503.14649, section 4: bytes over the lesser of core throughput and bandwidth) with rounds, a
soft limit and the coarse search added.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from simulator.performance.roofline import Floats, Work, kernel, wait

# Set by hand to the 460 rows of the Xeon Gold 6448Y (FAISS, 10 shards of 10 million vectors of 768 bytes, published
# with Hermes), together with the default scan rate of 5.4e9 bytes/s a core (RetrieveStage.scan_gb_per_s). Median error
# there 17 %; on the Xeon Platinum 8380, looked at but not fitted, 11 %. The shards are of unequal, unknown size: even
# the median over shards is 12 % and 9 % off.
CALL_S: Final = 0.5e-3
"""Waking the threads, allocating and merging the results of a batch, seconds."""
MEMORY_PEAK: Final = 0.7
"""Share of memory bandwidth that many scanning cores reach together (RAGO: 0.8)."""
COARSE_FLOPS_PER_S: Final = 10e9
"""Single-precision operations per second of one core in the comparison with centroids."""

ID_BYTES: Final = 8.0
"""Bytes of the identifier beside every code."""


def scanned_bytes(vectors: float, centroids: int, probes: int, bytes_per_vector: float) -> float:
    """Return the codes that one query scans, bytes: ``probes · vectors / centroids · bytes_per_vector``.

    Parameters
    ----------
    vectors, centroids
        Vectors and lists of one shard; all lists are taken to be equally long.
    """
    return probes * vectors / centroids * bytes_per_vector


def index_bytes(vectors: float, dimension: int, centroids: int, bytes_per_vector: float) -> float:
    """Return the memory of one shard, bytes: codes with identifiers, and centroids in single precision."""
    return vectors * (bytes_per_vector + ID_BYTES) + centroids * dimension * 4.0


def search(
    queries: Floats,
    *,
    bytes_per_query: float,
    dimension: int,
    centroids: int,
    threads: int,
    scan_bytes_per_s: float,
    memory_bytes_per_s: float,
) -> Work:
    """Return the work of batches of so many queries on one shard.

    With ``P = min(B, threads)`` and ``R = ceil(B / P)`` rounds the duration is
    ``CALL_S + R · 2 · dimension · centroids / COARSE_FLOPS_PER_S + (c⁴ + m⁴)^¼``, where the core time is
    ``c = R · bytes / scan rate`` and the memory time is ``m = B · bytes / (0.7 bandwidth)``.

    Parameters
    ----------
    queries
        Batch sizes B, any shape; nothing is searched at 0.
    bytes_per_query
        Codes that one query scans, see :func:`scanned_bytes`.
    threads
        Search threads.
    scan_bytes_per_s
        Codes that one core scans while the bus is free, bytes per second.
    memory_bytes_per_s
        Peak memory bandwidth, bytes per second.
    """
    rounds = np.ceil(queries / threads)  # = ceil(B / min(B, threads)) for B of at least 1
    # Operations stand for bytes scanned in turn by the busiest core.
    scan = kernel(
        rounds * bytes_per_query, queries * bytes_per_query, scan_bytes_per_s, memory_bytes_per_s * MEMORY_PEAK
    )
    coarse_s = rounds * 2.0 * dimension * centroids / COARSE_FLOPS_PER_S
    busy = np.where(queries > 0, CALL_S + coarse_s, 0.0)
    return scan + wait(busy, queries)
