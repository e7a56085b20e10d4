"""Measured FAISS searches in the format of Hermes (S4AI-CornellTech/Hermes)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from simulator.errors import SpecError

SHARD_VECTORS: Final = 1e7
"""Vectors of one shard of Hermes' index, on average: 100 million in 10 clusters of unequal, unknown size."""
CENTROIDS: Final = 3162
"""Lists of one shard: the square root of its vectors."""
DIMENSION: Final = 768
BYTES_PER_VECTOR: Final = 768.0
"""Eight bits a number."""


@dataclass(frozen=True)
class Searches:
    """Times of one batch each, arrays of shape (rows,).

    Attributes
    ----------
    shard
        Which shard was searched.
    queries, probes
        Batch size, and lists that each query scans.
    seconds
        Duration.
    threads
        Search threads, the same in all rows.
    """

    shard: npt.NDArray[np.int64]
    queries: npt.NDArray[np.int64]
    probes: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    threads: int


def read_searches(path: str | Path) -> Searches:
    """Return the rows of a table of Hermes.

    Raises
    ------
    SpecError
        Naming the file, if it cannot be read.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        threads = {int(row["Num Threads"]) for row in rows}
        if len(threads) != 1:
            raise ValueError(f"several numbers of threads: {sorted(threads)}")
        return Searches(
            shard=np.array([int(row["Cluster ID"]) for row in rows]),
            queries=np.array([int(row["Batch Size"]) for row in rows]),
            probes=np.array([int(row["nprobe"]) for row in rows]),
            seconds=np.array([float(row["Avg Retrieval Latency (s)"]) for row in rows]),
            threads=threads.pop(),
        )
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from None
    except (KeyError, ValueError) as error:
        raise SpecError(f"{path}: not a table of searches: {error}") from None
