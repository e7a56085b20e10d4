"""Every example in docs/examples runs, serves all its requests, and shows what it says; docs/examples.md lists them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dse.cli.main import app
from simulator import Result, Scenario, simulate
from simulator.performance.price import service_usd_per_hour
from simulator.spec.deployment import Router
from simulator.spec.stages import EncodeStage

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
EXAMPLES = [path.stem for path in FILES if path.suffix == ".yaml"]
Results = dict[str, Result]


def scenario(example: str) -> Scenario:
    return Scenario.from_yaml(FOLDER / f"{example}.yaml")


def run(given: Scenario) -> Result:
    """Simulate; the path of a trace is relative to the root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return simulate(given.deployment, given.workload)


@cache
def result_of(example: str) -> Result:
    return run(scenario(example))


def changed(example: str, pool: dict[str, Any] | None = None, workload: dict[str, Any] | None = None) -> Result:
    """Return the result of an example with other values of its first pool and its workload."""
    given = scenario(example)
    first, *others = given.deployment.pools
    pools = (first.model_copy(update=pool or {}), *others)
    system = given.deployment.model_copy(update={"pools": pools})
    return run(Scenario(deployment=system, workload=given.workload.model_copy(update=workload or {})))


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_serves_every_request(example: str) -> None:
    result = result_of(example)
    assert result.rejected == 0
    assert result.requests_total <= 2000
    assert result.requests()["served"].all()
    assert np.isfinite(result.e2e_s).all()


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_begins_with_what_it_shows(example: str) -> None:
    lines = (FOLDER / f"{example}.yaml").read_text(encoding="utf-8").splitlines()
    comment = next(place for place, line in enumerate(lines) if not line.startswith("# "))
    assert 1 <= comment <= 3
    assert "Look at" in " ".join(lines[:comment])
    assert max(map(len, lines)) <= 120
    for other in re.findall(r"[\w-]+\.yaml", "\n".join(lines)):
        assert (FOLDER / other).exists() or other.startswith("-"), other


# What each example shows


def frame(result: Result) -> pd.DataFrame:
    return result.requests()


def waits(result: Result, name: str) -> pd.Series[float]:
    """Return the times to first token of a class."""
    rows = frame(result)
    return rows.loc[rows["class"] == name, "ttft_s"]


def computed_prompt_tokens(result: Result) -> int:
    return int(result.lowered.memory.clients["prefill_tokens"].sum())


def text_services(results: Results) -> None:
    rows = frame(results[""])
    for stage in ("tokenise", "word-filter", "detokenise", "answer-filter"):
        assert (rows[f"{stage}_service_s"] > 0).all()
    assert [use.requests for use in results[""].services] == [2000] * 4
    assert max(use.busy for use in results[""].services) < 0.05
    assert results[""].bottleneck == "main: memory bandwidth"


def guards(results: Results) -> None:
    rows = frame(results[""])
    before, after = rows["guard-in_service_s"], rows["guard-out_service_s"]
    assert before.mean() > 1.2 * after.mean() > 0
    assert (rows["ttft_s"] > before).all()
    assert (rows["e2e_s"] > rows["ttft_s"] + after).all()
    busy = [use.busy for use in results[""].services]
    assert busy[0] > busy[1] > 0


def rag(results: Results) -> None:
    result = results[""]
    rows = frame(result)
    assert (rows["prompt_tokens"] > 1000).all()
    order = ["embed", "retrieve", "rerank"]
    assert (rows[[f"{stage}_service_s" for stage in order]] > 0).all(axis=None)
    embed, retrieve, _ = result.lowered.services
    assert retrieve.service.devices_in_all(retrieve.stage) == 4
    assert embed.service.devices_in_all(embed.stage) == 1
    assert service_usd_per_hour(retrieve.service, retrieve.stage) > result.usd_per_hour / 2


def image_chat(results: Results) -> None:
    encode, *llm = scenario("image-chat").workload.pipeline
    assert isinstance(encode, EncodeStage)
    unfolded = changed("image-chat", workload={"pipeline": (encode.model_copy(update={"fold": 1}), *llm)})
    spared = frame(unfolded)["prompt_tokens"] - frame(results[""])["prompt_tokens"]
    assert set(spared % (576 - 144)) == {0}
    assert spared.mean() == pytest.approx(1.5 * (576 - 144), rel=0.1)
    assert unfolded.percentile_s("ttft", 50) > results[""].percentile_s("ttft", 50)


