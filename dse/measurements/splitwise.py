"""Prompt and token times of an engine of 2023: ``splitwise_prompt_and_token_time.csv`` of the reference measurements.

Batches of equal prompts that are read together and decoded together (Patel et al., "Splitwise", ISCA 2024, section 3:
vLLM on servers with eight A100 or H100).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dse.measurements.measured_run import MeasuredRun
from simulator import Deployment, Requests

ACCELERATORS = {"a100-80gb": "a100-80gb", "h100-80gb": "h100-sxm"}
MODELS = {"llama2-70b": "llama-2-70b", "bloom-176b": "bloom-176b"}

STOPPED_EARLY_TOKENS = 1024
"""Rows that ask for so many tokens or more ended before."""

BLOCK_TOKENS = 16


def read_splitwise(path: str | Path) -> list[MeasuredRun]:
    """Return one run for each batch.

    Parameters
    ----------
    path
        The CSV file. Of rows that stopped early only the time of a token is used.
    """
    return [_run(row) for _, row in pd.read_csv(path).iterrows()]


def _run(row: pd.Series) -> MeasuredRun:
    prompt, batch, output = int(row["prompt_tokens"]), int(row["batch_size"]), int(row["output_tokens"])
    tokens = prompt * batch
    pool = {
        "model": MODELS[row["model"]],
        "accelerator": ACCELERATORS[row["hardware"]],
        "tp": int(row["tp"]),
        "engine": "splitwise-2023",
        "batching": {"policy": "static", "max_batch_requests": batch, "token_budget_tokens": tokens},
        "kv_memory": {"blocks": batch * -(-(prompt + output) // BLOCK_TOKENS), "watermark": 0.0},
    }
    early = output >= STOPPED_EARLY_TOKENS
    figures = {} if early else {"ttft_mean_s": float(row["prompt_time_ms"]) / 1e3}
    figures["tpot_mean_s"] = float(row["token_time_ms"]) / 1e3
    return MeasuredRun(
        name=f"{row['model']} {row['hardware']} tp{row['tp']}: {batch} x {prompt} + {output}",
        labels={
            "accelerator": str(pool["accelerator"]),
            "model": str(pool["model"]),
            "tp": str(row["tp"]),
            "engine": "splitwise-2023",
            "batch": "1" if batch == 1 else "more",
        },
        deployment=Deployment.parse({"pools": [pool]}),
        requests=Requests(
            arrival_ps=np.zeros(batch, dtype=np.int64),
            prompt_tokens=np.full(batch, prompt),
            output_tokens=np.full(batch, 128 if early else output),
        ),
        figures=figures,
    )
