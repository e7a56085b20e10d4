"""Engines on H100 and H200 as others measured them: ``silicon_sample.csv`` of ``aiconfigurator-core``, never fitted."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dse.measurements.closed_loop import REQUESTS_OF_A_USER
from dse.measurements.silicon import COLUMNS, read_silicon
from dse.measurements.silicon_runs import LARGEST_SPREAD, setting_of, silicon_runs
from dse.validation.errors import compare, errors, not_simulated
from dse.validation.reference.page import render, study
from dse.validation.reference.row import Options, Row
from dse.validation.reference.silicon import (
    BARS,
    HOPPER,
    by_configuration,
    by_configuration_text,
    engines_of_others,
)
from simulator.errors import SpecError

ROW: dict[str, object] = {
    **dict.fromkeys(COLUMNS),
    "id": "made-up",
    "source": "inferencex",
    "accelerator": "h200-sxm",
    "model": "llama-3.1-70b",
    "engine": "vllm",
    "engine_version": "0.11",
    "tp": 4,
    "pp": 1,
    "dp": 1,
    "ep": 1,
    "weights": "fp8",
    "isl_tokens": 1024,
    "osl_tokens": 512,
    "shortest_share": 0.8,
    "concurrency": 16,
    "ttft_ms": 90.0,
    "tpot_ms": 9.0,
    "tpot_spread": 1.0,
    "why_skipped": "",
}


def rows(*changes: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([{**ROW, **change} for change in changes])


@pytest.fixture(scope="module")
def installed() -> pd.DataFrame:
    try:
        return read_silicon()
    except SpecError as absent:
        pytest.skip(str(absent))


def test_a_run() -> None:
    (run,) = silicon_runs(rows({}))
    (pool,) = run.deployment.pools
    assert (pool.model, pool.accelerator, pool.tp, pool.weights, pool.kv) == (
        "llama-3.1-70b",
        "h200-sxm",
        4,
        "fp8",
        "fp8",
    )
    assert (pool.batching.policy, pool.batching.max_batch_requests) == ("chunked", 16)
    assert pool.batching.token_budget_tokens == 8192
    assert pool.ep is None
    assert run.figures == {"ttft_mean_s": 0.09, "tpot_mean_s": 0.009}
    assert len(run.requests) == 16 * REQUESTS_OF_A_USER
    assert run.requests.prompt_tokens.min() >= 819
    assert run.requests.prompt_tokens.max() <= 1024
    labels = {"accelerator": "h200-sxm", "model": "llama-3.1-70b", "tp": "4", "engine": "vllm", "weights": "fp8"}
    assert labels.items() <= run.labels.items()
    assert (run.labels["source"], run.labels["concurrency"], run.labels["band"]) == ("inferencex", "16", "9 to 32")
    assert run.notes == ()


@pytest.mark.parametrize(
    ("change", "policy", "budget", "kv"),
    [
        ({"engine": "sglang", "model": "deepseek-v3"}, "continuous", 32768, "bf16"),
        ({"engine": "sglang", "model": "deepseek-v3", "accelerator": "b200"}, "continuous", 32768, "fp8"),
        ({"engine": "tensorrt-llm"}, "chunked", 1024 + 512 + 200, "fp8"),
        ({"engine": "tensorrt-llm", "model": "gpt-oss-120b"}, "chunked", 20000, "bf16"),
        ({"engine": "tensorrt-llm", "model": "deepseek-v3"}, "chunked", 8192, "fp8"),
        ({"model": "minimax-m2.5", "concurrency": 64}, "chunked", 32768, "fp8"),
        ({"source": "nvidia"}, "chunked", 16 + 1024 + 1500, "bf16"),
        ({"source": "nvidia", "engine": "tensorrt-llm"}, "chunked", 16 + 1024 + 1500, "fp8"),
        ({"source": "nvidia", "engine": "sglang"}, "chunked", 8192, "bf16"),
        ({"source": "nvidia", "engine": "sglang", "accelerator": "h100-sxm"}, "continuous", 8192, "bf16"),
    ],
)
def test_what_the_scripts_say(change: dict[str, object], policy: str, budget: int, kv: str) -> None:
    setting = setting_of({**ROW, **change})
    assert (setting.policy, setting.token_budget_tokens, setting.kv) == (policy, budget, kv)


def test_which_rows() -> None:
    left_out: list[dict[str, object]] = [{"why_skipped": "duplicate"}, {"tpot_spread": LARGEST_SPREAD}]
    frame = rows({}, *left_out, {"tp": 1}, {"tp": 2}, {"tp": 8})
    assert [run.labels["tp"] for run in silicon_runs(frame)] == ["4", "1", "2", "8"]
    sampled = [run.labels["tp"] for run in silicon_runs(frame, sample=2)]
    assert len(sampled) == 2
    assert sampled == [run.labels["tp"] for run in silicon_runs(frame, sample=2)]
    assert len(silicon_runs(frame, sample=9)) == 4
    with pytest.raises(SpecError, match="sample: must be at least 1, given 0"):
        silicon_runs(frame, sample=0)
    with pytest.raises(SpecError, match="no row can be used"):
        silicon_runs(frame[frame["why_skipped"] != ""])


def test_medians_over_configurations() -> None:
    """Three rows of one configuration count as much as one of another."""
    labels = {"accelerator": "a", "model": "m", "engine": "e", "weights": "w", "source": "s", "metric": "ttft_mean_s"}
    four = [(1.0, "tp1"), (2.0, "tp1"), (3.0, "tp1"), (-10.0, "tp2")]
    frame = pd.DataFrame([{**labels, "parallel": parallel, "error_percent": error} for error, parallel in four])
    assert by_configuration(frame) == {"ttft_mean_s": 6.0}
    assert by_configuration_text(frame).startswith("Medians over 2 configurations, each with its own: ")


def test_a_row_of_the_page_that_lacks_the_package(tmp_path: Path) -> None:
    def installed() -> None:
        raise SpecError("the package: not installed")

    found, absent = study(tmp_path, [Row("silicon", (), engines_of_others, needs=installed)], Options())
    assert found == []
    assert "- silicon: the package: not installed" in render(found, absent)


@pytest.fixture(scope="module")
def hopper(installed: pd.DataFrame) -> pd.DataFrame:
    """All rows of H100 and H200, predicted: seconds, for the kernel skips what is alike."""
    return compare(silicon_runs(installed[installed["accelerator"].isin(HOPPER)]))


def test_every_row_is_predicted(hopper: pd.DataFrame) -> None:
    assert not not_simulated(hopper)
    assert hopper["run"].nunique() >= 1300
    assert hopper["error_percent"].notna().all()


@pytest.mark.parametrize(("metric", "reached"), [("tpot_mean_s", BARS["tpot_mean_s"]), ("ttft_mean_s", 30.0)])
def test_engines_of_others(metric: str, reached: float, hopper: pd.DataFrame) -> None:
    """TPOT keeps its bar; TTFT misses its 25 %, as the page says, and must not get worse."""
    median = errors(hopper).set_index("metric")["median_ape"][metric]
    assert median <= reached, by_configuration_text(hopper)


def test_a_sample_is_of_those_rows(installed: pd.DataFrame, hopper: pd.DataFrame) -> None:
    """What is said of a sample is what is said of all: the load of a row does not depend on the others."""
    sampled = compare(silicon_runs(installed[installed["accelerator"].isin(HOPPER)], sample=20))
    assert sampled["run"].nunique() == 20
    together = hopper.merge(sampled, on=["run", "metric"], suffixes=("", "_sampled"))
    assert len(together) == len(sampled)
    assert (together["predicted"] == together["predicted_sampled"]).all()
