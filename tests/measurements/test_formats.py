"""Readers of what benchmark tools write: small files in each form that a version of a tool has."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dse.measurements.closed_loop import chains_of, closed_loop
from dse.measurements.formats import read_all, read_runs
from dse.measurements.measured_run import MeasuredRun
from simulator import Deployment, SpecError, simulate
from simulator.workload import PS_PER_S
from tests.simulator.engines import REQUEST_PS

POOL = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "tp": 2}
DEPLOYMENT = Deployment.parse({"pools": [POOL]})

VLLM: dict[str, Any] = {
    "date": "20260101-120000",
    "backend": "vllm",
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "num_prompts": 4,
    "request_rate": 2.0,
    "burstiness": 1.0,
    "max_concurrency": None,
    "duration": 3.0,
    "completed": 4,
    "total_input_tokens": 1000,
    "total_output_tokens": 200,
    "request_throughput": 1.33,
    "output_throughput": 66.7,
    "mean_ttft_ms": 30.0,
    "median_ttft_ms": 29.0,
    "p99_ttft_ms": 41.0,
    "mean_tpot_ms": 8.0,
    "median_tpot_ms": 8.1,
    "p99_tpot_ms": 9.0,
    "mean_itl_ms": 8.0,
}
DETAILS: dict[str, Any] = {
    "input_lens": [100, 200, 300, 400],
    "output_lens": [3, 1, 2, 0],
    "ttfts": [0.02, 0.03, 0.04, 0.0],
    "itls": [[0.01, 0.01], [], [0.02], []],
    "start_times": [1000.5, 1000.0, 1002.0, 1002.5],
    "generated_texts": ["a b c", "a", "a b", ""],
    "errors": ["", "", "", "Server disconnected"],
}


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def only(path: Path, **options: Any) -> MeasuredRun:
    (run,) = read_runs(path, options.pop("deployment", DEPLOYMENT), **options)
    return run


# ----------------------------------------------------------------------------------------------------------------------
# vLLM


def test_vllm_summary(tmp_path: Path) -> None:
    run = only(written(tmp_path, "run.json", VLLM))
    assert run.name == "run"
    assert run.labels["accelerator"] == "h100-sxm"
    assert run.labels["tp"] == "2"
    assert run.labels["load"] == "2/s"
    assert run.labels["served"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert run.figures["ttft_mean_s"] == pytest.approx(0.030)
    assert run.figures["ttft_p50_s"] == pytest.approx(0.029)
    assert run.figures["tpot_p99_s"] == pytest.approx(0.009)
    assert run.figures["output_tokens_per_s"] == pytest.approx(66.7)
    assert not any("itl" in name for name in run.figures)
    assert run.requests.prompt_tokens.tolist() == [250] * 4
    assert run.requests.output_tokens.tolist() == [50] * 4
    assert run.requests.rate_rps == pytest.approx(2.0)
    assert any("mean lengths" in note for note in run.notes)


def test_vllm_burstiness_is_the_shape_of_the_gaps(tmp_path: Path) -> None:
    lots = {**VLLM, "completed": 4000, "total_input_tokens": 4000, "total_output_tokens": 4000, "burstiness": 0.25}
    gaps = np.diff(only(written(tmp_path, "run.json", lots)).requests.arrival_ps) / PS_PER_S
    assert gaps.mean() == pytest.approx(0.5)
    assert gaps.std() / gaps.mean() == pytest.approx(2.0, rel=0.1)


def test_vllm_details_are_replayed(tmp_path: Path) -> None:
    run = only(written(tmp_path, "run.json", {**VLLM, **DETAILS}))
    assert run.requests.arrival_ps.tolist() == [0, PS_PER_S // 2, 2 * PS_PER_S]
    assert run.requests.prompt_tokens.tolist() == [200, 100, 300]
    assert run.requests.output_tokens.tolist() == [1, 3, 2]
    assert run.figures["ttft_mean_s"] == pytest.approx(0.03)
    assert run.figures["e2e_mean_s"] == pytest.approx((0.04 + 0.03 + 0.06) / 3)
    assert run.figures["tpot_mean_s"] == pytest.approx((0.01 + 0.02) / 2)
    assert any("1 of 4 requests failed" in note for note in run.notes)


def test_vllm_details_without_times_of_sending(tmp_path: Path) -> None:
    """Versions before ``start_times``."""
    details = {name: values for name, values in DETAILS.items() if name != "start_times"}
    run = only(written(tmp_path, "run.json", {**VLLM, **details}))
    assert run.requests.prompt_tokens.tolist() == [100, 200, 300]
    assert run.requests.arrival_ps[1] > 0
    assert any("times of arrival are drawn" in note for note in run.notes)


@pytest.mark.parametrize("rate", ["inf", inf])
def test_vllm_closed_loop(rate: object, tmp_path: Path) -> None:
    run = only(written(tmp_path, "run.json", {**VLLM, "request_rate": rate, "max_concurrency": 2}))
    assert run.requests.session_count == 2
    assert run.labels["load"] == "2 users"


@pytest.mark.parametrize(("users", "sessions"), [(64, 4), (1, 1)])
def test_vllm_users_that_hold_requests_back(users: int, sessions: int, tmp_path: Path) -> None:
    """With a rate and ``max_concurrency``, what binds follows from Little's law: 20/s of 0.42 s are 8.4 under way."""
    run = only(written(tmp_path, "run.json", {**VLLM, "request_rate": 20.0, "max_concurrency": users}))
    assert run.requests.session_count == sessions


