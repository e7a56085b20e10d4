"""The explanation of a step: against operations and bytes counted by hand, the kernel's tables, and simulated steps."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.cli.main import main
from dse.explain import Conditions, explain_deployment
from dse.explain.breakdown import to_json
from dse.explain.page import render_explanation
from simulator import Deployment, Pool, Requests, Scenario, SpecError, Workload, catalog, simulate
from simulator.lowering import lower
from simulator.performance.engine import engine_of, tensor_parallel_sizes
from simulator.performance.explanation import (
    Row,
    StepExplanation,
    StepLoad,
    engine_coefficients,
    explain_prompt,
    explain_step,
    request_seconds,
    steps_seconds,
)
from tests.oracle.cost import LINEAR_KNOTS, OracleProfile, linear_cost, prefill_cost, sequences_cost

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def dse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["dse", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def pool(**changes: Any) -> Pool:
    return Pool.parse({"model": "llama-3.1-8b", "accelerator": "h100-sxm", **changes})


def rows_of(step: StepExplanation) -> dict[str, Row]:
    return {row.operator: row for row in step.rows}


# What a layer of Llama 3.1 8B is: 4096 wide, 32 heads and 8 KV heads of 128, 14336 inside; 32 of them; 128,256 tokens.


def test_operations_of_a_prompt_are_those_counted_by_hand() -> None:
    rows = rows_of(explain_prompt(engine_of(pool()), 1024, None))
    by_hand = {
        "qkv projection": 2 * 1024 * 4096 * (4096 + 2 * 1024) * 32,
        "o projection": 2 * 1024 * 4096 * 4096 * 32,
        "gate and up": 2 * 1024 * 4096 * 2 * 14336 * 32,
        "down": 2 * 1024 * 14336 * 4096 * 32,
        "output head": 2 * 1 * 4096 * 128256,
        # Scores and values, 128 multiply-adds each, for every pair of a token and one not after it.
        "attention of prompts": 32 * 32 * 4 * 128 * (1024 * 1025 // 2),
    }
    assert {name: rows[name].flops for name in by_hand} == pytest.approx(by_hand)
    assert sum(row.flops for row in rows.values()) == pytest.approx(sum(by_hand.values()))


def test_operations_of_a_step_are_two_for_each_parameter_and_token() -> None:
    model = catalog.model("llama-3.1-8b")
    step = explain_step(engine_of(pool()), "decode", StepLoad((), 7, 0))
    attention = 32 * 32 * 4 * 128 * 7
    norms_and_table = model.embedding_parameters + (2 * 32 + 1) * 4096
    assert step.flops - attention == pytest.approx(2 * 7 * (model.parameters - norms_and_table))


def test_bytes_of_a_decode_are_those_counted_by_hand() -> None:
    rows = rows_of(explain_step(engine_of(pool()), "decode", StepLoad((), 32, 1024)))
    vectors = 32 * 32 * 2  # tokens, layers, bytes
    by_hand = {
        "gate and up": 32 * 2 * 4096 * 28672 + vectors * (4096 + 28672),
        "down": 32 * 2 * 14336 * 4096 + vectors * (4096 + 14336),
        "output head": 2 * 4096 * 128256 + 32 * 2 * (4096 + 128256),
        # KV of 1025 tokens, 8 heads of 128 twice; queries, outputs, and the KV that is written.
        "attention of decodes": 32 * 32 * 1025 * 4096 + vectors * (4096 + 4096 + 2048),
        "norms": vectors * 2 * 4 * 4096,
    }
    assert {name: rows[name].moved_bytes for name in by_hand} == pytest.approx(by_hand)


def test_tensor_parallelism_splits_work_and_sends_activations() -> None:
    alone = explain_prompt(engine_of(pool()), 512, None)
    four = explain_prompt(engine_of(pool(tp=4)), 512, None)
    assert four.flops == pytest.approx(alone.flops)
    assert rows_of(four)["down"].flops == pytest.approx(rows_of(alone)["down"].flops / 4)
    # Two all-reduces a layer; in a ring everyone sends 2 · 3/4 of the tensor.
    assert rows_of(four)["all-reduce"].link_bytes == pytest.approx(64 * 1.5 * 512 * 4096 * 2)
    assert "all-reduce" not in rows_of(alone)


DEPLOYMENTS: list[dict[str, Any]] = [
    {},
    {"accelerator": "mi300x"},
    {"tp": 4, "weights": "fp8", "kv": "fp8"},
    {"model": "llama-3.1-70b", "tp": 2, "pp": 3},
    {"model": "llama-3.1-70b", "pp": 4, "layers_per_stage": [19, 21, 21, 19]},
    {"model": "mixtral-8x7b", "tp": 4},
    {"model": "deepseek-v3", "accelerator": "h200-sxm", "dp": 8, "ep": 8, "weights": "fp8"},
    {"model": "deepseek-v3", "accelerator": "h200-sxm", "tp": 8, "pp": 2, "weights": "fp8"},
    {"model": "gemma-2-9b"},
    {"model": "gpt-oss-120b", "tp": 2, "weights": "fp4"},
    {"model": "jamba-1.5-mini", "tp": 4},
    {"model": "mamba2-2.7b"},
    {"adapters": {"rank": 16, "slots": 4}},
    {"speculation": {"draft_model": "llama-3.2-1b", "draft_tokens": 3, "acceptance": 0.7}},
    {"lookup": {"us_per_step": 500, "us_per_sequence": 20}},
]
LOADS = [
    StepLoad(((1, 0),)),
    StepLoad(((1024, 0),)),
    StepLoad(((512, 1536),)),
    StepLoad(((2048, 0), (1024, 4096))),
    StepLoad((), 1, 1),
    StepLoad((), 32, 1024),
    StepLoad((), 200, 9000),
    StepLoad(((480, 32),), 32, 4096),
]


@pytest.mark.parametrize("described", DEPLOYMENTS, ids=str)
def test_rows_of_every_stage_add_up_to_the_step(described: dict[str, Any]) -> None:
    engine = engine_of(pool(**described))
    for load in LOADS:
        step = explain_step(engine, "", load)
        assert len(step.stages) == engine.pp
        for stage in step.stages:
            assert sum(row.seconds for row in stage.rows) == pytest.approx(step.seconds, rel=1e-9)
        assert sum(row.seconds for row in step.rows) == pytest.approx(step.seconds, rel=1e-9)
        # Nothing is left over that no operator accounts for.
        assert "host, not hidden" not in rows_of(step)
        assert step.share("kernel") + step.share("engine") + step.share("waiting") == pytest.approx(1)


@pytest.mark.parametrize("described", DEPLOYMENTS, ids=str)
def test_a_step_is_what_the_kernel_counts(described: dict[str, Any]) -> None:
    """The sum of the rows is the cost of docs/semantics.md from the arrays of ``lower``, to their rounding."""
    given = pool(**described)
    requests = Requests(np.zeros(1), np.array([64]), np.array([8]))
    memory = lower(Deployment(pools=(given,)), requests).memory
    client, scratch = memory.clients[0], memory.scratch
    linear, sequences = (
        scratch[int(client[name]) :][:length].tolist()
        for name, length in (("linear", len(LINEAR_KNOTS)), ("sequences", 1025))
    )
    profile = OracleProfile(
        linear,
        sequences,
        int(client["attention_ps"]),
        int(client["prefill_pair"]),
        int(client["prefill_read"]),
        int(client["window_ps"]),
        int(client["window_pair"]),
        int(client["decode_ps"]),
        int(client["decode_sequence_ps"]),
    )
    engine, drafted, window = engine_of(given), int(client["draft"]), int(client["window_tokens"])
    for load in LOADS:
        seen = load.context_tokens + 1 + drafted
        counted = linear_cost(linear, load.tokens(drafted)) + sequences_cost(sequences, load.sequences)
        counted += sum(prefill_cost(profile, before, chunk, window) for chunk, before in load.chunks)
        counted += load.decodes * (seen * profile.attention_ps + min(seen, window) * profile.window_ps)
        counted += profile.decode_ps + load.decodes * profile.decode_sequence_ps if load.decodes else 0
        counted += int(client["adapter_ps"]) * min(load.sequences, 4) if "adapters" in described else 0
        step = explain_step(engine, "", load)
        stage = step.stages[0]
        # Between knots the kernel interpolates; coefficients of a token of context are whole picoseconds.
        tolerance = 1e-6 * step.seconds if load.tokens(drafted) in LINEAR_KNOTS else 0.02 * step.seconds
        rounding = 1e-12 * (2 * load.decodes * seen + 100)
        assert sum(row.seconds for row in stage.rows) == pytest.approx(counted * 1e-12, abs=tolerance + rounding)


def test_a_lone_request_is_simulated_as_long_as_explained() -> None:
    given = pool(tp=2, batching={"token_budget_tokens": 512, "max_batch_requests": 64, "schedule_ahead": False})
    engine = engine_of(given)
    requests = Requests(np.zeros(1), np.array([1300]), np.array([2]))
    result = simulate(Deployment(pools=(given,)), requests)
    prompt = explain_prompt(engine, 1300, 512)
    assert [load.chunks[0] for load in prompt.loads] == [(512, 0), (512, 512), (276, 1024)]
    assert result.ttft_s[0] - request_seconds(engine) == pytest.approx(prompt.seconds, rel=1e-6)
    decode = explain_step(engine, "decode", StepLoad((), 1, 1300))
    assert result.e2e_s[0] - result.ttft_s[0] == pytest.approx(decode.seconds, rel=1e-6)


def test_several_steps_at_once_are_each_alone() -> None:
    engine = engine_of(pool(model="llama-3.1-70b", tp=2, pp=2))
    assert steps_seconds(engine, LOADS) == pytest.approx([steps_seconds(engine, [load])[0] for load in LOADS])


@pytest.mark.parametrize("accelerator", catalog.accelerator_names())
def test_no_operator_is_faster_than_the_chip(accelerator: str) -> None:
    for name in catalog.model_names():
        model = catalog.model(name)
        if model.kind != "decoder":
            continue
        allowed = [tp for tp in tensor_parallel_sizes(model) if tp <= catalog.accelerator(accelerator).scale_up.devices]
        for tp in {allowed[0], max(tp for tp in allowed if tp <= 8)}:
            engine = engine_of(pool(model=name, accelerator=accelerator, tp=tp))
            for load in (StepLoad(((2048, 0),)), StepLoad((), 64, 2048), StepLoad((), 1, 128)):
                step = explain_step(engine, "", load)
                # Kernels of a chip that is clocked higher than its datasheet says are fitted above its peak.
                kernels = engine_coefficients(engine).kernels
                fastest = max(1.0, *(each.compute_share for each in kernels.products.values()))
                peak = fastest * max(step.peak_flops_per_s, step.peak_16bit_flops_per_s)
                assert all(row.flops <= peak * row.seconds * 1.0001 for row in step.rows)
                assert fastest > 1 or not step.unphysical
                assert 0 < step.mfu <= fastest
                assert 0 < step.mbu <= 1
                assert all(math.isfinite(row.seconds) and row.seconds >= 0 for row in step.rows)


def test_what_bounds_a_row() -> None:
    assert Row("", "kernel", 1.0, compute_s=0.8, memory_s=0.7).bound == "compute"
    assert Row("", "kernel", 1.0, compute_s=0.2, memory_s=0.6).bound == "memory bandwidth"
    assert Row("", "kernel", 1.0, link_s=0.9).bound == "links"
    assert Row("", "kernel", 1.0, compute_s=0.3, memory_s=0.4).bound == "latency"
    assert Row("", "engine", 1.0).bound == "engine"
    engine = engine_of(pool())
    assert explain_prompt(engine, 2048, None).bound == "compute"
    assert explain_step(engine, "", StepLoad((), 8, 1024)).bound == "memory bandwidth"
    # Twice the tokens of a memory-bound step are hardly slower: utilisation of arithmetic doubles.
    some, more = (explain_step(engine, "", StepLoad((), n, 0)) for n in (8, 16))
    assert more.mfu / some.mfu == pytest.approx(2, rel=0.05)


def test_steps_follow_the_role_of_a_pool() -> None:
    disaggregated = Deployment.parse(
        {
            "pools": [
                {"name": "p", "model": "llama-3.1-8b", "accelerator": "h100-sxm", "role": "prefill"},
                {"name": "d", "model": "llama-3.1-8b", "accelerator": "h100-sxm", "role": "decode"},
            ]
        }
    )
    found = explain_deployment(disaggregated)
    assert [[step.name for step in each.steps] for each in found.pools] == [["prefill"], ["decode"]]
    assert [each.pool.name for each in explain_deployment(disaggregated, pool="d").pools] == ["d"]
    with pytest.raises(SpecError, match="no pool 'x'; given: p, d"):
        explain_deployment(disaggregated, pool="x")
    with pytest.raises(SpecError, match="--batch: must be at least 1, given 0"):
        Conditions(batch=0)
    with pytest.raises(SpecError, match="decodes leave no token"):
        explain_deployment(Deployment(pools=(pool(),)), conditions=Conditions(batch=5000), steps=["mixed"])


def test_services_are_explained_by_a_batch() -> None:
    scenario = Scenario.from_yaml(EXAMPLES / "rag.yaml")
    found = explain_deployment(scenario.deployment, scenario.workload, Conditions(prompt_tokens=1100))
    embed, retrieve, rerank = found.services
    # Five documents of 200 tokens stand in the prompt beside a question of 100.
    assert (embed.units, retrieve.units, rerank.units) == (1600, 0, 400)
    assert embed.requests_per_s == pytest.approx(16 / embed.seconds)
    assert rerank.requests_per_s == pytest.approx(2 * 4 / rerank.seconds)
    assert rerank.seconds > embed.seconds
    alone = explain_deployment(scenario.deployment, None)
    assert not alone.services
    assert "services left out (embed, retrieve, rerank)" in alone.notes[0]


def test_notes_say_what_cannot_be() -> None:
    notes = (
        explain_deployment(Deployment(pools=(pool(accelerator="l4"),)), conditions=Conditions(5000, 8000, 300))
        .pools[0]
        .notes
    )
    assert any("the batch needs KV of 2,400,300 tokens" in note for note in notes)
    assert any("max_batch_requests" in note for note in notes)
    assert any(note.startswith("prefill: 3 steps") for note in notes)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    options = ("--model", "llama-3.1-8b", "--accelerator", "h100-sxm", "--tp", "1")
    assert dse(monkeypatch, "explain", *options, "--out", str(page)) == 0
    said = capsys.readouterr().out
    assert "kernels calibrated: yes" in said
    assert re.search(r"gate and up +[\d.]+ ms", said)
    assert "prefill: a prompt of 1,024 tokens" in said
    assert "decode: 32 decodes with 1,024 tokens of context each" in said
    assert page.read_text().startswith("<!doctype html>")
    assert dse(monkeypatch, "explain", *options, "--json", "--step", "decode", "--batch", "4") == 0
    data = json.loads(capsys.readouterr().out)
    (step,) = data["pools"][0]["steps"]
    operators = step["pipeline_stages"][0]["operators"]
    assert sum(row["seconds"] for row in operators) == pytest.approx(step["seconds"])
    assert data["pools"][0]["kernels"]["calibrated"] == "yes"
    assert step["tokens_per_s"] == pytest.approx(4 / step["seconds"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--out", "page.txt"), "--out: must end in .html"),
        (("--pool", "other"), "--pool: no pool 'other'"),
        (("--model", "nothing"), "nothing"),
        (("--tp", "3"), "tp: 3 does not divide"),
        (("--tp", "1"), "needs"),
        (("--prompt-tokens", "0"), "--prompt-tokens: must be at least 1"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dse(monkeypatch, "explain", *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_the_page_is_whole_and_draws_every_operator() -> None:
    found = explain_deployment(
        Deployment(pools=(pool(model="llama-3.1-70b", tp=2, pp=3, name="<b>"),)), steps=["prefill", "decode", "mixed"]
    )
    page = render_explanation(found)
    assert page == render_explanation(found)
    assert "<b></h2>" not in page
    assert "http://" not in page.split("<script>")[0]
    text = page.split('<script id="report-data" type="application/json">')[1].split("</script>")[0]
    figures = json.loads(text)["figures"]
    bars, roofs = figures["bars-0"], figures["roofs-0"]
    assert {trace["name"] for trace in bars["data"]} == {
        row.operator for step in found.pools[0].steps for row in step.rows
    }
    for at in range(3):
        assert sum(trace["x"][at] for trace in bars["data"]) == pytest.approx(100, abs=0.01)
    points = [trace for trace in roofs["data"] if trace["mode"] == "markers"]
    assert [trace["name"] for trace in points] == ["prefill", "decode", "mixed"]
    peak = roofs["data"][0]["y"][-1]
    assert all(0 < y <= peak for trace in points for y in trace["y"])
    assert json.dumps(to_json(found), allow_nan=False)


def test_services_of_another_pipeline_are_named() -> None:
    pool = {"model": "llama-3.1-8b", "accelerator": "h100-sxm"}
    deployment = Deployment.parse({"pools": [pool], "services": [{"stage": "guard", "device": "l4"}]})
    workload = Workload.parse(
        {"arrivals": {"process": "poisson", "rate_rps": 1}, "lengths": {"statistics": "azure-2023-conversation"}}
    )
    with pytest.raises(SpecError, match="services: no stage 'guard' in the pipeline"):
        explain_deployment(deployment, workload)
