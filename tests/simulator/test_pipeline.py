"""Pipelines of services around the LLM, from specifications to results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator import Deployment, SpecError, Workload, catalog, simulate
from simulator.spec.stages import check_pipeline

LOAD: dict[str, Any] = {
    "requests": 2000,
    "arrivals": {"process": "poisson", "rate_rps": 4},
    "lengths": {"statistics": "azure-2023-conversation"},
}
POOL: dict[str, Any] = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "clients": 2}
RAG = [
    {"kind": "embed"},
    {"kind": "retrieve", "documents": 4, "tokens_per_document": 100},
    "prefill",
    "decode",
    {"kind": "detokenise"},
]
SERVICES: list[dict[str, Any]] = [
    {"stage": "embed", "device": "l4"},
    {"stage": "retrieve", "device": "xeon-gold-6448y", "clients": 2, "max_batch_requests": 8},
    {"stage": "detokenise", "device": "xeon-gold-6448y", "hop_us": 5},
]


def run(pipeline: list[Any], services: list[Any], **changes: Any) -> Any:
    deployment = Deployment.parse({"pools": [POOL], "services": services, **changes})
    return simulate(deployment, Workload.parse({**LOAD, "pipeline": pipeline}))


def test_every_request_passes_every_stage() -> None:
    result = run(RAG, SERVICES)
    assert [use.requests for use in result.services] == [2000, 2000, 2000]
    table = result.requests()
    assert table["served"].all()
    assert (table["service_s"] > 0).all()
    # Time in services, hops, and time at the LLM make up the whole.
    llm_s = table["e2e_s"] - table["service_s"]
    hops_s = 2 * 50e-6 + 10e-6  # embed, retrieve, and the pool's link to the last service
    decoding_s = (table["tpot_s"] * (table["output_tokens"] - 1)).fillna(0)
    assert (llm_s - hops_s - decoding_s > 0).all()
    assert (table["ttft_s"] > table["queue_s"]).all()


def test_retrieved_documents_lengthen_the_prompt() -> None:
    plain, rag = run(["prefill", "decode"], []), run(RAG, SERVICES)
    prefilled = [int(r.lowered.memory.clients["prefill_tokens"].sum()) for r in (plain, rag)]
    assert prefilled[1] - prefilled[0] == 2000 * 4 * 100


def test_a_pipeline_without_services_is_the_llm_alone() -> None:
    pipeline = [{"kind": "tokenise", "us_per_request": 0, "us_per_token": 0}, "prefill", "decode"]
    services = [{"stage": "tokenise", "device": "xeon-gold-6448y", "hop_us": 0, "clients": 1000}]
    plain, with_service = run(["prefill", "decode"], []), run(pipeline, services)
    # What is left of a service that takes no time and a network without latency is far below a microsecond.
    assert np.allclose(plain.e2e_s, with_service.e2e_s, rtol=1e-5, atol=2e-6)


def test_services_are_paid_and_powered() -> None:
    plain, rag = run(["prefill", "decode"], []), run(RAG, SERVICES)
    cpu, l4 = catalog.cpu("xeon-gold-6448y"), catalog.accelerator("l4")
    watts_of = {"cpu": (cpu.idle_w, cpu.tdp_w), "l4": (l4.idle_w, l4.tdp_w)}
    extra = 3 * cpu.price_usd_per_hour + l4.price_usd_per_hour
    assert rag.usd_per_hour - plain.usd_per_hour == pytest.approx(extra)
    for use, devices, device in zip(rag.services, (1, 2, 1), ("l4", "cpu", "cpu"), strict=True):
        floor, ceiling = (devices * watts * rag.span_s for watts in watts_of[device])
        assert floor <= use.energy_j <= ceiling


def test_shards_of_a_service_run_the_same_course_as_those_of_its_stage() -> None:
    sharded = [RAG[0], {**RAG[1], "shards": 4}, *RAG[2:]]  # type: ignore[dict-item]
    stages, services = run(sharded, SERVICES), run(RAG, [SERVICES[0], {**SERVICES[1], "shards": 4}, SERVICES[2]])
    np.testing.assert_array_equal(services.e2e_s, stages.e2e_s)
    assert services.summary() == stages.summary()
    assert services.usd_per_hour - run(RAG, SERVICES).usd_per_hour == pytest.approx(6 * 1.3)


def test_a_slow_service_is_the_bottleneck() -> None:
    pipeline = [{"kind": "tokenise", "us_per_request": 230_000}, "prefill", "decode"]
    result = run(pipeline, [{"stage": "tokenise", "device": "xeon-gold-6448y", "max_batch_requests": 1}])
    assert result.bottleneck == "tokenise on xeon-gold-6448y: clients"
    assert result.services[0].busy == pytest.approx(0.93, abs=0.05)


def test_batches_wait_no_longer_than_they_may() -> None:
    patient = [{**SERVICES[0], "max_batch_requests": 32, "max_wait_ms": 500}, *SERVICES[1:]]
    hasty, waiting = run(RAG, SERVICES), run(RAG, patient)
    assert waiting.services[0].mean_batch > 1.5 * hasty.services[0].mean_batch
    longest = waiting.service_s.max() - hasty.service_s.max()
    assert 0.3 < longest < 0.6


@pytest.mark.parametrize(
    ("pipeline", "services", "words"),
    [
        (["decode", "prefill"], [], ["pipeline", "side by side", "decode, prefill"]),
        (["prefill"], [], ["pipeline", "prefill, decode"]),
        (["prefill", {"kind": "embed"}, "decode"], [], ["pipeline", "side by side"]),
        ([{"kind": "embd"}, "prefill", "decode"], [], ["embd", "embed"]),
        (RAG, SERVICES[:2], ["services", "'detokenise'", "no clients"]),
        (RAG, [{**SERVICES[0], "shards": 2}, *SERVICES[1:]], ["shards 2", "'embed'", "for the kind retrieve"]),
        (RAG, [*SERVICES, {"stage": "rerank", "device": "l4"}], ["'rerank'", "embed, retrieve, detokenise"]),
        (["prefill", "decode"], SERVICES[:1], ["'embed'", "the LLM alone"]),
        (RAG, [{"stage": "embed", "device": "abacus"}, *SERVICES[1:]], ["abacus", "known"]),
    ],
)
def test_what_does_not_fit_together_is_named(pipeline: list[Any], services: list[Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        run(pipeline, services)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert "\n" not in message


def test_check_pipeline_takes_services_on_both_sides() -> None:
    check_pipeline(Workload.parse({**LOAD, "pipeline": RAG}).pipeline)
