"""Searching a datastore while decoding: given times, and those of an index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator import Pool, SpecError, catalog
from simulator.performance.engine import engine_of
from simulator.performance.lookup import lookup_s
from simulator.performance.retrieval import search
from simulator.performance.step_cost import step_cost
from simulator.spec.lookup import Lookup

STORE = {
    "cpu": "xeon-8480",
    "vectors": 1e8,
    "dimension": 1024,
    "bytes_per_vector": 64,
    "centroids": 16384,
    "probes": 32,
}


def store(**changes: Any) -> dict[str, Any]:
    return {"datastore": STORE | {"cpu": catalog.cpu_names()[0]} | changes}


def test_given_times() -> None:
    assert lookup_s(Lookup.parse({"us_per_step": 300, "us_per_sequence": 20})) == pytest.approx((300e-6, 20e-6))
    every = Lookup.parse({"us_per_step": 640, "us_per_sequence": 64, "every_tokens": 64})
    assert lookup_s(every) == pytest.approx((10e-6, 1e-6))


def test_times_of_an_index_meet_the_search_at_both_ends() -> None:
    """One and 64 queries as the retrieval stage searches them: codes scanned by hand, 1e8 / 16384 · 32 · 64 bytes."""
    cpu = catalog.cpu(catalog.cpu_names()[0])
    step, sequence = lookup_s(Lookup.parse(store()))
    times = search(
        np.array([1.0, 64.0]),
        bytes_per_query=1e8 / 16384 * 32 * 64,
        dimension=1024,
        centroids=16384,
        threads=cpu.cores,
        scan_bytes_per_s=7.05e9,
        memory_bytes_per_s=cpu.memory_bandwidth_bytes_per_s,
    ).seconds
    assert (step + sequence, step + 64 * sequence) == pytest.approx(tuple(times))


def test_a_lookup_lengthens_decodes_only() -> None:
    base = {"model": "llama-3.1-8b", "accelerator": "h100-sxm"}
    at = np.array([1.0, 100.0])
    plain = step_cost(engine_of(Pool.parse(base)), at, at)
    cost = step_cost(engine_of(Pool.parse(base | {"lookup": {"us_per_step": 50.0, "us_per_sequence": 2.0}})), at, at)
    assert cost.decode_step_s - plain.decode_step_s == pytest.approx(50e-6)
    assert cost.decode_sequence_s - plain.decode_sequence_s == pytest.approx(2e-6)
    np.testing.assert_array_equal(cost.linear.seconds, plain.linear.seconds)
    np.testing.assert_array_equal(cost.sequences.seconds, plain.sequences.seconds)


@pytest.mark.parametrize(
    ("lookup", "problem"),
    [
        ({}, "neither times and a datastore given"),
        (store() | {"us_per_step": 3.0}, "both times and a datastore given"),
        ({"us_per_step": -1.0}, "us_per_step"),
    ],
)
def test_impossible_lookups_are_refused(lookup: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        Lookup.parse(lookup)


def test_an_index_must_fit() -> None:
    with pytest.raises(SpecError, match=r"lookup.datastore.vectors: the index of .* GB exceeds"):
        lookup_s(Lookup.parse(store(vectors=1e12)))
