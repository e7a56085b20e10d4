"""Cost of service stages: against independent arithmetic, monotone, and against measurements."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.catalog import cpu_names
from simulator.errors import SpecError
from simulator.performance.service_cost import ServiceCost, refusal, service_cost
from simulator.spec.stages import (
    DetokeniseStage,
    EmbedStage,
    FilterStage,
    GuardStage,
    RerankStage,
    RetrieveStage,
    Service,
    ServiceStage,
    TokeniseStage,
)
from tests.simulator.engines import PLAIN

TOKENS = np.array([0.0, 1, 7, 64, 500, 4096, 100_000])
BATCHES = np.array([0.0, 1, 2, 8, 32, 33, 64, 200])
XEON = "xeon-gold-6448y"
ON_CPU: list[ServiceStage] = [
    TokeniseStage(), DetokeniseStage(), FilterStage(), GuardStage(), EmbedStage(), RetrieveStage(), RerankStage()
]  # fmt: skip
ON_GPU: list[ServiceStage] = [GuardStage(), EmbedStage(), RerankStage()]
CASES = [(stage, XEON) for stage in ON_CPU] + [(stage, "l4") for stage in ON_GPU]


def cost(stage: ServiceStage, device: str = XEON, **more: Any) -> ServiceCost:
    devices = more.pop("devices", 1)
    service = Service(stage=stage.name, device=device, devices=devices)
    return service_cost(stage, service, more.pop("tokens", TOKENS), more.pop("sequences", BATCHES), **more)


def retrieval_s(batches: list[float] | NDArray[np.float64], device: str = XEON, **fields: Any) -> NDArray[np.float64]:
    return cost(RetrieveStage(**fields), device, sequences=np.asarray(batches, dtype=float)).sequences_s


@pytest.mark.parametrize(("stage", "device"), CASES)
def test_costs_grow_with_tokens_and_batch(stage: ServiceStage, device: str) -> None:
    found = cost(stage, device)
    for part in (found.linear_s, found.sequences_s):
        assert np.all(np.isfinite(part))
        assert np.all(part >= 0)
        assert np.all(np.diff(part) >= 0)
    assert found.sequences_s[0] == 0
    assert found.linear_s.shape == TOKENS.shape
    assert found.sequences_s.shape == BATCHES.shape
    assert found.linear_s[-1] + found.sequences_s[-1] > found.linear_s[1] + found.sequences_s[1]


@pytest.mark.parametrize(("stage", "device"), CASES)
def test_no_resource_is_busy_longer_than_the_batch(stage: ServiceStage, device: str) -> None:
    found = cost(stage, device)
    slack = 1e-12
    assert np.all(found.linear_compute_s <= found.linear_s + slack)
    assert np.all(found.linear_memory_s <= found.linear_s + slack)
    assert np.all(found.sequences_compute_s <= found.sequences_s + slack)
    assert np.all(found.sequences_memory_s <= found.sequences_s + slack)


def test_quantities() -> None:
    assert [cost(stage).quantity for stage in ON_CPU] == [
        "prompt", "output", "prompt", "prompt", "query", "none", "query"
    ]  # fmt: skip
    assert cost(FilterStage(applies_to="output")).quantity == "output"
    assert not cost(RetrieveStage()).linear_s.any()


def test_affine_stages_are_affine() -> None:
    found = cost(TokeniseStage(us_per_request=30, us_per_token=2))
    assert found.linear_s == pytest.approx(2e-6 * TOKENS)
    assert found.sequences_s == pytest.approx(30e-6 * BATCHES)
    assert found.linear_compute_s == pytest.approx(2e-6 * TOKENS / 32)  # one of 32 cores


def test_retrieval_against_arithmetic() -> None:
    # 32 threads, 40 queries: two rounds. 128 of 3162 lists of 10 million vectors of 768 bytes.
    scanned = 128 * 1e7 / 3162 * 768
    # The slowest of the 8 threads with two queries: 1.43 standard deviations of 0.37 √2 queries above the mean.
    core, bus = (
        (2 + 0.37 * 2**0.5 * NormalDist().inv_cdf(7.625 / 8.25)) * scanned / 7.05e9,
        40 * scanned / (0.8 * 307.2e9),
    )
    coarse = 2 * (2 * 768 * 3162) / 7.01e9
    expected = 0.5e-3 + coarse + (core**4 + bus**4) ** 0.25
    index: dict[str, Any] = {"vectors": 10**7, "dimension": 768, "bytes_per_vector": 768.0, "centroids": 3162}
    assert retrieval_s([40], probes=128, **index) == pytest.approx(expected)
    shards = index | {"vectors": 10**8, "shards": 10}
    assert retrieval_s([40], probes=128, **shards) == pytest.approx(expected)


def test_shards_of_a_service_are_searched_as_those_of_its_stage() -> None:
    batch, here = {"tokens": TOKENS, "sequences": BATCHES}, {"stage": "retrieve", "device": XEON}
    stages = service_cost(RetrieveStage(shards=4), Service(**here), **batch)
    services = service_cost(RetrieveStage(shards=2), Service(**here, shards=4), **batch)
    np.testing.assert_array_equal(services.sequences_s, stages.sequences_s)
    with pytest.raises(SpecError, match="shards: one of 20000 has 5000 vectors, fewer than 10000 centroids"):
        service_cost(RetrieveStage(), Service(**here, shards=20_000), **batch)


def test_why_a_service_cannot_run() -> None:
    index = RetrieveStage(vectors=10**10)
    assert "shards: one of 1 holds 1040 GB" in refusal(index, Service(stage="retrieve", device=XEON))
    assert refusal(index, Service(stage="retrieve", device=XEON, shards=4)) == ""
    assert refusal(EmbedStage(), Service(stage="embed", device="l4")) == ""


def test_retrieval_follows_its_parameters() -> None:
    base = retrieval_s([16])[0]
    assert retrieval_s([16], probes=64)[0] > 1.5 * base
    assert retrieval_s([16], shards=4)[0] < base
    assert retrieval_s([16], bytes_per_vector=192.0)[0] > base
    assert retrieval_s([16], vectors=2 * 10**8)[0] > base
    assert retrieval_s([16], threads=4)[0] > base
    assert retrieval_s([16], scan_gb_per_s=18.0)[0] < base
    assert retrieval_s([16], "epyc-9654")[0] <= base


def test_more_sockets_search_faster() -> None:
    stage, batch = RetrieveStage(), np.array([64.0])
    assert cost(stage, devices=2, sequences=batch).sequences_s < cost(stage, sequences=batch).sequences_s


def test_embedding_against_operations() -> None:
    # Long batches are limited by arithmetic and by the traffic of norms and activations: between once and three times
    # 2 operations a parameter and token at 70 % of 121 TFLOPS.
    tokens = np.array([65536.0])
    layers = 24 * 12 * 1024**2
    least = 2 * layers * 65536 / (0.7 * 121e12)
    assert 1 <= float(cost(EmbedStage(), "l4", tokens=tokens).linear_s[0]) / least <= 3


def test_a_guard_costs_a_prefill_of_the_engine() -> None:
    from simulator.performance.engine import engine_of
    from simulator.performance.step_cost import step_cost
    from simulator.spec.deployment import Pool

    # The overheads of a guard's server are those of no engine in particular.
    engine = engine_of(Pool.parse({"model": "llama-3.2-1b", "accelerator": "l4", "engine": PLAIN}))
    step = step_cost(engine, np.array([2000.0]), np.array([1.0]))
    pairs = 2000 * 2000 / 2
    prefill = step.linear.seconds[0] + step.sequences.seconds[0] + pairs * step.prefill_pair_s
    found = cost(GuardStage(), "l4", tokens=np.array([2000.0]), sequences=np.ones(1), attention_tokens=2000)
    assert found.linear_s[0] + found.sequences_s[0] == pytest.approx(prefill)


def test_reranking_reads_every_document_with_the_query() -> None:
    # On a processor nothing but the tokens counts: the whole is a pass over documents · (query + document) tokens.
    stage = RerankStage(documents=20, keep=5, tokens_per_document=200)
    one = cost(stage, XEON, tokens=np.array([50.0]), sequences=np.ones(1), attention_tokens=50)
    whole = cost(EmbedStage(), XEON, tokens=np.array([20 * 250.0]), sequences=np.array([20.0]), attention_tokens=250)
    assert one.linear_s + one.sequences_s == pytest.approx(whole.linear_s + whole.sequences_s)
    many = cost(stage, XEON, tokens=np.array([400.0]), sequences=np.array([8.0]), attention_tokens=50)
    whole = cost(EmbedStage(), XEON, tokens=np.array([160 * 250.0]), sequences=np.array([160.0]), attention_tokens=250)
    assert many.linear_s + many.sequences_s == pytest.approx(whole.linear_s + whole.sequences_s, rel=0.05)


def test_longer_texts_and_fewer_devices_take_longer() -> None:
    short, long = (cost(GuardStage(), "l4", attention_tokens=n).linear_s[-1] for n in (100, 10_000))
    assert short < long
    assert cost(EmbedStage(), "l4", devices=2).linear_s[-1] < cost(EmbedStage(), "l4").linear_s[-1]


@pytest.mark.parametrize("device", cpu_names())
def test_every_processor_serves_every_stage(device: str) -> None:
    for stage in ON_CPU:
        assert np.all(np.isfinite(cost(stage, device).linear_s))


@pytest.mark.parametrize(
    ("stage", "device", "words"),
    [
        (EmbedStage(), "h1000", ["device: no 'h1000'", "h100-sxm"]),
        (EmbedStage(model="bge-larg-en"), "l4", ["model: no 'bge-larg-en'", "bge-large-en"]),
        (TokeniseStage(), "l4", ["device: tokenise runs on a CPU only", "l4", "grace"]),
        (RetrieveStage(), "l4", ["device: retrieve runs on a CPU only", "l4"]),
        (GuardStage(model="llama-3.1-70b"), "l4", ["device: llama-3.1-70b needs", "l4"]),
        (RetrieveStage(vectors=10**10), XEON, ["shards: one of 1 holds 1040 GB", "512 GB"]),
        (RerankStage(tokens_per_document=512), XEON, ["tokens_per_document: 512", "below 512"]),
    ],
)
def test_what_cannot_run_is_refused(stage: ServiceStage, device: str, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        cost(stage, device)
    for word in words:
        assert word in str(caught.value)


def faiss_errors(file: Path, device: str) -> NDArray[np.float64]:
    """Return the relative errors of all rows of a FAISS benchmark: 10 shards of about 10 million vectors in 8 bits."""
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    batches, measured = (
        np.array([float(row[key]) for row in rows]) for key in ("Batch Size", "Avg Retrieval Latency (s)")
    )
    probes = np.array([int(row["nprobe"]) for row in rows])
    index: dict[str, Any] = {"vectors": 10**8, "shards": 10, "dimension": 768, "bytes_per_vector": 768.0}
    found = np.zeros_like(measured)
    for count in np.unique(probes):
        seconds = retrieval_s(batches, device, probes=int(count), centroids=3162, threads=32, **index)
        found[probes == count] = seconds[probes == count]
    assert len(rows) == 460
    errors: NDArray[np.float64] = found / measured - 1
    return errors


def test_retrieval_against_the_measurements_it_was_set_to(reference: Path) -> None:
    errors = faiss_errors(reference / "stages" / "faiss_ivf_100m_xeon_gold_6448y.csv", XEON)
    # Shards of unequal size leave 12 % even to the median over shards.
    assert np.median(np.abs(errors)) <= 0.13
    assert abs(np.median(errors)) <= 0.12


def test_retrieval_against_measurements_on_another_processor(reference: Path) -> None:
    errors = faiss_errors(reference / "stages" / "faiss_ivf_100m_xeon_platinum_8380.csv", "xeon-platinum-8380")
    assert np.median(np.abs(errors)) <= 0.11
    assert np.quantile(np.abs(errors), 0.9) <= 0.30


def test_embedding_against_measurements(reference: Path) -> None:
    with (reference / "stages" / "bge_large_latency_rtx6000ada.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    compared = 0
    for row in rows:
        length, batch, measured = (float(row[key]) for key in ("Input Token Length", "Batch Size", "Avg Latency (s)"))
        length = min(length, 512)  # the tokeniser cuts to the model's context
        # The same chip as an L40S. The clock was read without waiting for it, so that only the launches were measured:
        # peak arithmetic (364 TFLOPS) alone would take longer for long texts.
        operations = 2 * 24 * 12 * 1024**2 * length * batch
        if operations / 364e12 > measured:
            assert length >= 256
            continue
        if length > 32:
            continue
        found = cost(
            EmbedStage(),
            "l40s",
            tokens=np.array([length * batch]),
            sequences=np.array([batch]),
            attention_tokens=length,
        )
        assert found.linear_s[0] + found.sequences_s[0] == pytest.approx(measured, rel=0.06)
        compared += 1
    assert compared == 4
