"""Profiles fitted to measurements: what is written, and that what the simulator itself wrote is found again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dse.calibration.operators import pass_seconds, product_seconds
from dse.measurements.closed_loop import closed_loop
from dse.measurements.measured_run import MeasuredRun
from dse.validation.engine import with_engine
from dse.validation.errors import compare
from dse.validation.predict import predict
from dse.validation.refit import START, refit_engine
from simulator import Deployment, SpecError, catalog
from simulator.catalog import KernelProfile, LinkProfile
from simulator.performance.engine import engine_of
from simulator.performance.provenance import provenance
from simulator.performance.step_cost import step_cost
from simulator.spec.deployment import Pool
from simulator.spec.engine_profile import EngineProfile

from .test_validate import dse

TRUE_US = 4000.0


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the simplest fit in the place of the real one: the best of some times of a step."""

    def fit_engine(runs: Sequence[MeasuredRun], start: EngineProfile, *, free: Sequence[str]) -> EngineProfile:
        assert tuple(free) == ("step_us",)
        tried = [start.model_copy(update={"step_us": step_us}) for step_us in (1000.0, TRUE_US, 8000.0)]
        return min(tried, key=lambda each: compare(with_engine(runs, each))["error_percent"].abs().mean())

    module = ModuleType("dse.calibration.engines")
    vars(module).update(fit_engine=fit_engine, COEFFICIENTS={"step_us": None})
    monkeypatch.setitem(sys.modules, "dse.calibration.engines", module)


def table(folder: Path, models: Sequence[str]) -> Path:
    """Write runs of an engine that takes so long a step."""
    profile = START.model_copy(update={"step_us": TRUE_US}).model_dump(mode="json")
    rows = []
    for model in models:
        pool = {"model": model, "accelerator": "h100-sxm"}
        deployment = Deployment.parse({"pools": [{**pool, "engine": profile}]})
        names = {"ttft_mean_s": 1.0, "tpot_mean_s": 1.0}
        measured = MeasuredRun("a", {}, deployment, closed_loop(4, 500, 50), names)
        rows.append({**pool, "prompt_tokens": 500, "output_tokens": 50, "concurrency": 4, **predict(measured)})
    path = folder / "runs.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.mark.usefixtures("scan")
def test_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path, target = table(tmp_path, ["llama-3.1-8b", "qwen2.5-7b"]), tmp_path / "mine.yaml"
    options = ["--free", "step_us", "-j", "1", "-o", str(target)]
    assert dse(monkeypatch, "calibrate", "engine", str(path), *options) == 0
    printed = capsys.readouterr().out
    assert "1,000  4,000" in printed
    assert "model held out" in printed
    profile = EngineProfile.from_yaml(target)
    assert profile.name == "mine"
    assert profile.step_us == TRUE_US
    assert f"runs.csv (2 rows, sha256 {sha256(path.read_bytes()).hexdigest()})" in profile.source
    assert profile.date
    assert profile.accelerators == ("h100-sxm",)
    assert profile.residuals["TTFT mean"] == pytest.approx(0.0, abs=0.01)
    assert profile.residuals["TTFT mean, model held out"] == pytest.approx(0.0, abs=0.01)
    # It serves as an engine, of a command and of a pool.
    assert dse(monkeypatch, "validate", str(path), "--engine", str(target), "-j", "1") == 0
    assert "TTFT mean     2     0.0" in capsys.readouterr().out
    pool = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "engine": str(target)}
    assert Deployment.parse({"pools": [pool]})


@pytest.mark.usefixtures("scan")
def test_engine_of_one_model(tmp_path: Path) -> None:
    from dse.measurements.formats import read_all

    runs = read_all([table(tmp_path, ["llama-3.1-8b"])])
    found = refit_engine(runs, START, name="x", source="made up", free=("step_us",))
    assert found.table["held_out"].isna().all()
    assert found.table["before"].max() > 10
    assert found.table["after"].max() < 0.01
    with pytest.raises(SpecError, match="--free: given step; allowed: step_us"):
        refit_engine(runs, START, name="x", source="made up", free=("step",))
    large = Deployment.parse({"pools": [{"model": "llama-3.1-70b", "accelerator": "l4"}]})
    impossible = [MeasuredRun(**{**vars(run), "deployment": large}) for run in runs]
    with pytest.raises(SpecError, match="no run can be simulated"):
        refit_engine(impossible, START, name="x", source="made up", free=("step_us",))


