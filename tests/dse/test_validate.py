"""Predicted against measured: what the simulator wrote comes back as it was, and errors are what they should be."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import yaml

from dse.cli.main import main
from dse.measurements.closed_loop import closed_loop
from dse.measurements.measured_run import MeasuredRun
from dse.validation import errors as errors_module
from dse.validation.engine import with_engine
from dse.validation.errors import compare, errors, not_simulated, worst_cases
from dse.validation.page import render_validation
from dse.validation.reference import page as reference_page
from dse.validation.reference.__main__ import main as write_reference_page
from dse.validation.reference.row import Finding, Options, Row, measured_frame
from simulator import Deployment, Requests, SpecError, Workload, build_requests, simulate
from simulator.workload import PS_PER_S

from .test_report import payload, resolved

ENGINE = {"name": "plain", "source": "made up", "date": "2026-01-01", "step_us": 1000}
"""Without a way to the engine and back: the next request of a session does not wait for it."""

PLAIN: dict[str, Any] = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "batching": {"max_batch_requests": 32}}
POOL = {**PLAIN, "engine": ENGINE}
DEPLOYMENT = Deployment.parse({"pools": [POOL]})
LOAD = Workload.parse(
    {
        "requests": 200,
        "arrivals": {"process": "poisson", "rate_rps": 8},
        "lengths": {"statistics": "azure-2023-conversation"},
    }
)


def dse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["dse", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def benchmark(requests: Requests, *, deployment: Deployment = DEPLOYMENT, **settings: Any) -> dict[str, Any]:
    """Return what ``vllm bench serve --save-detailed`` would write of a simulated run."""
    result = simulate(deployment, requests)
    rows = result.lowered.memory.requests
    order = np.argsort(rows["arrival_ps"], kind="stable")
    ttft, e2e = result.ttft_s[order], result.e2e_s[order]
    gaps = [[float(after)] if after > 0 else [] for after in e2e - ttft]
    return {
        "request_rate": 8.0,
        "burstiness": 1.0,
        "max_concurrency": None,
        "completed": len(rows),
        "total_input_tokens": int(rows["prompt_tokens"].sum()),
        "total_output_tokens": int(rows["output_tokens"].sum()),
        "mean_ttft_ms": 1e3 * float(ttft.mean()),
        "request_throughput": len(rows) / result.span_s,
        "output_throughput": result.output_tokens / result.span_s,
        "input_lens": rows["prompt_tokens"][order].tolist(),
        "output_lens": rows["output_tokens"][order].tolist(),
        "ttfts": ttft.tolist(),
        "itls": gaps,
        "start_times": (77.0 + rows["arrival_ps"][order] / PS_PER_S).tolist(),
        "errors": [""] * len(rows),
        **settings,
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder with a deployment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump({"pools": [POOL]}))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_what_was_simulated_comes_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("open.json").write_text(json.dumps(benchmark(build_requests(LOAD))))
    loop = benchmark(closed_loop(6, 700, 90, shortest_share=0.5), request_rate="inf", max_concurrency=6)
    Path("closed.json").write_text(json.dumps(loop))
    assert dse(monkeypatch, "validate", "open.json", "closed.json", "--out", "out", "--json", "-j", "1") == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["runs"]) == 2 * 14
    assert all(abs(row["error_percent"]) < 1e-4 for row in content["runs"])
    assert content["not_simulated"] == {}
    table = pd.read_csv("out/validation.csv")
    assert list(table.columns[:5]) == ["run", "accelerator", "model", "tp", "engine"]
    assert table["measured"].to_numpy() == pytest.approx(table["predicted"].to_numpy())
    assert set(table["run"]) == {"open", "closed"}
    assert sorted(path.name for path in Path("out").iterdir()) == ["validation.csv", "validation.html"]


@pytest.mark.usefixtures("folder")
def test_printed_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    slower = benchmark(build_requests(LOAD))
    slower["ttfts"] = [2 * ttft for ttft in slower["ttfts"]]
    Path("slow.json").write_text(json.dumps(slower))
    Path("more.csv").write_text(
        "name,model,accelerator,tp,prompt_tokens,output_tokens,rate_rps,requests,ttft_mean_ms\n"
        "huge,llama-3.1-70b,l40s,1,100,100,1,10,50\nsmall,llama-3.1-8b,l40s,1,100,100,1,10,50\n"
    )
    Path("deployment.yaml").rename("served.yaml")
    assert dse(monkeypatch, "validate", "more.csv", "-j", "1") == 0
    printed = capsys.readouterr().out
    assert "1 run simulated" in printed
    assert "not simulated: huge: " in printed
    assert dse(monkeypatch, "validate", "slow.json", "-d", "served.yaml", "--by", "model", "-j", "1") == 0
    printed = capsys.readouterr().out
    assert re.search(r"TTFT mean +1 +50\.0 +50\.0 +-50\.0 +50\.0 +-50\.0", printed)
    assert "farthest off" in printed
    Path("only.csv").write_text(Path("more.csv").read_text().rsplit("small", 1)[0])
    assert dse(monkeypatch, "validate", "only.csv", "-j", "1", "--out", "out") == 3
    assert "No run could be simulated" in Path("out/validation.html").read_text()


@pytest.mark.usefixtures("folder")
def test_engine_of_all_pools(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.json").write_text(json.dumps(benchmark(build_requests(LOAD))))
    Path("slow.yaml").write_text(yaml.safe_dump({**ENGINE, "step_us": 50_000}))
    assert dse(monkeypatch, "validate", "run.json", "--engine", "slow.yaml", "--json", "-j", "1") == 0
    rows = json.loads(capsys.readouterr().out)["errors"]
    assert next(row for row in rows if row["metric"] == "tpot_mean_s")["bias"] > 100


def test_settings_that_are_not_said_stay_the_engines() -> None:
    deployment = Deployment.parse({"pools": [PLAIN]})
    run = MeasuredRun("a", {"engine": "vllm-0.15"}, deployment, build_requests(LOAD), {"ttft_mean_s": 0.1})
    (changed,) = with_engine([run], "vllm-0.15")
    assert changed.deployment.pools[0].batching.model_fields_set == {"max_batch_requests"}
    pair = compare([run, changed])
    assert pair["predicted"].iloc[0] == pair["predicted"].iloc[1]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.json"], "absent.json"),
        (["run.json", "--by", "modell"], "--by: no 'modell'; did you mean model"),
        (["run.json", "--jobs", "0"], "--jobs: must be at least 1"),
        (["run.json", "--format", "genai"], "format: no 'genai'"),
        (["run.json", "--engine", "vlm-0.15"], "vlm-0.15"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("run.json").write_text(json.dumps(benchmark(closed_loop(2, 10, 5), request_rate="inf", max_concurrency=2)))
    code = dse(monkeypatch, "validate", *arguments)
    captured = capsys.readouterr()
    assert said in captured.err + captured.out
    assert code in (2, 3)
    assert "Traceback" not in captured.err


# ----------------------------------------------------------------------------------------------------------------------
# Errors


def run(name: str, figures: dict[str, float], requests: Requests, **options: Any) -> MeasuredRun:
    return MeasuredRun(name, {"model": options.pop("model", "m")}, DEPLOYMENT, requests, figures, **options)


def test_rate_steps_of_a_run_are_simulated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = build_requests(LOAD)
    simulated: list[Requests] = []

    def counted(deployment: Deployment, load: Requests) -> Any:
        simulated.append(load)
        return simulate(deployment, load)

    monkeypatch.setattr(errors_module, "simulate", counted)
    again = build_requests(LOAD)
    steps = [
        run("first", {"ttft_mean_s": 0.1}, requests, end_s=10.0),
        run("second", {"ttft_mean_s": 0.1, "e2e_p50_s": 1.0}, again, begin_s=10.0),
    ]
    frame = compare(steps)
    assert len(simulated) == 1
    assert frame["run"].tolist() == ["first", "second", "second"]
    assert frame["predicted"].nunique() == 3
    pd.testing.assert_frame_equal(frame, compare(steps, jobs=2))


def test_errors_by_group() -> None:
    frame = pd.DataFrame(
        {
            "run": ["a", "b", "c", "d"],
            "model": ["x", "x", "y", "y"],
            "metric": "e2e_mean_s",
            "measured": [1.0, 1.0, 1.0, 1.0],
            "predicted": [1.1, 0.8, 1.3, float("nan")],
            "error_percent": [10.0, -20.0, 30.0, float("nan")],
            "problem": ["", "", "", "too large"],
        }
    )
    (row,) = errors(frame).to_dict("records")
    assert (row["count"], row["median_ape"], row["mape"], row["bias"]) == (3, 20.0, 20.0, 10.0)
    assert (row["worst"], row["worst_percent"]) == ("c", 30.0)
    assert row["p90_ape"] == pytest.approx(28.0)
    by = errors(frame, ["model"]).set_index("model")
    assert by.loc["x", "median_ape"] == 15.0
    assert by.loc["y", "count"] == 1
    assert worst_cases(frame, 2)["run"].tolist() == ["c", "b"]
    assert not_simulated(frame) == {"d": "too large"}
    with pytest.raises(SpecError, match="by: no label 'gpu'; known: model"):
        errors(frame, ["gpu"])
    page = render_validation(frame, ["model"], ["<file>"])
    assert "&lt;file&gt;" in page
    assert "too large" in page
    assert page == render_validation(frame, ["model"], ["<file>"])
    data = payload(page)
    for figure in data["figures"].values():
        drawn = go.Figure(resolved(figure, data["shared"]))
        assert {trace.name for trace in drawn.data} == {"predicted as measured", "± 10 %", "± 20 %", "x", "y"}


def test_rejected_requests_are_told() -> None:
    pool = {**POOL, "kv_memory": {"blocks": 4}}
    requests = Requests(np.zeros(1, np.int64), np.full(1, 5000, np.int32), np.full(1, 10, np.int32))
    frame = compare([MeasuredRun("a", {}, Deployment.parse({"pools": [pool]}), requests, {"ttft_mean_s": 1.0})])
    assert "rejected" in not_simulated(frame)["a"]


def test_nothing_to_compare() -> None:
    with pytest.raises(SpecError, match="none was measured"):
        compare([])


# ----------------------------------------------------------------------------------------------------------------------
# The page of the reference data


def made_up(_: Path, options: Options) -> list[Finding]:
    assert options.jobs is None
    seen, unseen = measured_frame(["a", "b"], [1.0, 2.0], [1.05, 2.0]), measured_frame(["c"], [1.0], [1.5])
    return [
        Finding("calibration", "made-up | data", "two figures", seen),
        Finding(
            "validation",
            "made-up data",
            "one figure",
            unseen,
            {"seconds_s": 10.0},
            "It is.",
        ),
    ]


def test_reference_page(tmp_path: Path) -> None:
    rows = [Row("one", (), made_up), Row("two", ("absent.csv",), made_up)]
    findings, absent = reference_page.study(tmp_path, rows, Options())
    assert [finding.kept for finding in findings] == [True, False]
    text = reference_page.render(findings, absent)
    assert text.index("## Not seen by the fit") < text.index("## Seen by the fit")
    assert "| made-up / data | two figures | none | time **2.5 %** (p90 5, bias +3, 2 figures) |" in text
    assert "time ≤ 10 % | time **50.0 %** ✗" in text
    assert "- c: time +50 %" in text
    assert "- two: `absent.csv` is not in the folder" in text


def test_reference_page_of_the_stages(reference: Path, tmp_path: Path) -> None:
    target = tmp_path / "fidelity.md"
    assert write_reference_page([str(reference), "-o", str(target), "--only", "kv-transfers,retrieval", "-j", "1"]) == 0
    assert target.read_text().count("✓") == 2


def test_reference_page_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(tmp_path / "fidelity.md")
    assert write_reference_page([str(tmp_path / "absent"), "-o", target]) == 2
    assert write_reference_page([str(tmp_path), "-o", target, "--only", "vlm"]) == 2
    assert "vlm" in capsys.readouterr().err
    assert not Path(target).exists()
