"""Comparisons: what is written wrongly is told, what is run comes out the same, and shipped findings hold."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from dse.capacity import capacity_of
from dse.changes import with_changes
from dse.cli.main import main
from dse.comparison import Comparison, comparison_names, load_comparison, run_comparison, verdicts
from dse.comparison.figures import Figures, check_figure
from dse.comparison.spec import Variation
from simulator import SLO, Deployment, SpecError, Workload, simulate
from tests.simulator.engines import REQUEST_S

BATCH = "deployment.pools.0.batching.max_batch_requests"
TINY: dict[str, Any] = {
    "name": "tiny",
    "published": "Nowhere et al., figure 0",
    "deployment": {"pools": [{"model": "llama-3.1-8b", "accelerator": "h100-sxm"}]},
    "workload": {
        "requests": 200,
        "arrivals": {"process": "poisson", "rate_rps": 10},
        "lengths": {"statistics": "azure-2023-conversation"},
    },
    "cases": [{"name": "small", "set": {BATCH: 4}}, {"name": "large", "set": {BATCH: 256}}],
    "figures": ["ttft_p90_s", "usd_per_hour"],
    "expect": [
        {
            "claim": "a small batch makes requests wait",
            "left": {"case": "small", "figure": "ttft_mean_s"},
            "relation": ">",
            "right": {"case": "large", "figure": "ttft_mean_s", "times": 2},
        }
    ],
}
RAG: dict[str, Any] = {
    "deployment": {
        "pools": [{"model": "llama-3.1-8b", "accelerator": "h100-sxm", "prefix_cache": {}}],
        "services": [
            {"stage": "embed", "device": "l4", "hop_us": 2000},
            {"stage": "retrieve", "device": "xeon-gold-6448y"},
            {"stage": "detokenise", "device": "xeon-gold-6448y"},
        ],
        "tiers": [{"name": "host", "clients": 1, "memory_gb": 100, "gb_per_s": 50}],
    },
    "workload": {
        "requests": 100,
        "arrivals": {"process": "poisson", "rate_rps": 2},
        "lengths": {"statistics": "azure-2023-conversation"},
        "prefix": {"tokens": 500},
        "pipeline": [{"kind": "embed"}, {"kind": "retrieve"}, "prefill", "decode", {"kind": "detokenise"}],
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the tiny comparison with one value, at keys and places with dots between, replaced."""
    data = deepcopy(TINY)
    *way, last = (int(part) if part.isdigit() else part for part in path.split("/"))
    here: Any = data
    for part in way:
        here = here[part]
    here[last] = value
    return data