def audio_chat(results: Results) -> None:
    rows = frame(results[""])
    clips = rows["prompt_tokens"] // 750
    assert set(clips) == {1, 2}
    assert (rows["encode_service_s"] > 0.3 * rows["ttft_s"]).mean() > 0.5


def model_routing(results: Results) -> None:
    for result in results.values():
        rows = frame(result)
        assert (rows["small_service_s"].isna() != rows["large_service_s"].isna()).all()
    assert frame(results["chance"])["small_service_s"].notna().mean() == pytest.approx(0.7, abs=0.05)
    rows = frame(results["length"])
    assert ((rows["prompt_tokens"] >= 1000) == rows["large_service_s"].notna()).all()
    rows = frame(results["class"])
    assert ((rows["class"] == "paid") == rows["large_service_s"].notna()).all()


def routing_classifier(results: Results) -> None:
    rows = frame(results[""])
    assert rows["small_service_s"].notna().mean() == pytest.approx(0.7, abs=0.05)
    assert rows["router_service_s"].corr(rows["prompt_tokens"]) > 0.9


def cascade(results: Results) -> None:
    rows, summary = frame(results[""]), results[""].summary()
    refused = rows["large_service_s"].notna()
    assert summary["sessions"] == 1200
    assert summary["requests"] == 1200 + refused.sum()
    assert refused.sum() / 1200 == pytest.approx(0.3, abs=0.04)
    assert rows["judge_service_s"].notna().sum() == 1200
    assert summary["session_p99_s"] > summary["e2e_p99_s"]


def reasoning(results: Results) -> None:
    plain = changed("reasoning-path", workload={"pipeline": ("prefill", "decode")})
    assert results["path"].output_tokens == 8 * plain.output_tokens
    assert results["path"].pools[0].cache_hits == 0
    branches = results["branches"]
    assert branches.summary()["requests"] == 10 * branches.summary()["sessions"] == 1500
    assert branches.pools[0].cache_hits > 0.5
    # The summary follows the fifth branch to be done, not the last.
    rows = frame(branches)
    done = rows["arrival_s"] + rows["e2e_s"]
    sessions = done.to_numpy().reshape(-1, 10)
    summary = rows["arrival_s"].to_numpy().reshape(-1, 10)[:, 9]
    np.testing.assert_allclose(np.sort(sessions[:, 1:9], axis=1)[:, 4], summary)


def agents(results: Results) -> None:
    keep, drop, offload = (results[name] for name in ("", "drop", "offload"))
    for result in results.values():
        assert result.summary()["sessions"] == 200
        assert result.requests_total > 800
    assert drop.pools[0].cache_hits < 0.01
    assert min(keep.pools[0].cache_hits, offload.pools[0].cache_hits) > 0.7
    assert keep.tiers[0].fetched_tokens == 0
    assert offload.tiers[0].fetched_tokens > 1_000_000
    for other in (keep, offload):
        assert other.percentile_s("ttft", 50) < drop.percentile_s("ttft", 50) / 3
        assert other.percentile_s("session", 50) < drop.percentile_s("session", 50)
    # What the device's caches hold at the end; what nobody uses is not in the KV peak.
    held = {name: result.lowered.memory.caches for name, result in results.items()}
    devices = slice(2, 4)
    assert held[""]["size"][devices].min() > 1000
    assert held["offload"]["size"][devices].max() == 0
    assert keep.percentile_s("ttft", 50) < offload.percentile_s("ttft", 50) < 1.5 * keep.percentile_s("ttft", 50)


def classes(results: Results) -> None:
    result = results[""]
    rows = frame(result)
    assert set(rows["class"]) == {"chat", "code", "search"}
    assert result.summary()["sessions"] == 800 < result.requests_total
    assert ((rows["class"] == "code") == rows["coder_service_s"].notna()).all()
    assert ((rows["class"] == "search") == rows["retrieve_service_s"].notna()).all()
    assert result.pools[0].cache_hits > 0.5
    chat, coder = result.lowered.pools
    assert chat.pool.model != coder.pool.model
    assert result.pools[1].busy > 0