def test_vllm_all_at_once(tmp_path: Path) -> None:
    run = only(written(tmp_path, "run.json", {**VLLM, "request_rate": "inf"}))
    assert run.requests.duration_s == 0
    assert run.labels["load"] == "all at once"


def test_several_results_one_a_line(tmp_path: Path) -> None:
    """``--append-result``, and SGLang's names of the end-to-end latency."""
    sglang = {name: value for name, value in VLLM.items() if "tpot" not in name}
    lines = [VLLM, {**sglang, "request_rate": 4.0, "mean_e2e_latency_ms": 400.0, "median_e2e_latency_ms": 390.0}]
    # Tools that write text as it is leave separators of lines within it.
    lines[0] = {**lines[0], "label": "one\u2028label"}
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    runs = read_runs(written(tmp_path, "runs.jsonl", text), DEPLOYMENT)
    assert [run.name for run in runs] == ["runs 1", "runs 2"]
    assert runs[1].figures["e2e_p50_s"] == pytest.approx(0.39)


# ----------------------------------------------------------------------------------------------------------------------
# AIPerf and GenAI-Perf

AIPERF: dict[str, Any] = {
    "schema_version": "1.0",
    "input_config": {"endpoint": {"streaming": True}, "loadgen": {"concurrency": 3, "request_count": 30}},
    "request_count": {"unit": "requests", "avg": 30.0},
    "request_throughput": {"unit": "requests/sec", "avg": 2.9},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 290.0},
    "time_to_first_token": {"unit": "ms", "avg": 31.0, "p50": 30.0, "p90": 35.0, "p95": 36.0, "p99": 40.0},
    "inter_token_latency": {"unit": "ms", "avg": 9.0, "p50": 9.0, "p99": 9.5},
    "request_latency": {"unit": "ms", "avg": 1031.0, "p50": 1030.0, "p99": 1100.0, "count": 30},
    "input_sequence_length": {"unit": "tokens", "avg": 550.2, "p50": 550.0},
    "output_sequence_length": {"unit": "tokens", "avg": 100.0, "p50": 100.0},
}


def test_aiperf_summary(tmp_path: Path) -> None:
    run = only(written(tmp_path, "profile_export_aiperf.json", AIPERF))
    assert run.name == tmp_path.name
    assert len(run.requests) == 30
    assert run.requests.session_count == 3
    assert run.requests.prompt_tokens[0] == 550
    assert run.figures["ttft_p95_s"] == pytest.approx(0.036)
    assert run.figures["tpot_mean_s"] == pytest.approx(0.009)
    assert run.figures["e2e_p99_s"] == pytest.approx(1.1)
    assert run.figures["requests_per_s"] == pytest.approx(2.9)