def dse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["dse", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("cases/0/set", {"pools.0.tp": 2}, ["'pools.0.tp'", "allowed: deployment, workload or slos"]),
        ("cases/0/set", {"deployment..tp": 2}, ["'deployment..tp'"]),
        ("cases/0/set", {"deployment.pools.1.tp": 2}, ["deployment.pools.1.tp", "no place '1'", "0 to 0"]),
        ("cases/0/set", {"deployment.pools.0.tp.x": 2}, []),
        ("cases/0/set", {"deployment.pools.0.model.x": 2}, ["case small", "'x'", "llama-3.1-8b"]),
        ("cases/0/set", {"deployment.pools.0.clints": 2}, ["case small", "pools.0.clints", "unknown key", "clients"]),
        ("cases/0/set", {"deployment.pools.0.clients": "two"}, ["case small", "pools.0.clients", "'two'"]),
        ("cases/0/set", {"workload.arrivals.rate_rps": -1}, ["case small", "rate_rps", "-1"]),
        ("cases/0/name", "large", ["cases", "names must differ", "large"]),
        ("cases", [], ["cases"]),
        ("cases/0", {"nme": "small"}, ["cases.0.a case.nme", "unknown key", "allowed here: grid, name, set"]),
        ("cases/0", 3, ["cases.0", "given 3"]),
        ("cases", {"grid": {}}, ["grid"]),
        ("cases", {"grid": {"tp": {}}}, ["grid"]),
        ("figures", ["speed"], ["figures", "'speed'", "allowed", "usd_per_hour", "llm_share_of_ttft"]),
        ("figures", ["ttft_p0_s"], ["figures", "'ttft_p0_s'", "ttft_p90_s"]),
        ("figures", ["embed_queue_p90_s"], ["figures", "'embed_queue_p90_s'", "llm_queue_p90_s"]),
        ("figures", ["itl_mean_s"], ["figures", "'itl_mean_s'"]),
        ("figures", ["ttft_p90_s", "ttft_p90_s"], ["figures", "must differ"]),
        ("expect/0/left/case", "smal", ["expect.0.left.case", "'smal'", "did you mean small"]),
        ("expect/0/right/figure", "host_fetched", ["expect.0.right.figure", "'host_fetched'", "allowed"]),
        ("expect/0/relation", "=", ["expect.0.relation", "'='", "'<='"]),
        ("expect/0/right", {"value": 1, "case": "small"}, ["expect.0.right", "either case and figure, or value"]),
        ("expect/0/right", {"case": "small"}, ["expect.0.right", "either case and figure, or value"]),
        ("expcet", [], ["expcet", "unknown key", "expect"]),
        ("name", "Tiny!", ["name", "'Tiny!'"]),
    ],
)
def test_what_is_wrong_is_told(path: str, value: Any, words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        Comparison.parse(changed(path, value), source="tiny.yaml")
    message = str(error.value)
    assert message.startswith("tiny.yaml: ")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_paths_reach_every_place_and_leave_the_base_alone() -> None:
    base = {"deployment": {"pools": [{"tp": 1}, {"tp": 2, "kv": "fp8"}]}, "workload": {}}
    before = deepcopy(base)
    changes = {
        "deployment.pools[*].clients": 3,
        "deployment.pools.1.kv": None,
        "deployment.pools[0].batching.policy": "static",
        "workload.prefix.tokens": 7,
    }
    pools = [{"tp": 1, "clients": 3, "batching": {"policy": "static"}}, {"tp": 2, "clients": 3}]
    assert with_changes(base, changes) == {"deployment": {"pools": pools}, "workload": {"prefix": {"tokens": 7}}}
    assert base == before


@pytest.mark.parametrize(
    ("path", "left"), [("deployment.pools.1", [1, 3]), ("deployment.pools[0]", [2, 3]), ("deployment.pools.*", [])]
)
def test_a_place_of_a_list_can_be_taken_away(path: str, left: list[int]) -> None:
    base = {"deployment": {"pools": [{"tp": 1}, {"tp": 2}, {"tp": 3}]}}
    assert with_changes(base, {path: None}) == {"deployment": {"pools": [{"tp": tp} for tp in left]}}


def test_grids_are_products_beside_lone_cases() -> None:
    axes = {
        "batch": {"small": {BATCH: 4}, "large": {}},
        "weights": {"bf16": {}, "fp8": {"deployment.pools.0.weights": "fp8"}},
    }
    cases = [{"grid": axes, "set": {"workload.requests": 50, BATCH: 8}}, {"name": "lone"}]
    spec = Comparison.parse({**TINY, "cases": cases, "expect": []})
    assert [each.name for each in spec.variations] == ["small/bf16", "small/fp8", "large/bf16", "large/fp8", "lone"]
    assert [each.deployment.pools[0].batching.max_batch_requests for each in spec.variations] == [4, 4, 8, 8, 256]
    assert [each.workload.requests for each in spec.variations] == [50, 50, 50, 50, 200]
    assert spec.variations[1].deployment.pools[0].weights == "fp8"
    table = run_comparison(spec, jobs=1)
    assert list(table.columns) == ["batch", "weights", *spec.figures, "bottleneck"]
    assert table.loc["large/fp8", "weights"] == "fp8"
    assert table.loc["lone", "weights"] == ""


def test_processes_change_nothing_and_figures_are_those_of_the_simulation() -> None:
    spec = Comparison.parse(TINY)
    done: list[str] = []
    table = run_comparison(spec, jobs=1)
    pd.testing.assert_frame_equal(table, run_comparison(spec, jobs=2, listener=done.append))
    assert done == list(table.index) == ["small", "large"]
    for each in spec.variations:
        result = simulate(each.deployment, each.workload)
        assert table.loc[each.name, "ttft_p90_s"] == result.summary()["ttft_p90_s"]
        assert table.loc[each.name, "ttft_mean_s"] == result.ttft_s.mean()
    (verdict,) = verdicts(spec, table)
    assert verdict.holds
    assert not verdict.failed
    assert verdict.right == 2 * table.loc["large", "ttft_mean_s"]


def test_the_sustained_rate_is_that_of_capacity_within_the_slos_of_the_case() -> None:
    slos = [{"metric": "ttft", "percentile": 90, "limit_s": 0.5}]
    strict = {"name": "strict", "set": {"slos.0.limit_s": 0.08}}
    cases = [{"name": "lax"}, strict, {"name": "none", "set": {"slos": None}}]
    asked = {**TINY, "slos": slos, "figures": ["sustained_rps"], "expect": []}
    found = run_comparison(Comparison.parse({**asked, "cases": cases}), jobs=1)["sustained_rps"]
    deployment, workload = Deployment.parse(TINY["deployment"]), Workload.parse(TINY["workload"])
    for name, limits_s in (("lax", [0.5]), ("strict", [0.08]), ("none", [])):
        promises = [SLO(metric="ttft", percentile=90, limit_s=limit_s) for limit_s in limits_s]
        assert found[name] == capacity_of(deployment, workload, promises).rate_rps
    assert found["strict"] < found["lax"] < found["none"]
    strict["set"] = {"slos.0.limit_s": -1}
    with pytest.raises(SpecError, match=r"case strict: slos\.0\.limit_s"):
        Comparison.parse({**asked, "cases": [strict]})


def test_an_impossible_case_is_named() -> None:
    spec = Comparison.parse(changed("cases/0/set", {"deployment.pools.0.model": "llama-3.1-405b"}))
    for jobs in (1, 2):
        with pytest.raises(SpecError, match=r"case small: .*405b"):
            run_comparison(spec, jobs=jobs)


def test_every_figure_of_a_summary_can_be_asked_for() -> None:
    deployment, workload = Deployment.parse(RAG["deployment"]), Workload.parse(RAG["workload"])
    case = Variation("rag", {}, deployment, workload)
    result = simulate(deployment, workload)
    figures = Figures(result, case)
    for name, value in result.summary().items():
        check_figure(name, [case], "figures")
        assert figures[name] == value
    with pytest.raises(SpecError) as error:
        check_figure("nothing", [case], "figures")
    allowed = str(error.value).split("allowed: ")[1].split("; ")[0].split(", ")
    assert all(np.isfinite(figures[name]) for name in allowed)
    assert np.isnan(figures["rack_full"])


def test_shares_of_the_first_token_are_whole_and_hops_are_where_they_were_put() -> None:
    deployment, workload = Deployment.parse(RAG["deployment"]), Workload.parse(RAG["workload"])
    result = simulate(deployment, workload)
    figures = Figures(result, Variation("rag", {}, deployment, workload))
    shares = [figures[f"{name}_share_of_ttft"] for name in ("embed", "retrieve", "llm", "frontend", "hops")]
    assert sum(shares) == pytest.approx(1, abs=1e-9)
    assert figures["detokenise_share_of_ttft"] == 0
    hops_s = 2e-3 + 50e-6
    assert figures["hops_share_of_ttft"] == pytest.approx(hops_s / result.ttft_s.mean(), rel=1e-6)
    assert figures["frontend_share_of_ttft"] == pytest.approx(REQUEST_S / result.ttft_s.mean())
    table = result.requests()
    assert figures["embed_service_mean_s"] == pytest.approx(table["embed_service_s"].mean())

    alone = Workload.parse({**TINY["workload"]})
    system = Deployment.parse(TINY["deployment"])
    figures = Figures(simulate(system, alone), Variation("alone", {}, system, alone))
    assert figures["llm_share_of_ttft"] + figures["frontend_share_of_ttft"] == pytest.approx(1)
    assert figures["hops_share_of_ttft"] == pytest.approx(0, abs=1e-12)
    there_s = figures["llm_queue_mean_s"] + figures["llm_service_mean_s"]
    assert there_s + REQUEST_S == pytest.approx(figures["e2e_mean_s"])


@pytest.mark.parametrize(
    ("relation", "differs", "code", "words"),
    [
        (">", None, 0, "holds:"),
        ("<", None, 3, "does not hold:"),
        ("<", "it is the other way round", 0, "does not hold, as known:"),
        (">", "it is the other way round", 3, "holds, though marked as differing:"),
    ],
)
def test_exit_code_says_whether_claims_come_out(
    relation: str,
    differs: str | None,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = changed("expect/0/relation", relation)
    if differs:
        data["expect"][0]["differs"] = differs
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(data))
    assert dse(monkeypatch, "compare", "tiny.yaml", "--jobs", "1", "--out", "out.json") == code
    captured = capsys.readouterr()
    assert f"\n{words} a small batch makes requests wait" in captured.out
    assert "Nowhere et al." in captured.out
    assert "tiny: 2/2 simulated" in captured.err
    written = json.loads(Path("out.json").read_text())
    assert [row["case"] for row in written["cases"]] == ["small", "large"]
    assert written["claims"][0]["holds"] == (relation == ">")


def test_brackets_in_names_are_no_markup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [{**case, "name": name} for case, name in zip(TINY["cases"], ("kv [fp8]", "kv [/bf16] :x:"), strict=True)]
    data = {**TINY, "cases": cases, "expect": []}
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(data))
    assert dse(monkeypatch, "compare", "tiny.yaml", "--jobs", "1") == 0
    captured = capsys.readouterr()
    assert "\nkv [fp8] " in captured.out
    assert "\nkv [/bf16] :x: " in captured.out
    assert "tiny: 2/2 simulated, last kv [/bf16] :x:" in captured.err


