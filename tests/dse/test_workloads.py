"""Studies of workloads with classes, sessions and named stages: what is allowed, what is said, what is searched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dse import words
from dse.cli.overrides import change_workload
from dse.report import render_report
from dse.spec import has_sessions
from dse.study import run_study
from simulator import Deployment, SpecError, Workload, build_requests, simulate
from simulator.spec.stages import Service

from .conftest import SMALL, small

CHAT = {"turns": 3, "wait_s": 5, "prompt_tokens": 50}
SPACE = {
    "accelerators": ["h100-sxm"],
    "clients": [1, 2],
    "tp": [1, 2],
    "pp": [1, 2],
    "orders": ["fcfs", "shortest_first", "priority"],
    "prefix_cache": [False, True],
    "routers": ["join_shortest_queue", "session_affinity", "prefix_affinity"],
}


def load(**changes: Any) -> dict[str, Any]:
    return {**SMALL["workload"], "requests": 60, **changes}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i},100,20\n" for i in range(20)))
    return path


def test_sessions_are_searched_and_reported() -> None:
    """Session percentiles are objectives and SLOs; pools serve the LLM stage by its name."""
    spec = small(
        workload=load(session=CHAT, pipeline=[{"kind": "llm", "name": "talker"}]),
        space=SPACE,
        objectives=["usd_per_hour", "session_p90_s"],
        slos=[{"metric": "session", "percentile": 95, "limit_s": 60}],
        budget={"trials": 25},
    )
    result = run_study(spec, jobs=1)
    assert len(result.simulated) == 25
    best = result.recommended
    assert best
    deployment = result.deployment(best)
    assert {pool.stage for pool in deployment.pools} == {"talker"}
    again = simulate(deployment, spec.workload)
    assert best.objectives == (again.usd_per_hour, again.percentile_s("session", 90))
    assert best.figures["session_p95_s_excess"] == again.violation(spec.slos[0]) <= 0
    cached = [e for e in result.simulated if any(e.design.get(f"{pool}.prefix_cache") for pool in ("main", "prefill"))]
    assert any(use.cache_hits > 0 for e in cached[:3] for use in result.simulate(e).pools)
    page = render_report(result)
    for text in ("session p95", "end-to-end time of a session", "180 requests in 60 sessions", "95 % of sessions"):
        assert text in page


def test_reports_without_sessions_do_not_speak_of_them() -> None:
    page = render_report(run_study(small(budget={"trials": 10}), jobs=1))
    assert "session p" not in page
    assert "end-to-end time of a session" not in page


@pytest.mark.parametrize(
    "changes",
    [
        {"slos": [{"metric": "session", "percentile": 90, "limit_s": 60}]},
        {"objectives": ["usd_per_hour", "session_p90_s"]},
    ],
)
def test_session_metrics_need_sessions(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="session_p90_s: the workload has no sessions"):
        small(**changes)
    assert small(**changes, workload=load(session=CHAT))


@pytest.mark.parametrize(
    "pipeline",
    [
        ["prefill", "decode"],
        [{"kind": "reason", "factor": 4}],
        [{"kind": "reason", "branches": 3}],
        [{"kind": "cascade", "stages": ["a", "b"], "fallback": [0.5]}],
        [{"kind": "route", "to": {"a": 1, "b": 1}}],
    ],
)
@pytest.mark.parametrize("session", [None, CHAT])
def test_has_sessions_is_what_is_built(pipeline: list[Any], session: dict[str, Any] | None) -> None:
    for classes in (None, [{"name": "one", "share": 1}, {"name": "other", "share": 1, "pipeline": pipeline}]):
        text = load(session=session, classes=classes) if classes else load(session=session, pipeline=pipeline)
        workload = Workload.parse(text)
        assert has_sessions(workload) == (build_requests(workload).sessions is not None)


def test_several_models_need_a_space_and_a_model_each() -> None:
    cascade = {"kind": "cascade", "stages": ["weak", "strong"], "fallback": [0.2]}
    with pytest.raises(SpecError, match=r"stages: given none; the workload's LLM stages: weak, strong"):
        small(workload=load(pipeline=[cascade]))
    space = {"accelerators": ["h100-sxm"], "clients": [1, 2], "tp": [1], "layouts": ["colocated"]}
    stages = {"weak": {}, "strong": {"tp": [1, 2]}}
    with pytest.raises(SpecError, match="model: given for weak; the workload's LLM stages: weak, strong"):
        small(workload=load(pipeline=[cascade]), space={**space, "stages": stages}, model={"weak": "llama-3.1-8b"})
    models = {"weak": "llama-3.1-8b", "strong": "llama-3.1-70b"}
    spec = small(
        workload=load(pipeline=[cascade]),
        space={**space, "stages": stages, "weights": ["fp8"]},
        model=models,
        budget={"trials": 8},
    )
    result = run_study(spec, jobs=1)
    assert result.simulated
    assert {pool.model for pool in result.deployment(result.simulated[0]).pools} == set(models.values())


def test_services_of_all_classes_need_clients() -> None:
    classes = [{"name": "plain", "share": 1}, {"name": "safe", "share": 1, "pipeline": [{"kind": "filter"}, *LLM]}]
    with pytest.raises(SpecError, match="'filter' of the pipeline has no clients"):
        small(workload=load(classes=classes))
    service = {"stage": "filter", "device": "xeon-gold-6448y"}
    spec = small(workload=load(classes=classes), services=[service], budget={"trials": 5})
    result = run_study(spec, jobs=1)
    assert result.simulated
    assert "filter" in render_report(result)


LLM = ["prefill", "decode"]


def test_a_trace_replaces_only_what_it_holds(trace: Path) -> None:
    prefix = {"system_prompts": 2, "tokens": 1000}
    lengths = {"statistics": "azure-2023-code"}
    classes = [{"name": "a", "share": 1, "priority": 2, "lengths": lengths}, {"name": "b", "share": 3}]
    before = Workload.parse(load(prefix=prefix, classes=classes, seed=4))
    after = change_workload(before, trace=trace, rate=2.0)
    assert after.trace
    assert (after.trace.path, after.trace.rate_rps) == (trace, 2.0)
    assert after.arrivals is after.lengths is after.requests is None
    assert after.prefix == before.prefix
    assert after.seed == 4
    assert after.classes
    assert [(each.name, each.share, each.priority, each.lengths) for each in after.classes] == [
        ("a", 1, 2, None),
        ("b", 3, None, None),
    ]
    requests = build_requests(after)
    assert len(requests) == 20
    assert (requests.prompt_tokens == 1100).all()
    with pytest.raises(SpecError, match="cannot replace sessions"):
        change_workload(Workload.parse(load(session=CHAT)), trace=trace)


def test_deployments_in_words() -> None:
    pool = {"model": "deepseek-v3", "accelerator": "h200-sxm", "clients": 4, "tp": 4, "dp": 2, "pp": 2, "ep": 8}
    more = {
        "batching": {"order": "earliest_deadline"},
        "speculation": {"draft_tokens": 4, "acceptance": 0.7},
    }
    plain = Deployment.parse({"pools": [{"model": "llama-3.1-8b", "accelerator": "l40s"}]})
    wide = Deployment.parse({"pools": [{**pool, **more}]})
    assert words.short(plain) == "1 × l40s TP1 · bf16"
    assert words.short(wide) == "4 × h200-sxm TP4 PP2 DP2 EP8 · bf16"
    assert "4 clients of 16 h200-sxm (TP 4, PP 2, DP 2, EP 8) each: 64 accelerators" in words.sentence(wide)
    for said in (words.sentence(wide), words.row(wide), words.details(wide), words.batching(wide.pools[0])):
        assert "earliest deadline first" in said
        assert "4 tokens ahead by prompt lookup" in said
    cached = Deployment.parse({"pools": [{"model": "llama-3.1-8b", "accelerator": "l40s", "prefix_cache": {}}]})
    assert words.row(cached) == "1 × l40s TP1 · bf16 · chunked 2048/256, prefix cache · join shortest queue"
    assert words.row(plain) == "1 × l40s TP1 · bf16 · chunked 2048/256 · join shortest queue"
    embed = Service(stage="embed", device="l4", clients=2, devices=4, max_batch_requests=8, max_wait_ms=2.5)
    retrieve = Service(stage="retrieve", device="grace", shards=4)
    assert words.row(plain.model_copy(update={"services": (embed, retrieve)})) == (
        f"{words.row(plain)} · embed 2 × 4 l4, batch 8, wait 2.50 ms · retrieve 1 × grace, 4 shards, batch 32"
    )


def test_workloads_in_words() -> None:
    classes = [
        {"name": "chat", "share": 3, "session": CHAT},
        {"name": "code", "share": 1, "lengths": {"statistics": "azure-2023-code"}},
    ]
    workload = Workload.parse(load(classes=classes))
    said = words.workload_words(workload, build_requests(workload))
    for text in (
        " requests in 60 sessions generated with seed 0",
        "lengths of azure-2023-conversation or lengths of azure-2023-code",
        "in classes (75.0 % chat, 25.0 % code)",
        "sessions/s",
    ):
        assert text in said
    plain = Workload.parse(load())
    assert words.workload_words(plain, build_requests(plain)).startswith(
        "60 requests generated with seed 0, with poisson arrivals, lengths of azure-2023-conversation; "
    )