@pytest.mark.parametrize(
    ("config", "users", "cv"),
    [
        ({"loadgen": {"request_rate": 5.0}}, None, 1.0),
        ({"loadgen": {"request_rate": 5.0, "request_rate_mode": "constant"}}, None, 0.0),
        ({"loadgen": {"request_rate": 5.0, "arrival_pattern": "gamma", "arrival_smoothness": 4.0}}, None, 0.5),
        (
            {
                "phases": [
                    {"name": "warmup", "type": "concurrency", "concurrency": 9},
                    {"name": "profiling", "type": "poisson", "rate": 5.0},
                ]
            },
            None,
            1.0,
        ),
        ({"phases": [{"name": "profiling", "type": "concurrency", "concurrency": 7}]}, 7, None),
        ({"perf_analyzer": {"stimulus": {"concurrency": 6}}}, 6, None),
        ({"perf_analyzer": {"stimulus": {"request_rate": 5.0}}}, None, 0.0),
        ({"concurrency": 4, "request_rate": None}, 4, None),
    ],
)
def test_aiperf_and_genai_perf_say_the_load_in_several_forms(
    config: dict[str, Any], users: int | None, cv: float | None, tmp_path: Path
) -> None:
    content = {**AIPERF, "input_config": config, "request_count": {"unit": "requests", "avg": 2000.0}}
    run = only(written(tmp_path, "profile_export_genai_perf.json", content))
    if users is not None:
        assert run.requests.session_count == users
    else:
        gaps = np.diff(run.requests.arrival_ps) / PS_PER_S
        assert gaps.mean() == pytest.approx(0.2)
        assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.1)


GENAI_PERF_CSV = """Metric,avg,min,max,p99,p95,p90,p75,p50,p25
Time To First Token (ms),31.00,20.00,50.00,40.00,36.00,35.00,33.00,30.00,28.00
Inter Token Latency (ms),9.00,8.00,10.00,9.50,9.40,9.30,9.10,9.00,8.90
Request Latency (ms),"1,031.00",900.00,"1,200.00","1,100.00","1,090.00","1,080.00","1,050.00","1,030.00","1,010.00"
Output Sequence Length,100.00,99.00,101.00,101.00,101.00,101.00,100.00,100.00,99.00
Input Sequence Length,550.20,550.00,551.00,551.00,551.00,551.00,550.00,550.00,550.00

Metric,Value
Output Token Throughput (tokens/sec),290.00
Request Throughput (per sec),2.90
Request Count (count),30.00
"""


def test_genai_perf_csv_takes_the_load_of_the_json_beside_it(tmp_path: Path) -> None:
    table = written(tmp_path, "profile_export_genai_perf.csv", GENAI_PERF_CSV)
    with pytest.raises(SpecError, match="neither concurrency nor request rate"):
        read_runs(table, DEPLOYMENT)
    assert only(table, concurrency=5).requests.session_count == 5
    written(tmp_path, "profile_export_genai_perf.json", AIPERF)
    run = only(table)
    assert run.requests.session_count == 3
    assert len(run.requests) == 30
    assert run.figures["e2e_mean_s"] == pytest.approx(1.031)
    assert run.figures["output_tokens_per_s"] == 290


def record(start_s: float, *, error: object = None, phase: str = "profiling") -> dict[str, Any]:
    metadata = {"request_start_ns": 1_759_813_207_000_000_000 + round(start_s * 1e9), "benchmark_phase": phase}
    metrics = {
        "input_sequence_length": {"value": 550, "unit": "tokens"},
        "output_sequence_length": {"value": 11, "unit": "tokens"},
        "time_to_first_token": {"value": 50.0, "unit": "ms"},
        "request_latency": {"value": 0.25, "unit": "sec"},
        "inter_chunk_latency": {"value": [20.0] * 10, "unit": "ms"},
    }
    return {"metadata": metadata, "metrics": {} if error else metrics, "error": error}


