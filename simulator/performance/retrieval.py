"""Time to search an inverted file of compressed vectors (IVF) on the cores of a server.

A query is compared with all coarse centroids, then the codes of the nearest ``probes`` lists are scanned (Jégou et al.,
"Product quantization for nearest neighbor search", TPAMI 2011; FAISS, arXiv:2401.08281). FAISS searches one query per
thread, and a batch is done when its slowest thread is. Lists are of unequal length, so queries take unequal times: of q
threads with R queries each the slowest needs ``R + σ √R z(q)`` mean query times, where z(q) is the expected largest of
q normal deviates and σ the spread of the queries. With the bus and the coarse search this extends the model of RAGO
(arXiv:2503.14649, section 4: bytes over the lesser of core throughput and bandwidth).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from simulator.performance.roofline import Floats, Work, kernel, wait


@dataclass(frozen=True)
class Scanning:
    """What searching reaches on a processor; the scan rate of a core is the stage's.

    Attributes
    ----------
    coarse_flops_per_s
        Single-precision operations per second of one core in the comparison with centroids.
    query_spread
        σ, standard deviation of the time of a query over its mean.
    call_s
        Waking the threads, allocating and merging the results of a batch, seconds.
    memory_peak
        Share of memory bandwidth that many scanning cores reach together.
    """

    coarse_flops_per_s: float
    query_spread: float
    call_s: float = 0.5e-3
    memory_peak: float = 0.8


FITTED: Final = Scanning(coarse_flops_per_s=7.01e9, query_spread=0.37)
"""Fitted with the scan rate 7.05e9 bytes/s a core to both Xeons of Hermes (Gold 6448Y and Platinum 8380; FAISS, 10
shards of 10 million vectors of 768 bytes) by ``dse/calibration/retrieval.py``; ``memory_peak`` is RAGO's, ``call_s`` by
hand. Each predicts the other within 11 and 13 % in the median (``tests/fidelity/test_retrieval.py``); the shards are of
unequal, unknown size, so that even the median over shards is 12 and 9 % off."""

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
    scanning: Scanning = FITTED,
) -> Work:
    """Return the work of batches of so many queries on one shard.

    B queries are ``R = ceil(B / T)`` rounds of T threads, and ``q = B − T (R − 1)`` threads have R of them. The
    duration is ``call + R · 2 · dimension · centroids / coarse rate + (c⁴ + m⁴)^¼``, where the core time is ``c =
    bytes / scan rate · max(R + σ √R z(q), R − 1 + σ √(R − 1) z(T))`` and the memory time ``m = B · bytes /
    (share · bandwidth)``.

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
    scanning
        Coefficients.
    """
    rounds = np.ceil(queries / threads)
    fullest = queries - threads * (rounds - 1)
    before = np.maximum(rounds - 1, 0.0)  # a full round more is never done sooner
    busiest = np.maximum(
        rounds + scanning.query_spread * np.sqrt(rounds) * largest_deviate(fullest),
        before + scanning.query_spread * np.sqrt(before) * largest_deviate(np.full_like(queries, threads)),
    )
    # Operations stand for bytes scanned in turn by the busiest core.
    scan = kernel(
        busiest * bytes_per_query,
        queries * bytes_per_query,
        scan_bytes_per_s,
        memory_bytes_per_s * scanning.memory_peak,
    )
    coarse_s = rounds * 2.0 * dimension * centroids / scanning.coarse_flops_per_s
    busy = np.where(queries > 0, scanning.call_s + coarse_s, 0.0)
    return scan + wait(busy, queries)


def largest_deviate(count: Floats) -> Floats:
    """Return the expected largest of so many standard normal deviates, 0 for one or none.

    ``Φ⁻¹((q − 0.375) / (q + 0.25))`` (Blom, "Statistical Estimates and Transformed Beta-Variables", 1958), within 7 %.
    """
    different, place = np.unique(count, return_inverse=True)
    quantile = NormalDist().inv_cdf
    return np.array([quantile((q - 0.375) / (q + 0.25)) if q > 1 else 0.0 for q in different])[place]