def test_what_is_written_is_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    assert dse(monkeypatch, "compare", "tiny.yaml", "-j", "1", "-o", "out.csv", "--markdown") == 0
    printed = capsys.readouterr().out
    assert "| case | ttft_p90_s | usd_per_hour |" in printed
    assert "| a small batch makes requests wait | holds |" in printed
    written = pd.read_csv("out.csv", index_col="case")
    pd.testing.assert_frame_equal(written, run_comparison(Comparison.parse(TINY), jobs=1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["kv-teirs"], ["'kv-teirs'", "kv-tiers"]),
        (["missing.yaml"], ["missing.yaml", "No such file"]),
        (["tiny.yaml", "--jobs", "0"], ["--jobs", "0"]),
        (["tiny.yaml", "--out", "table.xlsx"], ["--out", ".csv", "table.xlsx"]),
        (["tiny.yaml", "--out", "nowhere/table.csv"], ["nowhere/table.csv", "no folder"]),
        (["bad.yaml"], ["bad.yaml", "case small", "unknown key"]),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    Path("bad.yaml").write_text(yaml.safe_dump(changed("cases/0/set", {"workload.rate": 2})))
    assert dse(monkeypatch, "compare", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_control_c_ends_quietly(tmp_path: Path) -> None:
    cases = [{"name": f"case-{number}", "set": {"workload.seed": number}} for number in range(300)]
    (tmp_path / "long.yaml").write_text(yaml.safe_dump({**TINY, "cases": cases, "expect": []}))
    command = [sys.executable, "-m", "dse", "compare", "long.yaml", "--jobs", "2", "--out", "out.csv"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes)
    assert process.stderr
    first = process.stderr.readline()  # a tenth of the cases is done
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    printed, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, first + complaint
    assert "Traceback" not in complaint
    assert printed == ""
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", comparison_names())
def test_shipped_finding(name: str) -> None:
    """All claims come out as the file expects, and the page says of each the same as the command."""
    spec = load_comparison(name)
    assert spec.published
    assert spec.expect
    found = verdicts(spec, run_comparison(spec))
    assert [verdict.claim.claim for verdict in found if verdict.failed] == []
    pages = (Path(__file__).parents[2] / "studies").rglob("*.md")
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    marks = rf"<!-- (?:prints: )?dse compare {name} --markdown -->(.*?)<!-- end of (?:print|{name}) -->"
    tables = re.search(marks, text, re.DOTALL)
    assert tables
    for verdict in found:
        assert f"| {verdict.claim.claim} | {verdict.words} |" in tables[1]
    for case in spec.variations:
        assert f"| {case.name} | " in tables[1]
