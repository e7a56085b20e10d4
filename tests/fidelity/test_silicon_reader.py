"""The readers of others' measurements: a made-up file always, the installed package where there is one."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest

from dse.measurements import _package
from dse.measurements.aiconfigurator_tables import (
    read_attention,
    read_collectives,
    read_gemm,
    read_moe,
    versions,
)
from dse.measurements.silicon import COLUMNS, MODELS, read_silicon, skipped
from simulator.catalog import accelerator, accelerator_names, model_names
from simulator.errors import SpecError


def _installed() -> bool:
    try:
        metadata.distribution(_package.DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return False
    return True


needs_package = pytest.mark.skipif(not _installed(), reason="aiconfigurator-core is not installed (extra 'silicon')")

ROW: dict[str, object] = {
    "id": "2026_04_06_llama_3_1_70b_h100_sxm_vllm_fp8_agg_1024x1024_c8_tp4_ep1_1",
    "silicon_data_source": "source_file=2026-04-06.csv; silicon_concurrency=8; measured=2025-10-29T00:00Z; wip=False",
    "backend": "vllm",
    "backend_version": "0.11.0",
    "model_path": "meta-llama/Llama-3.1-70B",
    "system": "h100_sxm",
    "precision": "fp8",
    "mode": "agg",
    "isl": 1024,
    "osl": 1024,
    "batch_size": 8,
    "tp_size": 4,
    "pp_size": 1,
    "attention_dp_size": 1,
    "moe_tp_size": 4,
    "moe_ep_size": 1,
    "silicon_ttft_ms": 96.3,
    "silicon_tpot_ms": 12.1,
}
DEEPSEEK = {"model_path": "deepseek-ai/DeepSeek-V3", "system": "h200_sxm", "backend": "sglang"}
DUMP = "db-dump/2026-04-27; config_id=1; silicon_concurrency=8; measured=2026-04-17T00:00Z"


def read(folder: Path, *rows: dict[str, object]) -> pd.DataFrame:
    path = folder / "sample.csv"
    pd.DataFrame([{**ROW, **row} for row in rows]).to_csv(path, index=False)
    return read_silicon(path)


def test_a_row_in_the_words_of_this_project(tmp_path: Path) -> None:
    frame = read(tmp_path, {})
    assert tuple(frame.columns) == COLUMNS
    row = frame.iloc[0]
    assert row["why_skipped"] == ""
    assert (row["accelerator"], row["model"], row["engine"]) == ("h100-sxm", "llama-3.1-70b", "vllm")
    assert (row["tp"], row["pp"], row["dp"], row["ep"], row["accelerators"]) == (4, 1, 1, 1, 4)
    assert (row["isl_tokens"], row["osl_tokens"], row["shortest_share"]) == (1024, 1024, 0.8)
    assert (row["concurrency"], row["requests"], row["measured_on"]) == (8, 80, "2025-10-29")
    assert (row["ttft_ms"], row["tpot_ms"], row["tpot_spread"]) == (96.3, 12.1, 1.0)
    assert (row["weights"], row["kv"]) == ("fp8", None)


@pytest.mark.parametrize(
    ("ranks", "columns", "expected"),
    [
        # id, then tp, moe_tp, ep and dp of the file, then tp, dp and ep of what ran
        ("_tp8_ep8_1", (8, 1, 8, 1), (8, 1, 8)),
        ("_tp8_ep8_1", (64, 8, 8, 1), (8, 1, 8)),
        ("_tp4_0_ep4_0_1", (1, 4, 4, 16), (1, 4, 4)),
        ("_tp4_ep1_1", (1, 4, 1, 4), (1, 4, 1)),
        ("_cfg1", (64, 8, 8, 1), (8, 1, 8)),
        ("_cfg1", (1, 8, 8, 64), (1, 8, 8)),
        ("_cfg1", (4, 1, 16, 4), (1, 4, 4)),
        ("_cfg1", (1, 1, 8, 8), (1, 8, 8)),
        ("_cfg1", (8, 8, 1, 1), (8, 1, 1)),
    ],
)
def test_ranks_are_those_that_ran(
    tmp_path: Path, ranks: str, columns: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    sizes = dict(zip(("tp_size", "moe_tp_size", "moe_ep_size", "attention_dp_size"), columns, strict=True))
    row = read(tmp_path, {**DEEPSEEK, **sizes, "id": f"dsr1{ranks}", "silicon_data_source": DUMP}).iloc[0]
    assert (row["tp"], row["dp"], row["ep"]) == expected
    assert row["why_skipped"] == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mode": "disagg"}, "disaggregated"),
        ({"system": "gb300"}, "accelerator not catalogued"),
        ({"model_path": "zhipuai/GLM-5"}, "model not catalogued"),
        ({"silicon_data_source": "source_file=a.csv; gtl_job_id=1"}, "concurrency not stated"),
        (
            {"silicon_data_source": "source_file=a.csv; silicon_concurrency=32", "batch_size": 8},
            "several copies, not stated how many",
        ),
        ({"tp_size": 16, "id": "x_tp16_ep1_1"}, "parallelism not certain"),
        (DEEPSEEK, "perhaps speculative decoding"),
    ],
)
def test_rows_that_cannot_be_replayed_say_why(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    frame = read(tmp_path, {}, {**change, "silicon_tpot_ms": 13.0})
    assert list(frame["why_skipped"]) == ["", reason]
    assert dict(skipped(frame)) == {"": 1, reason: 1}


def test_one_measurement_under_two_names_counts_once(tmp_path: Path) -> None:
    page = {**DEEPSEEK, "model_path": "deepseek-ai/DeepSeek-R1"}
    frame = read(tmp_path, {**DEEPSEEK, "id": "dsr1_cfg1", "silicon_data_source": DUMP}, page)
    assert list(frame["why_skipped"]) == ["", "duplicate"]
    assert list(frame["model"]) == ["deepseek-v3", "deepseek-v3"]


def test_rows_that_disagree_are_told(tmp_path: Path) -> None:
    frame = read(tmp_path, {}, {"silicon_tpot_ms": 24.2, "backend_version": "0.12.0"}, {"isl": 8192})
    assert list(frame["tpot_spread"]) == [2.0, 2.0, 1.0]


def test_a_file_that_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.csv: No such file"):
        read_silicon(tmp_path / "absent.csv")
    path = tmp_path / "other.csv"
    path.write_text("id,isl\n1,2\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"other\.csv: no column osl, tp_size"):
        read_silicon(path)
    path.write_bytes(b"")
    with pytest.raises(SpecError, match=r"other\.csv: not a CSV file"):
        read_silicon(path)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_package, "DISTRIBUTION", "no-such-distribution")
    with pytest.raises(SpecError, match=r"no-such-distribution: not installed; pip install 'dse-llm\[silicon\]'"):
        read_silicon()
    with pytest.raises(SpecError, match="not installed"):
        read_gemm("h100-sxm", "vllm")


def test_names_are_those_of_the_catalogue() -> None:
    assert set(MODELS.values()) <= set(model_names())
    assert set(_package.SYSTEMS.values()) <= set(accelerator_names())


@needs_package
def test_the_shipped_file() -> None:
    frame = read_silicon()
    assert len(frame) >= 5000
    usable = frame[frame["why_skipped"] == ""]
    assert len(usable) >= 2000
    assert set(usable["accelerator"]) == {"b200", "h100-sxm", "h200-sxm"}
    assert usable[["tp", "dp", "ep", "concurrency", "ttft_ms", "tpot_ms"]].notna().all(axis=None)
    assert (usable["accelerators"] <= 8).all()
    assert ((usable["tp"] * usable["dp"]) % usable["ep"] == 0).all()
    # No faster than reading the weights that a token needs once: a row below is not what it says it is.
    llama = usable[(usable["model"] == "llama-3.1-70b") & (usable["weights"] == "fp8")]
    bandwidth = llama["accelerator"].map(
        {name: accelerator(name).memory_bandwidth_gb_per_s for name in accelerator_names()}
    )
    assert (llama["tpot_ms"] > 1000 * 69.5 / (bandwidth * llama["tp"].astype(float))).all()


@needs_package
@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_gemm_tables(backend: str) -> None:
    frame = read_gemm("h100-sxm", backend)
    assert {"bf16", "fp8"} <= set(frame["dtype"])
    large = frame[(frame["dtype"] == "bf16") & (frame["m"] == 8192) & (frame["n"] == 4096) & (frame["k"] == 4096)]
    teraflops = 2e-6 * 8192 * 4096 * 4096 / large["time_us"]
    assert teraflops.between(500, accelerator("h100-sxm").peak_tflops["bf16"]).all()


@needs_package
def test_the_other_tables() -> None:
    attention = read_attention("h100-sxm", "vllm")
    assert set(attention["op"]) == {"context_attention", "generation_attention"}
    assert (attention["heads"] % attention["kv_heads"] == 0).all()
    reduced = read_collectives("h100-sxm")
    large = reduced[(reduced["op"] == "all_reduce") & (reduced["accelerators"] == 8) & (reduced["bytes"] >= 2**28)]
    gigabytes_per_s = 1e-3 * 1.75 * large["bytes"] / large["time_us"]
    assert gigabytes_per_s.between(250, 480).all()
    assert set(read_collectives("h100-sxm", "vllm")["op"]) == {"all_reduce"}
    experts = read_moe("h100-sxm", "vllm")
    assert {"balanced", "power_law_1.2"} <= set(experts["balance"])
    assert (experts["time_us"] > 0).all()


@needs_package
def test_what_the_package_does_not_have() -> None:
    assert versions("h100-sxm", "vllm", "gemm")
    with pytest.raises(SpecError, match="system: no 'h100'; did you mean h100_sxm"):
        read_gemm("h100", "vllm")
    with pytest.raises(SpecError, match="backend: no 'vlm'; did you mean vllm"):
        read_gemm("h100-sxm", "vlm")
    with pytest.raises(SpecError, match="version of vllm for gemm_perf on h100-sxm: no '0'"):
        read_gemm("h100-sxm", "vllm", "0")
