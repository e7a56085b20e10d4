"""Runs of ``silicon_sample.csv``: what was served in each row, and the load.

What is in no row comes from public scripts: those of InferenceX (``benchmarks/*.sh``), and for NVIDIA's own rows the
rules by which aiconfigurator writes configurations to be benchmarked. The scripts are not dated like the rows, and not
every model and accelerator has one that was read. Three settings of NVIDIA's rows were told from the measurements, each
between two documented ones: steps of the size of the rules, not of the engines' defaults; SGLang's mixed steps on H200
alone; TensorRT-LLM's KV cache of 8 bits where weights have 8. No figure of the simulator was fitted to any row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dse.measurements.closed_loop import closed_loop
from dse.measurements.measured_run import MeasuredRun
from dse.measurements.silicon import read_silicon
from simulator import Deployment, catalog
from simulator.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

LARGEST_SPREAD: Final = 1.25
"""Rows whose equals were measured farther apart than this are left out: some setting is not in the file."""

PROFILES: Final = {"vllm": "vllm-0.15", "tensorrt-llm": "trtllm-0.14", "sglang": "sglang-0.5"}
"""The catalogued engine that stands for all versions."""

FALLBACK: Final = "vllm-0.15"
"""For engines that are not catalogued."""

CONFIGURATION: Final = ("accelerator", "model", "engine", "weights", "source", "parallel")
"""Labels that rows of one configuration share; they differ in lengths and concurrency."""

BANDS: Final = ((8, "to 8"), (32, "9 to 32"), (128, "33 to 128"))
"""Largest concurrency of a band, and its name."""

INTEGER_4: Final = {"int4": "fp4"}
"""Weights of 4 bits are moved alike, whatever they mean; Hopper multiplies in 16 bits."""

MIXED_SGLANG: Final = "h200-sxm"
"""NVIDIA's rows of SGLang on H200 come of generated configurations (``enable_mixed_chunk``), those on H100 do not."""

BESIDE_PROMPT: Final = 1500
"""Tokens of a step beside those of a prompt and of the batch, in configurations that aiconfigurator generates."""


@dataclass(frozen=True)
class Setting:
    """What an engine was started with and the file does not say.

    Attributes
    ----------
    policy, token_budget_tokens
        How steps are formed. TensorRT-LLM's steps hold whole prompts beside decodes, which chunked comes nearest to.
    kv
        Precision of the KV cache.
    memory_utilization
        Share of the memory for weights and KV.
    """

    policy: str
    token_budget_tokens: int
    kv: str = "bf16"
    memory_utilization: float = 0.9


def setting_of(row: Mapping[str, Any]) -> Setting:
    """Return what the scripts say of a row: InferenceX's ``benchmarks/``, and NVIDIA's generator of configurations.

    Parameters
    ----------
    row
        Of :func:`~dse.measurements.silicon.read_silicon`.
    """
    return _of_inferencex(row) if row["source"] == "inferencex" else _of_nvidia(row)


def _of_inferencex(row: Mapping[str, Any]) -> Setting:
    model, engine, prompt, users = row["model"], row["engine"], int(row["isl_tokens"]), int(row["concurrency"])
    blackwell = row["accelerator"] == "b200"
    if engine == "sglang":  # dsr1_fp8_h200.sh, dsr1_fp8_b200.sh, dsr1_fp4_b200.sh
        if row["weights"] == "fp4":
            return Setting("continuous", 16384, "fp8", 0.85)
        return Setting("continuous", 32768, "fp8" if blackwell else "bf16", 0.82)
    if engine == "tensorrt-llm":
        if model == "llama-3.1-70b":  # 70b_fp8_h200_trt_slurm.sh: as many tokens as the longest context
            return Setting("chunked", prompt + int(row["osl_tokens"]) + 200, "fp8")
        if model == "gpt-oss-120b":  # gptoss_fp4_h200_trt.sh, gptoss_fp4_b200_trt.sh
            return Setting("chunked", 20000, "fp8" if blackwell else "bf16", 0.85)
        return Setting("chunked", max(8192, users + prompt + 64), "fp8")  # dsr1_fp8_h200_trt.sh, dsr1_fp4_b200_trt.sh
    if model == "minimax-m2.5" and row["accelerator"] == "h200-sxm":  # minimaxm2.5_fp8_h200.sh
        return Setting("chunked", 16384 if users <= 32 else 32768, "fp8", 0.95)
    if model == "minimax-m2.5" and blackwell:  # minimaxm2.5_fp8_b200.sh
        return Setting("chunked", 8192, "bf16", 0.95)
    if model == "kimi-k2.5":  # kimik2.5_int4_h200.sh, kimik2.5_fp4_b200.sh
        return Setting("chunked", 8192, "bf16", 0.9 if blackwell else 0.95)
    # 70b_fp8_h100_slurm.sh, gptoss_fp4_h100.sh, gptoss_fp4_b200.sh, minimaxm2.5_fp8_h100.sh
    light = model == "llama-3.1-70b" or (model == "gpt-oss-120b" and blackwell)
    return Setting("chunked", 8192, "fp8" if light else "bf16")