def queue_orders(results: Results) -> None:
    late = {}
    for name, result in results.items():
        rows = frame(result)
        late[name] = (rows["ttft_s"] > np.where(rows["class"] == "live", 8, 30)).mean()
    first = results["fcfs"]
    assert late["earliest-deadline"] == min(late.values()) < late["fcfs"] / 2
    priority = results["priority"]
    assert waits(priority, "live").quantile(0.9) < 0.5 * waits(first, "live").quantile(0.9)
    assert waits(priority, "batch").quantile(0.9) > 1.5 * waits(first, "batch").quantile(0.9)
    by_deadline = waits(results["earliest-deadline"], "batch")
    assert by_deadline.quantile(0.9) < waits(priority, "batch").quantile(0.9)
    for name in ("shortest-first", "least-work-left"):
        assert results[name].percentile_s("ttft", 50) < first.percentile_s("ttft", 50)
    assert results["shortest-first"].percentile_s("ttft", 99) > first.percentile_s("ttft", 99)
    assert results["least-work-left"].percentile_s("e2e", 50) < first.percentile_s("e2e", 50)


def batching(results: Results) -> None:
    static, continuous, chunked = (results[name] for name in ("static", "continuous", "chunked"))
    assert static.pools[0].bottleneck == "static batching"
    assert static.percentile_s("ttft", 50) > 20 * continuous.percentile_s("ttft", 50)
    assert static.percentile_s("itl", 99) < chunked.percentile_s("itl", 99) < continuous.percentile_s("itl", 99) / 2
    assert continuous.percentile_s("ttft", 50) < chunked.percentile_s("ttft", 50)


def scheduling_ahead(results: Results) -> None:
    rules = results[""].deployment.pools[0].batching
    plain = changed("scheduling-ahead", {"batching": rules.model_copy(update={"schedule_ahead": False})})
    more = results[""].ttft_s - plain.ttft_s
    assert 0.5 < np.median(more) / plain.percentile_s("itl", 50) < 2
    assert results[""].percentile_s("tpot", 50) == pytest.approx(plain.percentile_s("tpot", 50), rel=0.02)


def step_noise(results: Results) -> None:
    quiet = changed("step-noise", {"step_noise_cv": 0.0})
    assert results[""].percentile_s("itl", 99) > 1.2 * quiet.percentile_s("itl", 99)
    assert results[""].percentile_s("tpot", 50) == pytest.approx(quiet.percentile_s("tpot", 50), rel=0.02)


def disaggregation(results: Results) -> None:
    decoded = {name: rows[rows["output_tokens"] > 1] for name, rows in ((n, frame(r)) for n, r in results.items())}
    for name in ("global", "local", "shared-link", "layer-wise"):
        assert set(decoded[name]["prefill_client"]) == {0, 1}
        assert set(decoded[name]["client"]) == {2, 3}
    pairs = {
        name: {tuple(pair) for pair in rows[["prefill_client", "client"]].to_numpy()} for name, rows in decoded.items()
    }
    assert len(pairs["global"]) == 4
    assert pairs["local"] == {(0, 2), (1, 3)}
    lent = pairs["lending"]
    assert lent & {(2, 2), (3, 3)}, "decode clients read prompts"
    assert lent & {(0, 0), (1, 1)}, "prefill clients decode"
    assert results["lending"].percentile_s("ttft", 99) < results["global"].percentile_s("ttft", 99)
    shared, layers = results["shared-link"], results["layer-wise"]
    for metric in ("tpot", "itl"):
        assert shared.percentile_s(metric, 99) > 3 * results["global"].percentile_s(metric, 99)
        assert layers.percentile_s(metric, 99) < shared.percentile_s(metric, 99) / 3


def preemption(results: Results) -> None:
    swap, recompute = results["swap"], results["recompute"]
    prompts = int(frame(swap)["prompt_tokens"].sum())
    assert min(result.summary()["preemptions"] for result in results.values()) > 50
    assert computed_prompt_tokens(swap) == prompts
    assert computed_prompt_tokens(recompute) > 4 / 3 * prompts
    assert recompute.pools[0].bottleneck == "KV capacity"
    assert swap.percentile_s("itl", 99) < 0.9 * recompute.percentile_s("itl", 99)


