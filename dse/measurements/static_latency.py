"""End-to-end latency of single requests: ``llama2_latency_a100_batch1_200in_200out.csv`` of the reference measurements.

NVIDIA's figures for Llama-2 on A100, one request of 200 tokens and an answer of 200, as used by arXiv:2407.14645.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dse.measurements.measured_run import MeasuredRun
from simulator import Deployment, Requests

PROMPT_TOKENS = OUTPUT_TOKENS = 200
ACCELERATORS = {"A100": "a100-80gb"}
MODELS = {"Llama 2-7B": "llama-2-7b", "Llama 2-13B": "llama-2-13b", "Llama 2-70B": "llama-2-70b"}


def read_static_latency(path: str | Path) -> list[MeasuredRun]:
    """Return one run for each model and degree of tensor parallelism."""
    return [_run(row) for _, row in pd.read_csv(path).iterrows()]


def _run(row: pd.Series) -> MeasuredRun:
    accelerator, model, tp = ACCELERATORS[row["device"]], MODELS[row["model"]], int(row["TP"])
    pool = {"model": model, "accelerator": accelerator, "tp": tp, "engine": "nemo-2024"}
    return MeasuredRun(
        name=f"{model} {accelerator} tp{tp}",
        labels={"accelerator": accelerator, "model": model, "tp": str(tp), "engine": "nemo-2024"},
        deployment=Deployment.parse({"pools": [pool]}),
        requests=Requests(
            arrival_ps=np.zeros(1, dtype=np.int64),
            prompt_tokens=np.array([PROMPT_TOKENS]),
            output_tokens=np.array([OUTPUT_TOKENS]),
        ),
        figures={"e2e_mean_s": float(row["actual"])},
    )
