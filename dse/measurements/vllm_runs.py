"""Runs of vLLM 0.15 on H100 at constant rates: ``vllm015_h100_runs.csv`` of the reference measurements.

The load generator (inference-perf) sends the prompts of some users in turn: a system prompt that some of them share,
and a question. Two things are read off the measurements. Every user's prompt comes again with the same text: the time
to first token is that of a step without a prompt, but for one request in thirty of a first rate step. And arrivals are
a Poisson process of constant rate: end-to-end latencies spread as the batch does then, ten times as much as at equal
gaps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dse.measurements.measured_run import MeasuredRun
from simulator import Deployment, Requests
from simulator.errors import SpecError
from simulator.workload import PS_PER_S
from simulator.workload.prefixes import Prefixes

CHUNK_TOKENS = 16

MODELS = {
    "RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic": "llama-4-scout",
    "meta-llama/Llama-3.1-70B-Instruct": "llama-3.1-70b",
    "mistralai/Mistral-Nemo-Instruct-2407": "mistral-nemo-12b",
    "Qwen/Qwen2.5-7B-Instruct": "qwen2.5-7b",
    "01-ai/Yi-34B": "yi-34b",
    "meta-llama/Llama-2-7b-hf": "llama-2-7b",
}


def read_vllm_runs(path: str | Path, *, seed: int = 0) -> list[MeasuredRun]:
    """Return one run for each rate step; what a row does not say is that of others with the same workload.

    Parameters
    ----------
    path
        The CSV file. Rows of whole runs (``stage`` −1) repeat those of the steps and are left out.
    seed
        Of the arrivals.

    Raises
    ------
    SpecError
        If a column or model is unknown.
    """
    frame = pd.read_csv(path)
    missing = {"run", "stage", "model", "tp", "workload", "e2e_mean_ms"} - set(frame.columns)
    if missing:
        raise SpecError(f"{path}: no column {', '.join(sorted(missing))}; allowed: the columns of the vLLM 0.15 runs")
    shape = ["system_prompt_len", "question_len", "output_len", "num_unique_system_prompts"]
    shape += ["num_users_per_system_prompt", "stages_rate_rps_x_duration_s", "max_num_seqs"]
    filled = frame[shape].astype(object).fillna(frame.groupby("workload")[shape].transform("first").astype(object))
    guessed = frame["system_prompt_len"].isna()
    frame[shape] = filled
    steps = frame[frame["stage"] >= 0]
    requests = {run: _requests(rows.iloc[0], seed) for run, rows in steps.groupby("run")}
    missing_length = guessed[steps.index]
    rows = (row for _, row in steps.iterrows())
    return [_run(path, row, requests[row["run"]], bool(guess)) for row, guess in zip(rows, missing_length, strict=True)]


def _steps(row: pd.Series) -> list[tuple[float, float]]:
    """Return rate and duration of each rate step."""
    pairs = (step.split("x") for step in row["stages_rate_rps_x_duration_s"].split(";"))
    return [(float(rate), float(duration)) for rate, duration in pairs]


def _run(path: str | Path, row: pd.Series, requests: Requests, guessed: bool) -> MeasuredRun:
    if row["model"] not in MODELS:
        raise SpecError(f"{path}: unknown model {row['model']!r}; allowed: {', '.join(MODELS)}")
    model, stage = MODELS[row["model"]], int(row["stage"])
    steps = _steps(row)
    pool = {
        "model": model,
        "accelerator": "h100-sxm",
        "tp": int(row["tp"]),
        "weights": "fp8" if row["precision"] == "FP8" else "bf16",
        "engine": "vllm-0.15",
        "batching": {
            "token_budget_tokens": int(row["max_num_batched_tokens"]),
            "max_batch_requests": int(row["max_num_seqs"]),
        },
        "prefix_cache": {},
    }
    if not np.isnan(row["total_kv_blocks"]):
        pool["kv_memory"] = {"blocks": int(row["total_kv_blocks"])}
    begin = sum(duration for _, duration in steps[:stage])
    figures = {
        f"{metric}_{statistic}_s": float(row[f"{metric}_{statistic}_ms"]) / 1e3
        for metric in ("e2e", "ttft")
        for statistic in ("mean", "p90", "p99")
    }
    figures["tpot_mean_s"] = (figures["e2e_mean_s"] - figures["ttft_mean_s"]) / (int(row["output_len"]) - 1)
    return MeasuredRun(
        name=f"{row['run']} stage {stage}",
        labels={
            "accelerator": "h100-sxm",
            "model": model,
            "tp": str(row["tp"]),
            "engine": "vllm-0.15",
            "workload": row["workload"],
        },
        deployment=Deployment.parse({"pools": [pool]}),
        requests=requests,
        figures=figures,
        begin_s=begin,
        end_s=begin + steps[stage][1],
        notes=("lengths and rates of other runs of this workload",) if guessed else (),
    )


def _requests(row: pd.Series, seed: int) -> Requests:
    """Return the requests of all rate steps: users in turn, each with a prompt of its own that comes again."""
    begin, arrivals = 0.0, []
    random = np.random.default_rng(seed)
    for rate, duration in _steps(row):
        # Given their number, the arrivals of a Poisson process are spread evenly and independently.
        arrivals.append(begin + np.sort(random.uniform(0.0, duration, round(rate * duration))))
        begin += duration
    arrival_s = np.concatenate(arrivals)
    system, question = int(row["system_prompt_len"]), int(row["question_len"])
    groups, users = int(row["num_unique_system_prompts"]), int(row["num_users_per_system_prompt"])
    user = np.arange(len(arrival_s)) % (groups * users)
    shared, whole = system // CHUNK_TOKENS, (system + question) // CHUNK_TOKENS
    own = whole - shared
    chunks = [
        np.concatenate([np.arange(shared) + (each % groups) * shared, np.arange(own) + groups * shared + each * own])
        for each in range(groups * users)
    ]
    return Requests(
        arrival_ps=np.rint(arrival_s * PS_PER_S).astype(np.int64),
        prompt_tokens=np.full(len(arrival_s), system + question),
        output_tokens=np.full(len(arrival_s), int(row["output_len"])),
        prefixes=Prefixes(
            chunk_tokens=CHUNK_TOKENS,
            chunks=np.concatenate(chunks).astype(np.int32),
            chunk_first=(user * whole).astype(np.int64),
            prompt_chunks=np.full(len(arrival_s), whole, dtype=np.int32),
            all_chunks=np.full(len(arrival_s), whole, dtype=np.int32),
        ),
    )
