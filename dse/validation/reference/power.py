"""Power of accelerators: shares of their dynamic range fitted; each accelerator and model predicted by the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dse.validation.reference.row import Finding, Options, measured_frame

if TYPE_CHECKING:
    import pandas as pd

    from dse.calibration.power import Drawn
    from simulator.performance.power import PowerShares

FILES = ("engine/llm_inference_bench_power.csv", "engine/splitwise_prompt_and_token_time.csv")
BAR = {"power_w": 10.0}


def power(reference: Path, options: Options) -> list[Finding]:
    """LLM-Inference-Bench and Splitwise: all fitted, and each accelerator and model predicted by the others."""
    import pandas as pd

    from dse.calibration.power import drawn, fit_power
    from dse.measurements.power import read_inference_bench, read_splitwise_power

    del options
    bench, splitwise = (reference / file for file in FILES)
    measured = drawn([*read_inference_bench(bench), *read_splitwise_power(splitwise)])
    data = "power of A100 and H100 under vLLM, TensorRT-LLM, DeepSpeed-MII"
    shares = "shares of the dynamic range: steps, memory; arithmetic the rest"
    why = (
        "Times are the measured ones. On A100 DeepSpeed-MII draws up to a third more than TensorRT-LLM for the same "
        "work; TensorRT-LLM's 449 W on H100 for every batch from 16 on, and for both models, look limited or averaged."
    )
    found = [Finding("calibration", data, f"{shares}, to all of it", _frame(measured, fit_power(measured)), {}, why)]
    for label in ("accelerator", "model"):
        values = measured.labels(label)
        parts = []
        for left_out in dict.fromkeys(values):
            fitted = fit_power(measured.where([value != left_out for value in values]))
            parts.append(_frame(measured.where([value == left_out for value in values]), fitted))
        said = f"{shares}, to the other {label}s, each {label} in turn"
        found.append(Finding("validation", data, said, pd.concat(parts, ignore_index=True), BAR, why))
    return found


def _frame(measured: Drawn, shares: PowerShares) -> pd.DataFrame:
    names = [sample.run.name for sample in measured.samples]
    return measured_frame(names, measured.measured_w, measured.predicted_w(shares), metric="power_w")
