"""A run of vLLM 0.19 with the times of every request: ``llmservingsim_rtx4090`` of the reference measurements.

(LLMServingSim, casys-kaist: ShareGPT prompts on one RTX 4090, whose KV cache is far too small for the load.)
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from dse.measurements.measured_run import MeasuredRun
from simulator import Deployment, Requests, catalog
from simulator.workload import PS_PER_S

MODELS = {"meta-llama/Llama-3.1-8B": "llama-3.1-8b"}


def read_llmservingsim(folder: str | Path) -> list[MeasuredRun]:
    """Return the run of a folder with ``vllm/meta.json`` and ``vllm/requests.jsonl``: requests as the engine got them.

    Times are the engine's own, from ``queued_ts`` on: what its server adds is not in them.
    """
    vllm = Path(folder) / "vllm"
    meta = json.loads((vllm / "meta.json").read_text(encoding="utf-8"))
    rows = pd.read_json(vllm / "requests.jsonl", lines=True).sort_values("queued_ts", kind="stable")
    settings, model = meta["engine_kwargs"], MODELS[meta["model"]]
    pool = {
        "model": model,
        "accelerator": "rtx-4090",
        "engine": catalog.engine_profile("vllm-0.19").model_copy(update={"request_us": 0.0}).model_dump(mode="json"),
        "batching": {
            "token_budget_tokens": settings["max_num_batched_tokens"],
            "max_batch_requests": settings["max_num_seqs"],
        },
        "kv_memory": {"blocks": meta["kv_cache"]["num_gpu_blocks"], "block_tokens": meta["kv_cache"]["block_size"]},
    }
    ttft = rows["first_token_ts"] - rows["queued_ts"]
    e2e = rows["last_token_ts"] - rows["queued_ts"]
    tpot = (rows["last_token_ts"] - rows["first_token_ts"]) / (rows["output_toks"] - 1)
    figures = {}
    for metric, values in (("ttft", ttft), ("tpot", tpot), ("e2e", e2e)):
        figures[f"{metric}_mean_s"] = float(values.mean())
        figures |= {f"{metric}_p{percent}_s": float(np.percentile(values, percent)) for percent in (50, 90, 99)}
    arrival_s = rows["queued_ts"].to_numpy() - rows["queued_ts"].iloc[0]
    return [
        MeasuredRun(
            name=f"{model} on rtx-4090",
            labels={"accelerator": "rtx-4090", "model": model, "tp": "1", "engine": "vllm-0.19"},
            deployment=Deployment.parse({"pools": [pool]}),
            requests=Requests(
                arrival_ps=np.rint(arrival_s * PS_PER_S).astype(np.int64),
                prompt_tokens=rows["input_toks"].to_numpy(),
                output_tokens=rows["output_toks"].to_numpy(),
            ),
            figures=figures,
            notes=("times inside the engine, without its server",),
        )
    ]
