"""TensorRT-LLM 0.14 serving a model online: ``trtllm014_online_llama31_8b.csv`` of the reference measurements.

500 requests arrive as a Poisson process, or all at once (``INF``); NVIDIA's performance overview gives mean lengths,
and means of what was measured, rounded to milliseconds. Answers of 256 and 16 tokens are taken to be of that length.
Those of 214 on average are not: all at once, the run lasts twice as long as its mean request, so that the longest
answers must have some 800 tokens. They are drawn from a gamma distribution whose largest of 500 is about that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dse.measurements.measured_run import MeasuredRun
from simulator import Deployment, Requests
from simulator.workload import PS_PER_S

ACCELERATORS = {"H100 80GB HBM3": "h100-sxm", "H200 131GB HBM3": "h200-sxm"}
MODELS = {"LLaMA 3.1 8B": "llama-3.1-8b"}
REQUESTS = 500
REPETITIONS = 4
"""Draws of the arrivals that are simulated one after the other, far enough apart not to meet."""

APART_S = 120.0
VARIED_TOKENS = 214
SHAPE = 3.0


def read_trtllm_online(path: str | Path, *, seed: int = 0) -> list[MeasuredRun]:
    """Return one run for each rate.

    Parameters
    ----------
    path
        The CSV file.
    seed
        Of the arrivals.
    """
    return [_run(row, seed) for _, row in pd.read_csv(path).iterrows()]


def _run(row: pd.Series, seed: int) -> MeasuredRun:
    accelerator, model = ACCELERATORS[row["gpu"]], MODELS[row["model"]]
    pool = {"model": model, "accelerator": accelerator, "tp": int(row["tp"]), "engine": "trtllm-0.14"}
    saturated = np.isinf(row["qps"])
    figures = {"tpot_mean_s": float(row["mean_itl_ms"]) / 1e3}
    if saturated:
        figures["output_tokens_per_s"] = float(row["out_tok_s"])
        arrival_s = np.zeros(REQUESTS)
    else:
        figures["ttft_mean_s"] = float(row["mean_ttft_ms"]) / 1e3
        gaps = np.random.default_rng(seed).exponential(1.0 / float(row["qps"]), (REPETITIONS, REQUESTS))
        gaps[1:, 0] += APART_S
        arrival_s = np.cumsum(gaps)
    count, mean = len(arrival_s), int(row["mean_osl"])
    output = np.full(count, mean)
    if mean == VARIED_TOKENS:
        output = np.maximum(1, np.random.default_rng(seed + 1).gamma(SHAPE, mean / SHAPE, count).round())
    return MeasuredRun(
        name=f"{accelerator} {row['mean_isl']}/{row['mean_osl']} at {row['qps']} requests/s",
        labels={
            "accelerator": accelerator,
            "model": model,
            "tp": str(row["tp"]),
            "engine": "trtllm-0.14",
            "lengths": f"{row['mean_isl']}/{row['mean_osl']}",
            "qps": str(row["qps"]),
        },
        deployment=Deployment.parse({"pools": [pool]}),
        requests=Requests(
            arrival_ps=np.rint(arrival_s * PS_PER_S).astype(np.int64),
            prompt_tokens=np.full(count, int(row["mean_isl"])),
            output_tokens=output,
        ),
        figures=figures,
    )
