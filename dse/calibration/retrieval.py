"""Fit of the retrieval model to measured searches."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from dse.measurements.retrieval import BYTES_PER_VECTOR, CENTROIDS, DIMENSION, SHARD_VECTORS, Searches
from simulator.catalog import Cpu
from simulator.performance.retrieval import Scanning, scanned_bytes, search

Floats = npt.NDArray[np.float64]

_FIRST: Final = (5.4e9, 10e9, 0.3)
_LEAST: Final = (1e9, 1e9, 0.02)
_MOST: Final = (3e10, 1e12, 1.0)


def fit_retrieval(measured: Searches | list[Searches], cpu: Cpu | list[Cpu]) -> tuple[float, Scanning]:
    """Return the scan rate of a core, bytes per second, and the coefficients of a search.

    Three figures are fitted to the logarithms of all times: the scan rate, the rate of the coarse search and the spread
    of queries. All shards count as equally large.

    Parameters
    ----------
    measured, cpu
        Searches of Hermes and the processor they ran on, or several of each.
    """
    from scipy.optimize import least_squares

    parts = measured if isinstance(measured, list) else [measured]
    cpus = cpu if isinstance(cpu, list) else [cpu]

    def errors(x: Floats) -> Floats:
        rate, coarse, spread = np.exp(x)
        scanning = Scanning(coarse_flops_per_s=coarse, query_spread=spread)
        return np.concatenate(
            [
                np.log(search_s(part, each, rate, scanning) / part.seconds)
                for part, each in zip(parts, cpus, strict=True)
            ]
        )

    bounds = (np.log(_LEAST), np.log(_MOST))
    found = least_squares(errors, np.log(_FIRST), bounds=bounds, loss="soft_l1", f_scale=0.15)
    rate, coarse, spread = (float(f"{figure:.3g}") for figure in np.exp(found.x))
    return rate, Scanning(coarse_flops_per_s=coarse, query_spread=spread)


def search_s(measured: Searches, cpu: Cpu, scan_bytes_per_s: float, scanning: Scanning) -> Floats:
    """Return the predicted times of measured searches, seconds."""
    seconds = np.zeros_like(measured.seconds)
    for probes in np.unique(measured.probes):
        rows = measured.probes == probes
        seconds[rows] = search(
            measured.queries[rows].astype(float),
            bytes_per_query=scanned_bytes(SHARD_VECTORS, CENTROIDS, int(probes), BYTES_PER_VECTOR),
            dimension=DIMENSION,
            centroids=CENTROIDS,
            threads=measured.threads,
            scan_bytes_per_s=scan_bytes_per_s,
            memory_bytes_per_s=cpu.memory_bandwidth_bytes_per_s,
            scanning=scanning,
        ).seconds
    return seconds