def shared_prefixes(results: Results) -> None:
    with_cache, without = results["cache"], results["no-cache"]
    assert with_cache.pools[0].cache_hits == pytest.approx(2 / 3, abs=0.05)
    assert without.pools[0].cache_hits == 0
    assert with_cache.percentile_s("ttft", 50) < without.percentile_s("ttft", 50) / 2


def tiers(results: Results) -> None:
    host, ssd, rack = results[""].tiers
    for tier in (host, ssd, rack):
        assert tier.fetched_tokens > 0
    assert host.stored_tokens > ssd.stored_tokens > rack.stored_tokens > 0
    assert host.full == pytest.approx(1, abs=0.01)
    assert rack.full < 1
    # Of each host's memory a part for each of its clients, SSDs for each host, one memory in the rack.
    parts = [(plan.tier.name, plan.parts) for plan in results[""].lowered.tiers]
    assert parts == [("host", 2), ("host", 2), ("ssd", 1), ("ssd", 1), ("rack", 1)]


def trace_replay(results: Results) -> None:
    recorded = [json.loads(line) for line in (FOLDER / "trace-replay.jsonl").read_text().splitlines()]
    rows = frame(results[""])
    assert rows["prompt_tokens"].tolist() == [each["input_length"] for each in recorded]
    assert rows["arrival_s"].tolist() == pytest.approx([each["timestamp"] / 1000 for each in recorded])
    assert results[""].pools[0].cache_hits > 0.6
    trace = scenario("trace-replay").workload.trace
    assert trace is not None
    blind = changed("trace-replay", workload={"trace": trace.model_copy(update={"prefixes": False})})
    assert blind.pools[0].cache_hits == 0
    assert results[""].percentile_s("ttft", 50) < blind.percentile_s("ttft", 50)
    assert "invented" in (FOLDER / "trace-replay.yaml").read_text()


def routers(results: Results) -> None:
    assert {result.deployment.router for result in results.values()} == set(get_args(Router))
    for name, result in results.items():
        assert result.deployment.router == name.replace("-", "_")
        assert set(frame(result)["client"]) == {0, 1, 2, 3}
    assert len({tuple(frame(result)["client"]) for result in results.values()}) == len(results)
    affine = {"session-affinity", "prefix-affinity"}
    hits = {name: result.pools[0].cache_hits for name, result in results.items()}
    ttft = {name: result.percentile_s("ttft", 50) for name, result in results.items()}
    others = hits.keys() - affine
    assert min(hits[name] for name in affine) > max(hits[name] for name in others) + 0.1
    assert max(ttft[name] for name in affine) < min(ttft[name] for name in others)


def heavy_light(results: Results) -> None:
    rows = frame(results[""])
    assert ((rows["prompt_tokens"] > 2000) == (rows["client"] == 5)).all()
    assert set(rows["client"]) == {0, 1, 2, 3, 4, 5}
    assert [use.bottleneck for use in results[""].pools] == ["memory bandwidth", "compute"]


def parallelism(results: Results) -> None:
    pools = {name: result.deployment.pools[0] for name, result in results.items()}
    assert {name: pool.accelerators for name, pool in pools.items()} == {"tp-pp": 16, "dp-ep": 8, "topology": 32}
    assert (pools["tp-pp"].tp, pools["tp-pp"].pp) == (8, 2)
    assert min(result.pools[0].link for result in results.values()) > 0.05
    levels = pools["topology"].topology
    assert levels is not None
    server = levels.levels[0].model_copy(update={"devices": 32})
    one_domain = changed("parallelism-topology", {"topology": levels.model_copy(update={"levels": (server,)})})
    assert results["topology"].pools[0].link > 2 * one_domain.pools[0].link
    assert results["topology"].percentile_s("tpot", 50) > 1.2 * one_domain.percentile_s("tpot", 50)


def attention_kinds(results: Results) -> None:
    peaks = {name: result.pools[0].kv_peak for name, result in results.items()}
    assert peaks["hybrid"] < peaks["window"] < peaks["full"]
    models = {name: result.lowered.pools[0].engine.model for name, result in results.items()}
    assert len({model.name for model in models.values()}) == 3
    memory = {name: result.lowered.memory.clients[0] for name, result in results.items()}
    assert memory["window"]["window_tokens"] == 1024
    assert memory["hybrid"]["state_blocks"] > 0
    assert memory["full"]["window_tokens"] == memory["full"]["state_blocks"] == 0