def _of_nvidia(row: Mapping[str, Any]) -> Setting:
    """Return the settings of aiconfigurator's generator (``generator/rule_plugin/benchmark``), or engines' defaults."""
    if row["engine"] == "sglang":
        return Setting("chunked" if row["accelerator"] == MIXED_SGLANG else "continuous", 8192, "bf16", 0.88)
    # Weights of 8 bits come with a cache of 8 bits: 64 users with 4352 tokens, who all ran, have no room otherwise.
    light = row["engine"] == "tensorrt-llm" and row["weights"] == "fp8"
    budget = int(row["concurrency"]) + int(row["isl_tokens"]) + BESIDE_PROMPT
    return Setting("chunked", budget, "fp8" if light else "bf16")


def silicon_runs(frame: pd.DataFrame | None = None, *, sample: int | None = None, seed: int = 0) -> list[MeasuredRun]:
    """Return the usable rows as runs, in the order of the file.

    Parameters
    ----------
    frame
        From :func:`~dse.measurements.silicon.read_silicon`, or a part of it; all of the installed package's if None.
    sample
        How many rows, drawn at random; all if None or if there are no more.
    seed
        Of the sample and of the requests' lengths.

    Raises
    ------
    SpecError
        If the package is not installed, no row is usable, or a row cannot be a deployment.
    """
    frame = read_silicon() if frame is None else frame
    rows = frame[(frame["why_skipped"] == "") & (frame["tpot_spread"] < LARGEST_SPREAD)]
    if rows.empty:
        raise SpecError("silicon: no row can be used; see skipped() for the reasons")
    if sample is not None and sample < 1:
        raise SpecError(f"sample: must be at least 1, given {sample}")
    if sample is not None and sample < len(rows):
        chosen = np.random.default_rng(seed).choice(len(rows), sample, replace=False)
        rows = rows.iloc[np.sort(chosen)]
    return [_run({str(name): value for name, value in row.items()}, seed) for row in rows.to_dict("records")]


def _run(row: Mapping[str, Any], seed: int) -> MeasuredRun:
    source, engine, concurrency = row["source"], row["engine"], int(row["concurrency"])
    parallel = "tp{tp} pp{pp} dp{dp} ep{ep}".format(**row)
    lengths = f"{row['isl_tokens']}/{row['osl_tokens']}"
    figures = {"ttft_mean_s": float(row["ttft_ms"]) / 1e3}
    if row["osl_tokens"] > 1:
        figures["tpot_mean_s"] = float(row["tpot_ms"]) / 1e3
    what = f"{row['model']} {row['weights']}, {row['accelerator']}, {engine}, {parallel}"
    return MeasuredRun(
        name=f"{what}, {lengths}, {concurrency} users, {row['id']}",
        labels={
            "accelerator": row["accelerator"],
            "model": row["model"],
            "tp": str(row["tp"]),
            "parallel": parallel,
            "engine": engine,
            "version": str(row["engine_version"]),
            "weights": row["weights"],
            "source": source,
            "lengths": lengths,
            "concurrency": str(concurrency),
            "band": next((band for most, band in BANDS if concurrency <= most), f"above {BANDS[-1][0]}"),
        },
        deployment=Deployment.parse({"pools": [_pool(row, concurrency)]}, source=str(row["id"])),
        requests=closed_loop(
            concurrency,
            int(row["isl_tokens"]),
            int(row["osl_tokens"]),
            shortest_share=float(row["shortest_share"]),
            seed=seed,
        ),
        figures=figures,
        notes=() if source == "inferencex" else ("requests: not stated, taken to be ten a user",),
    )


def _pool(row: Mapping[str, Any], concurrency: int) -> dict[str, Any]:
    setting = setting_of(row)
    profile = PROFILES[row["engine"]]
    pool = {
        "model": row["model"],
        "accelerator": row["accelerator"],
        "tp": int(row["tp"]),
        "pp": int(row["pp"]),
        "dp": int(row["dp"]),
        "weights": INTEGER_4.get(row["weights"], row["weights"]),
        "kv": setting.kv,
        "engine": profile if profile in catalog.engine_names() else FALLBACK,
        "batching": {
            "policy": setting.policy,
            "max_batch_requests": concurrency,
            "token_budget_tokens": max(setting.token_budget_tokens, concurrency),
            "schedule_ahead": True,
        },
        "kv_memory": {"memory_utilization": setting.memory_utilization},
    }
    if row["ep"] > 1:
        pool["ep"] = int(row["ep"])
    return pool
