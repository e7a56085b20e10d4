"""Power against LLM-Inference-Bench and Splitwise: the shipped shares, and each accelerator and model by the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dse.calibration.power import Drawn, drawn, fit_power
from dse.measurements.power import TAIL_S, read_inference_bench, read_prompt_peaks, read_splitwise_power
from dse.validation.reference.power import FILES
from simulator import SpecError
from simulator.performance.power import ACCELERATORS, PowerShares


@pytest.fixture(scope="module")
def measured(reference: Path) -> Drawn:
    bench, splitwise = (reference / file for file in FILES)
    return drawn([*read_inference_bench(bench), *read_splitwise_power(splitwise)])


def median_error(some: Drawn, shares: PowerShares) -> float:
    return float(np.median(np.abs(100 * (some.predicted_w(shares) / some.measured_w - 1))))


def held_out(measured: Drawn, label: str) -> dict[str, float]:
    values = measured.labels(label)
    return {
        value: median_error(
            measured.where([each == value for each in values]),
            fit_power(measured.where([each != value for each in values])),
        )
        for value in dict.fromkeys(values)
    }


def test_what_is_read(measured: Drawn) -> None:
    sources = measured.labels("source")
    assert {name: sources.count(name) for name in sources} == {"LLM-Inference-Bench": 40, "Splitwise": 27}
    # Throughput of the file counts prompts, too.
    first = measured.samples[0].run
    assert first.figures["output_tokens_per_s"] == pytest.approx(146.528 / 2, rel=1e-4)
    # 222 W are the mean of 14 s of work and one of idling at 60 W.
    work_s = measured.samples[0].seconds
    assert (measured.samples[0].watts * work_s + 60 * TAIL_S) / (work_s + TAIL_S) == pytest.approx(222.1, rel=0.002)
    # No resource is in use for longer than was measured; the share that kernels reach is 6 % uncertain.
    assert 0 < measured.compute.min() < measured.compute.max() < 1
    assert 0 < measured.memory.min() < measured.memory.max() < 1.06


def test_prompts_reach_the_limit(reference: Path) -> None:
    """Why arithmetic and steps together draw all of the dynamic range."""
    peaks = read_prompt_peaks(reference / FILES[1])
    assert len(peaks) == 22
    assert np.median(peaks) == pytest.approx(1.0, abs=0.03)
    assert ACCELERATORS.active + ACCELERATORS.compute == pytest.approx(1.0)


def test_the_shipped_shares_are_the_fit(measured: Drawn) -> None:
    """Kernels' coefficients are in the work; when they are refitted the shares move a little."""
    again = fit_power(measured)
    for name, share in vars(ACCELERATORS).items():
        assert getattr(again, name) == pytest.approx(share, abs=0.08), name
    assert median_error(measured, ACCELERATORS) <= 8
    assert median_error(measured, PowerShares(0.0, 0.9, 0.55)) >= 25, "the shares by hand that were shipped before"


@pytest.mark.parametrize(
    ("label", "bar"),
    [
        ("accelerator", {"a100-40gb": 17.0, "h100-sxm": 7.0, "a100-80gb": 6.0}),
        ("model", {"llama-2-7b": 14.0, "llama-3.1-8b": 14.0, "bloom-176b": 9.0, "llama-2-70b": 16.0}),
        ("engine", {"vLLM": 10.0, "TensorRT-LLM": 12.0, "Deepspeed-MII": 23.0, "splitwise-2023": 6.0}),
    ],
)
def test_each_is_predicted_by_the_others(label: str, bar: dict[str, float], measured: Drawn) -> None:
    found = held_out(measured, label)
    assert set(found) == set(bar)
    for name, error in found.items():
        assert error <= bar[name], name


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    columns = "Hardware,Num of Hardware,Framework,Model,Input Output Length,Batch Size,Latency,Throughput,avg_power"
    path.write_text(f"{columns}\nNvidia A100 GPU,1,vLLM,gpt-5,1024,1,1,2048,200000\n")
    with pytest.raises(SpecError, match="unknown 'gpt-5'; allowed: meta-llama"):
        read_inference_bench(path)
    path.write_text("Hardware\nNvidia A100 GPU\n")
    with pytest.raises(SpecError, match="no column Framework"):
        read_inference_bench(path)