def test_aiperf_records(tmp_path: Path) -> None:
    failed = record(2.0, error={"code": 499, "type": "RequestCancellationError"})
    lines = [record(0.0, phase="warmup"), record(1.5), record(1.0), failed]
    run = only(written(tmp_path, "profile_export.jsonl", "\n".join(map(json.dumps, lines))))
    assert run.requests.arrival_ps.tolist() == [0, PS_PER_S // 2]
    assert run.figures["ttft_mean_s"] == pytest.approx(0.05)
    assert run.figures["tpot_mean_s"] == pytest.approx(0.02)
    assert any("1 of 3 requests failed" in note for note in run.notes)


def test_aiperf_records_of_users(tmp_path: Path) -> None:
    written(tmp_path, "profile_export_aiperf.json", {**AIPERF, "input_config": {"loadgen": {"concurrency": 1}}})
    lines = [record(0.0), record(0.26)]
    run = only(written(tmp_path, "profile_export.jsonl", "\n".join(map(json.dumps, lines))))
    assert run.requests.session_count == 1


def test_raw_export_of_perf_analyzer(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="experiments: a raw export has no token counts"):
        read_runs(written(tmp_path, "profile_export.json", {"experiments": []}), DEPLOYMENT)


# ----------------------------------------------------------------------------------------------------------------------
# GuideLLM


def summary(mean: float, count: int = 3) -> dict[str, Any]:
    percentiles = {"p50": mean, "p90": mean * 1.1, "p95": mean * 1.2, "p99": mean * 1.3}
    return {"successful": {"mean": mean, "count": count, "percentiles": percentiles}}


METRICS = {
    "requests_per_second": summary(2.0),
    "output_tokens_per_second": summary(20.0),
    "request_latency": summary(0.3),
    "time_to_first_token_ms": summary(40.0),
    "inter_token_latency_ms": summary(9.0),
    "prompt_token_count": summary(256.0),
    "output_token_count": summary(10.0),
}
OLD = {
    "start_time": 100.0,
    "first_token_time": 100.05,
    "last_token_time": 100.24,
    "end_time": 100.25,
    "prompt_tokens": 256,
    "output_tokens": 11,
    "request_latency": 0.25,
    "time_to_first_token_ms": 50.0,
    "time_per_output_token_ms": 17.0,
}
NEW = {
    "request_start_time": 100.0,
    "request_end_time": 100.25,
    "request_latency": 0.25,
    "prompt_tokens": 256,
    "output_tokens": 11,
    "time_to_first_token_ms": 50.0,
    "inter_token_latency_ms": 20.0,
}


@pytest.mark.parametrize(("place", "request_", "kind"), [("args", OLD, "poisson"), ("config", NEW, "constant")])
def test_guidellm_requests(place: str, request_: dict[str, Any], kind: str, tmp_path: Path) -> None:
    times = [name for name in request_ if name.endswith("_time")]
    later = {**request_, **{name: request_[name] + 2 for name in times}}
    benchmark = {
        place: {"strategy": {"type_": kind, "rate": 0.5}},
        "metrics": {"request_latency": summary(0.25, 2)},
        "requests": {"successful": [request_, later], "incomplete": [{}], "errored": []},
    }
    run = only(written(tmp_path, "benchmarks.json", {"benchmarks": [benchmark]}))
    assert run.name == "benchmarks 0.5/s"
    assert run.requests.arrival_ps.tolist() == [0, 2 * PS_PER_S]
    assert run.figures["ttft_mean_s"] == pytest.approx(0.05)
    assert run.figures["tpot_mean_s"] == pytest.approx(0.02)
    assert run.figures["e2e_mean_s"] == pytest.approx(0.25)
    assert any("cut off" in note for note in run.notes)
    assert not any("failed" in note for note in run.notes)
    benchmark["requests"]["errored"] = [{}, {}]  # type: ignore[index]
    run = only(written(tmp_path, "failed.json", {"benchmarks": [benchmark]}))
    assert "2 requests failed and are left out" in run.notes


def test_guidellm_as_it_writes_a_replay() -> None:
    """Written by GuideLLM 0.8.1, which ran the scenario that ``dse export --load`` writes against a made-up engine.

    Shortened: texts, percentiles that are not read, and metrics that are not read are left out, and numbers rounded.
    """
    path = Path(__file__).parent / "data/guidellm-0.8.1.json"
    (run,) = read_runs(path, DEPLOYMENT)
    benchmark = json.loads(path.read_text())["benchmarks"][0]
    rows = sorted(benchmark["requests"]["successful"], key=lambda row: float(row["request_start_time"]))
    assert len(run.requests) == len(rows) == 11
    assert run.requests.prompt_tokens.tolist() == [row["prompt_tokens"] for row in rows]
    assert run.requests.output_tokens.tolist() == [row["output_tokens"] for row in rows]
    starts = np.array([row["request_start_time"] for row in rows])
    assert run.requests.arrival_ps / PS_PER_S == pytest.approx(starts - starts[0], abs=1e-6)
    metrics = benchmark["metrics"]
    # What the tool itself says of all requests is what is made of them one by one.
    for name, figure, scale in (("time_to_first_token_ms", "ttft", 1e-3), ("request_latency", "e2e", 1.0)):
        assert run.figures[f"{figure}_mean_s"] == pytest.approx(metrics[name]["successful"]["mean"] * scale, rel=1e-3)
    assert run.labels["load"] == "as recorded"
    assert run.notes == ()


def test_guidellm_replays_a_trace(tmp_path: Path) -> None:
    """The times at which requests were sent are the load; a sample of them is none."""
    later = {**NEW, "request_start_time": 103.5, "request_end_time": 103.75}
    benchmark: dict[str, Any] = {
        "config": {"strategy": {"type_": "trace"}},
        "metrics": {"request_latency": summary(0.25, 2)},
        "requests": {"successful": [NEW, later]},
    }
    run = only(written(tmp_path, "benchmarks.json", {"benchmarks": [benchmark]}))
    assert run.labels["load"] == "as recorded"
    assert run.requests.arrival_ps.tolist() == [0, 3.5 * PS_PER_S]
    benchmark["metrics"] = {"request_latency": summary(0.25, 60)}
    with pytest.raises(SpecError, match=r"benchmarks\.0\.requests: holds a sample"):
        read_runs(written(tmp_path, "sampled.json", {"benchmarks": [benchmark]}), DEPLOYMENT)


def test_guidellm_sweep_without_requests(tmp_path: Path) -> None:
    strategies = [
        {"type_": "synchronous"},
        {"type_": "throughput", "max_concurrency": None},
        {"type_": "concurrent", "streams": 2},
        {"type_": "constant", "rate": 4.0},
    ]
    benchmarks = [
        {"args": {"strategy": strategy}, "metrics": METRICS, "requests": {"successful": []}} for strategy in strategies
    ]
    runs = read_runs(written(tmp_path, "benchmarks.json", {"benchmarks": benchmarks}), DEPLOYMENT)
    assert [run.labels["load"] for run in runs] == ["1 users", "all at once", "2 users", "4/s"]
    assert [run.requests.session_count for run in runs] == [1, 3, 2, 3]
    assert runs[3].requests.rate_rps == pytest.approx(4.0)
    assert runs[0].figures["ttft_p99_s"] == pytest.approx(0.052)
    assert "tpot_mean_s" not in runs[0].figures


def test_guidellm_names_what_is_missing(tmp_path: Path) -> None:
    benchmark = {"metrics": METRICS, "requests": {"successful": []}}
    with pytest.raises(SpecError, match=r"benchmarks\.0: config\.strategy"):
        read_runs(written(tmp_path, "b.json", {"benchmarks": [benchmark]}), DEPLOYMENT)


# ----------------------------------------------------------------------------------------------------------------------
# Tables


def test_table_of_runs(tmp_path: Path) -> None:
    (tmp_path / "served.yaml").write_text(yaml.safe_dump({"pools": [POOL]}))
    path = written(
        tmp_path,
        "runs.csv",
        "name,deployment,model,accelerator,engine,max_batch_requests,prompt_tokens,output_tokens,rate_rps,concurrency,"
        "shortest_share,ttft_mean_ms,e2e_p90_s,output_tokens_per_s,site\n"
        "a,served.yaml,,,,,512,128,2,,,30,1.2,,x\n"
        "b,,llama-3.1-8b,a100-80gb,vllm-0.15,64,512,128,,4,0.8,35,,400,y\n",
    )
    first, second = read_runs(path)
    assert first.figures == pytest.approx({"ttft_mean_s": 0.03, "e2e_p90_s": 1.2})
    assert first.labels["tp"] == "2"
    assert first.labels["site"] == "x"
    assert len(first.requests) == 500
    assert second.labels["accelerator"] == "a100-80gb"
    assert second.deployment.pools[0].batching.max_batch_requests == 64
    assert second.requests.session_count == 4
    assert len(second.requests) == 40
    assert 410 <= second.requests.prompt_tokens.min() < second.requests.prompt_tokens.max() <= 512
    assert second.figures["output_tokens_per_s"] == 400


def test_table_of_requests(tmp_path: Path) -> None:
    text = (
        "run,arrival_s,prompt_tokens,output_tokens,ttft_ms,e2e_ms\nx,5,100,11,50,250\nx,4,90,1,40,40\ny,0,10,10,9,99\n"
    )
    first, second = read_runs(written(tmp_path, "requests.csv", text), DEPLOYMENT)
    assert (first.name, second.name) == ("x", "y")
    assert first.requests.prompt_tokens.tolist() == [90, 100]
    assert first.figures["ttft_mean_s"] == pytest.approx(0.045)
    assert first.figures["tpot_mean_s"] == pytest.approx(0.02)


# ----------------------------------------------------------------------------------------------------------------------
# All formats


def test_names_are_unique(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder, "run.json", VLLM)
    paths = [tmp_path / "a" / "run.json", tmp_path / "b" / "run.json", tmp_path / "b" / "run.json"]
    names = [run.name for run in read_all(paths, DEPLOYMENT)]
    assert len(set(names)) == 3


COLUMNS = "model,accelerator,rate_rps,prompt_tokens,output_tokens,ttft_mean_ms"


def test_deployment_beside_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "run.json", VLLM)
    with pytest.raises(SpecError, match="what was served"):
        read_runs(path)
    scenario = {
        "deployment": {"pools": [POOL]},
        "workload": {
            "arrivals": {"process": "poisson", "rate_rps": 1},
            "lengths": {"statistics": "azure-2023-code"},
        },
    }
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(scenario))
    (run,) = read_runs(path)
    assert run.deployment == DEPLOYMENT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({**VLLM, "total_input_tokens": None}, "total_input_tokens: missing"),
        ({**VLLM, "mean_ttft_ms": "fast"}, "mean_ttft_ms: must be a number, given 'fast'"),
        ({**VLLM, "request_rate": -1}, "request_rate: must be above 0"),
        ({**VLLM, "completed": 0}, "completed: no request was answered"),
        ({**VLLM, "ramp_up_strategy": "linear"}, "ramp_up_strategy"),
        ({**VLLM, **DETAILS, "ttfts": [0.1]}, "ttfts: has 1 entries, input_lens 4"),
        ({**VLLM, **DETAILS, "output_lens": [0, 0, 0, 0]}, "output_lens: no request was answered"),
        ({**AIPERF, "input_sequence_length": None}, "input_sequence_length: missing"),
        ({**AIPERF, "request_latency": {"unit": "fortnights", "avg": 1}}, "request_latency.unit: given 'fortnights'"),
        ({"benchmarks": []}, "benchmarks: must be a list"),
        ({"what": 1}, "not told which tool wrote it"),
        ("{", "neither JSON nor JSON Lines"),
        ("[]", "must hold objects"),
        ("a,b\n1,2\n", "not told which tool wrote it"),
        ("rate_rps,ttft_mean_ms\n1,2\n", "what was served"),
        ("model,accelerator,rate_rps,ttft_mean_ms\nllama-3.1-8b,l40s,1,2\n", "prompt_tokens: missing"),
        (
            "model,accelerator,rate_rps,prompt_tokens,output_tokens,requests,ttft_p50_s\ngpt-oss-20b,l4,1,1,1,0,2\n",
            "requests:",
        ),
        (
            "model,accelerator,rate_rps,prompt_tokens,output_tokens,ttft_p50_s\ngpt-oss-20b,l4,0,1,1,2\n",
            "rate_rps: must",
        ),
        ("model,accelerator,ttft_mean_ms\nllama-3.1-8b,l40s,2\n", "rate_rps or concurrency"),
        ("arrival_s,prompt_tokens,output_tokens\n1,2,3\n", "expected ttft_ms"),
        ("arrival_s,prompt_tokens,output_tokens,ttft_ms\n1,x,3,4\n", "row 1: prompt_tokens: must be a number"),
    ],
)
def test_errors_name_the_field(content: Any, said: str, tmp_path: Path) -> None:
    deployment = None if "rate_rps" in str(content) and isinstance(content, str) else DEPLOYMENT
    if isinstance(content, str) and content.startswith("model"):
        deployment = None
    with pytest.raises(SpecError) as error:
        read_runs(written(tmp_path, "file", content), deployment)
    assert said in str(error.value)
    assert "file" in str(error.value)


