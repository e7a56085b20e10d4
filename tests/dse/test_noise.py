"""Noise of steps: from the engine's profile when predictions are compared with measurements, else none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dse.measurements.measured_run import MeasuredRun
from dse.validation.errors import compare
from dse.validation.noise import with_engine_noise
from simulator import Deployment, Requests
from simulator.workload import PS_PER_S
from tests.dse.test_explain import dse

ENGINE = {"name": "shaky-1.0", "source": "none", "date": "2026-11-21", "step_us": 1000, "step_noise_cv": 0.4}


def deployment(**changes: Any) -> Deployment:
    pool = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "engine": ENGINE, **changes}
    return Deployment.parse({"pools": [pool]})


def run() -> MeasuredRun:
    requests = Requests(
        arrival_ps=np.arange(50) * (PS_PER_S // 4), prompt_tokens=np.full(50, 300), output_tokens=np.full(50, 20)
    )
    labels = {"engine": "shaky-1.0"}
    return MeasuredRun("run", labels, deployment(), requests, {"ttft_p90_s": 0.02, "e2e_mean_s": 0.2})


def test_a_pool_has_the_last_word() -> None:
    (pool,) = with_engine_noise(deployment()).pools
    assert pool.step_noise_cv == 0.4
    assert pool == deployment().pools[0].model_copy(update={"step_noise_cv": 0.4})
    for said in (0.0, 0.1):
        assert with_engine_noise(deployment(step_noise_cv=said)).pools[0].step_noise_cv == said
    quiet = deployment(engine={**ENGINE, "step_noise_cv": 0.0})
    assert with_engine_noise(quiet).model_dump_json(exclude_unset=True) == quiet.model_dump_json(exclude_unset=True)


def test_comparisons_have_it_unless_told_otherwise() -> None:
    noisy, again, quiet = compare([run()]), compare([run()]), compare([run()], noise=False)
    assert noisy.equals(again)
    assert (noisy["problem"] == "").all()
    assert not np.isclose(noisy["predicted"], quiet["predicted"], rtol=1e-6).any()
    unsaid = run().deployment.model_copy(update={"pools": deployment(step_noise_cv=0.4).pools})
    told = compare([MeasuredRun(**{**vars(run()), "deployment": unsaid})], noise=False)
    assert told["predicted"].tolist() == noisy["predicted"].tolist()


def test_the_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "deployment.yaml"
    path.write_text(yaml.safe_dump(deployment().model_dump(mode="json", exclude_unset=True)))

    def figures(*options: str) -> dict[str, Any]:
        assert dse(monkeypatch, *options, "--json") == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    simulate = ("simulate", str(path), "--requests", "50", "--rate", "4")
    quiet, noisy = figures(*simulate), figures(*simulate, "--noise")
    assert quiet["e2e_p50_s"] != noisy["e2e_p50_s"]

    table = tmp_path / "runs.csv"
    table.write_text(
        "model,accelerator,engine,prompt_tokens,output_tokens,rate_rps,requests,ttft_mean_ms\n"
        f"llama-3.1-8b,h100-sxm,{tmp_path / 'engine.yaml'},300,20,4,50,20\n"
    )
    (tmp_path / "engine.yaml").write_text(yaml.safe_dump(ENGINE))
    usual, off = figures("validate", str(table)), figures("validate", str(table), "--no-noise")
    assert usual["runs"][0]["predicted"] != off["runs"][0]["predicted"]
    assert usual == figures("validate", str(table), "--noise")
