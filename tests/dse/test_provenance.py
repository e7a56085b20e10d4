"""Where commands and reports say that coefficients were not fitted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dse import StudyResult, StudySpec, run_study
from dse.cli.screen import show_result
from dse.provenance import caveat, front_caveat
from dse.report import render_report
from simulator import Pool
from tests.dse.test_explain import dse


def study(accelerator: str) -> StudyResult:
    text = {
        "name": "small",
        "model": "llama-3.1-8b",
        "workload": {
            "requests": 100,
            "arrivals": {"process": "poisson", "rate_rps": 4},
            "lengths": {"statistics": "azure-2023-conversation"},
        },
        "space": {"accelerators": [accelerator], "clients": [1, 2], "tp": [1]},
        "objectives": ["usd_per_hour", "e2e_p90_s"],
        "budget": {"trials": 4},
    }
    return run_study(StudySpec.parse(text), jobs=1)


def test_a_caveat_names_each_accelerator_once() -> None:
    def pool(accelerator: str, name: str) -> Pool:
        return Pool(name=name, model="llama-3.1-8b", accelerator=accelerator, engine="vllm-0.15")

    assert caveat([pool("h100-sxm", "a")]) == ""
    said = caveat([pool("h100-pcie", "a"), pool("h100-sxm", "b"), pool("h100-pcie", "c"), pool("mi300x", "d")])
    assert said.startswith("coefficients are not fitted to h100-pcie (transferred: ")
    assert said.count("h100-pcie") == 1
    assert "mi300x (datasheet: " in said
    assert "kernels transferred from h100-sxm" in said
    assert "kernels by datasheet" in said


def test_studies_say_what_their_front_rests_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = study("mi300x")
    assert "mi300x (datasheet" in front_caveat(result)
    show_result(result, tmp_path)
    assert f"on the front, {front_caveat(result)}" in capsys.readouterr().out
    page = render_report(result)
    assert page.count("coefficients are not fitted to mi300x (datasheet") == 3


def test_studies_on_fitted_coefficients_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = study("h100-sxm")
    assert front_caveat(result) == ""
    show_result(result, tmp_path)
    assert "not fitted" not in capsys.readouterr().out
    assert "not fitted" not in render_report(result)


def test_commands_say_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model", "llama-3.1-8b", "--tp", "1", "--requests", "20", "--accelerator")
    assert dse(monkeypatch, "simulate", *options, "l4") == 0
    assert "· vllm-0.15 transferred from h100-sxm, kernels transferred from l40s" in capsys.readouterr().out
    assert dse(monkeypatch, "simulate", *options, "mi300x", "--json") == 0
    (pool,) = json.loads(capsys.readouterr().out)["pools"]
    assert pool["calibrated"] == "datasheet"
    assert pool["coefficients"]["kernels"]["calibrated"] == "datasheet"
    assert pool["coefficients"]["engine"]["name"] == "vllm-0.15"
    assert dse(monkeypatch, "fit", "llama-3.1-8b", "--gpu", "h100-sxm", "--gpu", "l4", "--tp", "1") == 0
    said = capsys.readouterr().out
    assert "coefficients are not fitted to l4 (transferred" in said
    assert "not fitted to h100-sxm" not in said
    assert dse(monkeypatch, "fit", "llama-3.1-8b", "--gpu", "mi300x", "--tp", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["calibrated"] == "datasheet"
    assert dse(monkeypatch, "explain", "--model", "llama-3.1-8b", "--accelerator", "l4", "--tp", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pools"][0]["calibrated"] == "transferred"