def adapters(results: Results) -> None:
    adapter = results[""].lowered.requests.adapter
    assert adapter is not None
    assert len(np.unique(adapter)) > 16
    without = changed("adapters", {"adapters": None}, {"adapters": None})
    assert results[""].percentile_s("tpot", 50) > 1.05 * without.percentile_s("tpot", 50)


def speculation(results: Results) -> None:
    tpot = {name: result.percentile_s("tpot", 50) for name, result in results.items()}
    assert tpot["draft-model"] < tpot["n-gram"] < tpot["none"] / 1.2
    assert results["none"].percentile_s("itl", 50) > 0.8 * tpot["none"]


def datastore(results: Results) -> None:
    without = changed("datastore-every-token", {"lookup": None}).percentile_s("tpot", 50)
    tpot = {name: result.percentile_s("tpot", 50) for name, result in results.items()}
    assert without < tpot["every-chunk"] < 1.1 * without
    assert tpot["every-token"] > 1.2 * without


def mixed_hardware(results: Results) -> None:
    result = results[""]
    assert {pool.accelerator for pool in result.deployment.pools} == {"mi300x", "gaudi3"}
    assert {service.device[:3] for service in result.deployment.services} == {"gra", "tpu", "epy", "xeo"}
    assert min(pool.busy for pool in result.pools) > 0.5
    assert {service.requests for service in result.services} == {1000}
    rows = frame(result)
    amd, intel = (rows.loc[rows["client"] == client, "tpot_s"] for client in (0, 1))
    assert len(amd) > 1.1 * len(intel)
    assert amd.median() < intel.median()


CHECKS: dict[str, Callable[[Results], None]] = {
    check.__name__.replace("_", "-"): check
    for check in (
        text_services,
        guards,
        rag,
        image_chat,
        audio_chat,
        model_routing,
        routing_classifier,
        cascade,
        reasoning,
        agents,
        classes,
        queue_orders,
        batching,
        scheduling_ahead,
        step_noise,
        disaggregation,
        preemption,
        shared_prefixes,
        tiers,
        trace_replay,
        routers,
        heavy_light,
        parallelism,
        attention_kinds,
        adapters,
        speculation,
        datastore,
        mixed_hardware,
    )
}


def of_check(check: str) -> Results:
    """Return the results of the examples that a check is for, by what their names add to its name."""
    found: Results = {}
    for example in EXAMPLES:
        names = [each for each in CHECKS if f"{example}-".startswith(f"{each}-")]
        assert len(names) == 1, f"{example}: checked by {names}"
        if names == [check]:
            found[example.removeprefix(check).removeprefix("-")] = result_of(example)
    return found


@pytest.mark.parametrize("check", CHECKS)
def test_it_shows_what_it_says(check: str) -> None:
    CHECKS[check](of_check(check))


# The page that lists them

#: A row of the page: the link to a file, and the command.
ROW = re.compile(r"^\| .*\]\(examples/([\w-]+)\.yaml\).*\| `dse simulate docs/examples/([\w-]+)\.yaml` \|")
#: A figure in a row of the page: a name in --json and its value.
FIGURE = re.compile(r"`(\w+)` ([\d,]*\d(?:\.\d+)?)")
ROWS = [line for line in PAGE.splitlines() if "dse simulate" in line and line.startswith("|")]


def test_the_page_lists_every_file_and_no_other() -> None:
    linked = {(ROOT / "docs" / target) for target in re.findall(r"\]\((examples/[^)#]+)\)", PAGE)}
    assert linked == set(FILES)
    rows = [found.groups() for found in map(ROW.match, ROWS) if found]
    assert len(rows) == len(ROWS)
    assert sorted(rows) == [(example, example) for example in sorted(EXAMPLES)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_command_prints_the_figures_of_its_row(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    path = f"docs/examples/{example}.yaml"
    done = CliRunner().invoke(app, ["simulate", path, "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    row = next(line for line in ROWS if path in line)
    for name, figure in FIGURE.findall(row):
        assert printed[name] == pytest.approx(float(figure.replace(",", "")), rel=0.1), name
