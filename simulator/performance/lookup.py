"""Time of searching a datastore while decoding, for each step and sequence."""

from __future__ import annotations

import numpy as np

from simulator import catalog
from simulator.errors import SpecError
from simulator.performance.retrieval import index_bytes, scanned_bytes, search
from simulator.performance.speculation import CHORD_SEQUENCES
from simulator.spec.lookup import Datastore, Lookup


def lookup_s(lookup: Lookup) -> tuple[float, float]:
    """Return the seconds that lookups add to a step with decodes, and those that each decoding sequence adds.

    A search for every generated token (kNN-LM, arXiv:1911.00172) stands before the next token; one for every
    ``every_tokens`` (RETRO, arXiv:2112.04426) is spread evenly over the steps.

    Raises
    ------
    SpecError
        If the processor is unknown or its memory cannot hold the index.
    """
    if lookup.datastore:
        step, sequence = datastore_s(lookup.datastore)
    else:
        step, sequence = (lookup.us_per_step or 0.0) * 1e-6, (lookup.us_per_sequence or 0.0) * 1e-6
    return step / lookup.every_tokens, sequence / lookup.every_tokens


def datastore_s(store: Datastore) -> tuple[float, float]:
    """Return the constant and the time for each query of a search, from its times at 1 and 64 queries.

    Between them :func:`simulator.performance.retrieval.search` climbs in steps of as many queries as there are cores.
    """
    cpu = catalog.cpu(store.cpu)
    needed = index_bytes(store.vectors, store.dimension, store.centroids, store.bytes_per_vector)
    held = cpu.memory_bytes * store.devices
    if needed > held:
        raise SpecError(
            f"lookup.datastore.vectors: the index of {needed / 1e9:.0f} GB exceeds the {held / 1e9:.0f} GB of "
            f"{store.devices} x {cpu.name}; allowed: fewer vectors or bytes_per_vector, more devices"
        )
    low, high = search(
        np.array(CHORD_SEQUENCES),
        bytes_per_query=scanned_bytes(store.vectors, store.centroids, store.probes, store.bytes_per_vector),
        dimension=store.dimension,
        centroids=store.centroids,
        threads=cpu.cores * store.devices,
        scan_bytes_per_s=store.scan_gb_per_s * 1e9,
        memory_bytes_per_s=cpu.memory_bandwidth_bytes_per_s * store.devices,
    ).seconds
    slope = float(high - low) / (CHORD_SEQUENCES[1] - CHORD_SEQUENCES[0])
    return float(low) - slope * CHORD_SEQUENCES[0], slope
