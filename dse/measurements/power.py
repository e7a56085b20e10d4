"""Power of accelerators under load: ``llm_inference_bench_power.csv`` and the power columns of
``splitwise_prompt_and_token_time.csv`` of the reference measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from dse.measurements.measured_run import MeasuredRun
from dse.measurements.splitwise import read_splitwise
from simulator import Deployment, Requests, SpecError, catalog

# 64 requests of Llama-2-7B have KV of 69 GB: beyond 16 of them the A100's latency grows as with 40 GB.
ACCELERATORS = {"Nvidia A100 GPU": "a100-40gb", "Nvidia H100 GPU": "h100-sxm"}
MODELS = {"meta-llama/Llama-2-7b-hf": "llama-2-7b", "meta-llama/Meta-Llama-3-8B": "llama-3.1-8b"}

TAIL_S = 1.0
"""How long LLM-Inference-Bench goes on sampling after the last token, by its source; the average holds it."""

LEAST_PROMPT_S = 0.2
"""A shorter phase is not longer than the time over which a GPU averages its power."""

MOST_PROMPT_TOKENS = 2048
"""With longer prompts Splitwise's average power falls to that of idle GPUs: it is not the token phase's."""


@dataclass(frozen=True, eq=False)
class PowerSample:
    """Average power of one accelerator over a phase.

    Attributes
    ----------
    run
        What was served, ``power_w`` among its figures; labels ``source``, ``accelerator``, ``model``, ``engine``.
    before
        The part of the run's requests that was done before the phase; None if the phase is the whole run.
    steps
        Equal steps that the run less ``before`` consists of.
    seconds
        Measured time of the phase, or of a step of it.
    """

    run: MeasuredRun
    seconds: float
    before: Requests | None = None
    steps: int = 1

    @property
    def watts(self) -> float:
        """Measured power."""
        return self.run.figures["power_w"]


def read_inference_bench(path: str | Path) -> list[PowerSample]:
    """Return the runs of LLM-Inference-Bench: a batch of equal prompts sent at once, on one GPU.

    Parameters
    ----------
    path
        The CSV file. Power is in milliwatts; throughput counts tokens of prompts, too.

    Raises
    ------
    SpecError
        If a column, GPU or model is unknown.
    """
    frame = pd.read_csv(path).dropna(how="all")
    _check_columns(path, frame, "Hardware", "Framework", "Model", "Input Output Length", "Batch Size", "avg_power")
    return [_bench_sample(path, row) for _, row in frame.iterrows()]


def _bench_sample(path: str | Path, row: pd.Series) -> PowerSample:
    accelerator = _known(path, row["Hardware"], ACCELERATORS)
    model = _known(path, row["Model"], MODELS)
    batch, length, seconds = int(row["Batch Size"]), int(row["Input Output Length"]), float(row["Latency"])
    averaged, idle = float(row["avg_power"]) / 1e3, catalog.accelerator(accelerator).idle_w
    run = MeasuredRun(
        name=f"{row['Framework']} {model} {accelerator}: {batch} x {length} + {length}",
        labels={
            "source": "LLM-Inference-Bench",
            "accelerator": accelerator,
            "model": model,
            "engine": str(row["Framework"]),
        },
        deployment=Deployment.parse({"pools": [{"model": model, "accelerator": accelerator}]}),
        requests=_at_once(batch, length, length),
        figures={
            "power_w": averaged + (averaged - idle) * TAIL_S / seconds,
            "output_tokens_per_s": batch * length / seconds,
        },
        notes=(f"power without the {TAIL_S:g} s of idling that the measured average holds",),
    )
    return PowerSample(run, seconds)


def read_splitwise_power(path: str | Path) -> list[PowerSample]:
    """Return the token phases of Splitwise's batches whose power was measured.

    Parameters
    ----------
    path
        The CSV file. Its average power is that of the token phase; zeros are absent values.
    """
    frame = _splitwise(path)
    return [
        _token_phase(run, float(row["average_power_frac_tdp"]))
        for run, (_, row) in zip(read_splitwise(path), frame.iterrows(), strict=True)
        if row["average_power_frac_tdp"] > 0 and row["prompt_tokens"] <= MOST_PROMPT_TOKENS
    ]


def read_prompt_peaks(path: str | Path) -> npt.NDArray[np.float64]:
    """Return the largest power sampled in each prompt phase of Splitwise that was long enough, shares of TDP."""
    frame = _splitwise(path)
    long = (frame["peak_power_frac_tdp"] > 0) & (frame["prompt_time_ms"] >= 1e3 * LEAST_PROMPT_S)
    return np.asarray(frame["peak_power_frac_tdp"][long], dtype=np.float64)


def _splitwise(path: str | Path) -> pd.DataFrame:
    frame = pd.read_csv(path)
    _check_columns(path, frame, "peak_power_frac_tdp", "average_power_frac_tdp", "prompt_tokens", "prompt_time_ms")
    return frame


def _token_phase(run: MeasuredRun, share: float) -> PowerSample:
    power_w = share * catalog.accelerator(run.labels["accelerator"]).tdp_w
    prompt, output = int(run.requests.prompt_tokens[0]), int(run.requests.output_tokens[0])
    phase = replace(
        run,
        name=f"{run.name}, token phase",
        labels={**run.labels, "source": "Splitwise"},
        figures={"power_w": power_w},
    )
    before = _at_once(len(run.requests.prompt_tokens), prompt, 1)
    return PowerSample(phase, run.figures["tpot_mean_s"], before, output - 1)


def _at_once(batch: int, prompt_tokens: int, output_tokens: int) -> Requests:
    return Requests(
        arrival_ps=np.zeros(batch, dtype=np.int64),
        prompt_tokens=np.full(batch, prompt_tokens),
        output_tokens=np.full(batch, output_tokens),
    )


def _known(path: str | Path, name: object, names: Mapping[str, str]) -> str:
    if name not in names:
        raise SpecError(f"{path}: unknown {name!r}; allowed: {', '.join(names)}")
    return names[str(name)]


def _check_columns(path: str | Path, frame: pd.DataFrame, *names: str) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise SpecError(f"{path}: no column {', '.join(missing)}; given: {', '.join(map(str, frame.columns))}")