def test_format_can_be_said(tmp_path: Path) -> None:
    path = written(tmp_path, "run.json", VLLM)
    assert len(read_runs(path, DEPLOYMENT, format="vllm")) == 1
    with pytest.raises(SpecError, match="format: no 'vlm'; did you mean vllm"):
        read_runs(path, DEPLOYMENT, format="vlm")
    with pytest.raises(SpecError, match="absent"):
        read_runs(tmp_path / "absent.json", DEPLOYMENT)


# ----------------------------------------------------------------------------------------------------------------------
# Closed loops


def test_closed_loop_keeps_so_many_under_way() -> None:
    result = simulate(DEPLOYMENT, closed_loop(4, 300, 50, requests=22))
    requests = result.lowered.memory.requests
    arrival, done = requests["arrival_ps"], requests["done_ps"]
    assert len(arrival) == 22
    under_way = [int(np.count_nonzero((arrival <= at) & (done > at))) for at in arrival]
    assert max(under_way) == 4
    assert np.isin(arrival[arrival > 0] - REQUEST_PS, done).all()  # when the answer before is back
    assert result.requests()["e2e_s"].to_numpy() == pytest.approx((done - arrival + REQUEST_PS) / PS_PER_S)


def test_closed_loop_lengths_and_starts() -> None:
    load = closed_loop(3, 1000, 100, shortest_share=0.8, start_s=0.3)
    assert len(load) == 30
    assert 800 <= load.prompt_tokens.min() < load.prompt_tokens.max() <= 1000
    assert load.fingerprint() == closed_loop(3, 1000, 100, shortest_share=0.8, start_s=0.3).fingerprint()
    assert np.unique(load.arrival_ps).tolist() == [0, PS_PER_S // 10, PS_PER_S // 5]
    assert closed_loop(2, [5, 6, 7], 1).prompt_tokens.tolist() == [5, 7, 6]
    for wrong in ({"concurrency": 0}, {"shortest_share": 0.0}, {"prompt_tokens": 0}, {"prompt_tokens": [1, 2]}):
        given: dict[str, Any] = {"concurrency": 2, "prompt_tokens": 1, "output_tokens": [1, 2, 3], **wrong}
        with pytest.raises(SpecError):
            closed_loop(**given)


def test_chains_of_a_recorded_loop() -> None:
    start, end = np.array([0.0, 0.0, 1.0, 3.0]), np.array([1.0, 3.0, 4.0, 5.0])
    assert chains_of(start, end, 2).tolist() == [0, 1, 0, 1]