def test_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    chip = catalog.accelerator("h100-sxm")
    profile = catalog.kernel_profile("h100-sxm")
    shapes = [(m, k, n) for m in (1, 8, 64, 256, 1024, 4096) for k, n in ((4096, 4096), (4096, 14336), (8192, 8192))]
    products = pd.DataFrame(shapes, columns=["m", "k", "n"]).assign(precision="bf16")
    products["time_us"] = 1.2e6 * product_seconds(profile.products["bf16"], products, chip)
    products.to_csv(tmp_path / "products.csv", index=False)
    passes = pd.DataFrame({"kind": "norm", "elements": np.logspace(5, 8, 12).astype(int)})
    passes["time_us"] = 1.5e6 * pass_seconds(profile.norm, passes["elements"], chip)
    passes.to_csv(tmp_path / "passes.csv", index=False)
    target = tmp_path / "kernels.yaml"
    files = [str(tmp_path / name) for name in ("products.csv", "passes.csv")]
    assert dse(monkeypatch, "calibrate", "kernels", *files, "-a", "h100-sxm", "-o", str(target)) == 0
    assert "bf16 products" in capsys.readouterr().out
    found = KernelProfile.from_yaml(target)
    assert found.name == "h100-sxm"
    assert "products.csv (18 rows, sha256" in found.source
    for kind in ("bf16 products from 64 rows", "norm"):
        assert found.residuals[kind].in_sample_percent < 6
    # Products take 1.2 times as long, norms 1.5 times: so does a pool's step with this profile.
    pool = {"model": "llama-3.1-8b", "accelerator": "h100-sxm"}
    at = np.array([4096.0])
    catalogued, own = (
        step_cost(engine_of(Pool.parse(each)), at, at) for each in (pool, pool | {"kernels": str(target)})
    )
    assert 1.1 < float(own.linear.seconds[0] / catalogued.linear.seconds[0]) < 1.3
    assert provenance(Pool.parse(pool | {"kernels": str(target)})).kernels_source == found.source


def test_kernels_of_files_or_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert dse(monkeypatch, "calibrate", "kernels", "-a", "h100-sxm", "-o", str(tmp_path / "out.yaml")) == 2
    assert "FILES or --tables: one of them is needed" in capsys.readouterr().err


def test_kernels_name_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "bad.csv").write_text("m,k,time_us\n1,2,3\n")
    options = ["-a", "h100-sxm", "-o", str(tmp_path / "out.yaml")]
    assert dse(monkeypatch, "calibrate", "kernels", str(tmp_path / "bad.csv"), *options) == 2
    assert "no class of operators has its columns" in capsys.readouterr().err
    (tmp_path / "bad.csv").write_text("m,k,n,precision,time_us\n1,2,x,bf16,3\n")
    assert dse(monkeypatch, "calibrate", "kernels", str(tmp_path / "bad.csv"), *options) == 2
    assert "n: must be a number in every row" in capsys.readouterr().err


def test_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["platform,collective,size_bytes,num_workers,devices_per_node,median_ms"]
    for workers in (2, 4, 8):
        for size in 2 ** np.arange(16, 30):
            seconds = 15e-6 + 2 * (workers - 1) * 1e-6 + 2 * (workers - 1) / workers * size / (0.75 * 450e9)
            lines.append(f"mine,all_reduce,{size},{workers},8,{1e3 * seconds}")
    path, target = tmp_path / "nccl.csv", tmp_path / "links.yaml"
    path.write_text("\n".join(lines) + "\n")
    options = ["-a", "h100-sxm", "-o", str(target), "--name", "my-links"]
    assert dse(monkeypatch, "calibrate", "links", str(path), *options) == 0
    assert "group size held out" in capsys.readouterr().out
    found = LinkProfile.from_yaml(target)
    assert found.name == "my-links"
    assert found.bulk.share == pytest.approx(0.75, rel=0.03)
    assert "nccl.csv (42 rows, sha256" in found.source
    assert "held out" in found.residuals
    level = {"name": "mine", "devices": 8, "gb_per_s": 450, "latency_us": 1, "link": str(target)}
    pool = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "tp": 8, "topology": {"levels": [level]}}
    assert engine_of(Pool.parse(pool)).tensor_group.hops[0].profile == found
    assert dse(monkeypatch, "calibrate", "links", str(path), "-o", str(target)) == 2
    assert "--gb-per-s or --accelerator" in capsys.readouterr().err
