"""Is there noise of steps to be seen in measured tails? Not in these: profiles have none, and here is why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dse.measurements.llmservingsim import read_llmservingsim
from dse.measurements.measured_run import MeasuredRun
from dse.measurements.vllm_runs import read_vllm_runs
from dse.validation.predict import figures_of
from simulator import Deployment, Result, catalog, simulate

NOISE = (0.0, 0.1, 0.3, 0.5)
TAILS = ("e2e_p99_s", "ttft_p99_s")


def noisy(deployment: Deployment, cv: float) -> Deployment:
    pools = tuple(pool.model_copy(update={"step_noise_cv": cv}) for pool in deployment.pools)
    return deployment.model_copy(update={"pools": pools})


def tails(runs: Sequence[MeasuredRun]) -> pd.DataFrame:
    """Return the logarithm of predicted over measured P99 by run, metric and noise."""
    rows = []
    for cv in NOISE:
        seen: dict[int, Result] = {}
        for run in runs:
            key = id(run.requests)
            if key not in seen:
                seen[key] = simulate(noisy(run.deployment, cv), run.requests)
            found = figures_of(seen[key], TAILS, run.begin_s, run.end_s)
            rows += [(cv, run.labels["model"], name, np.log(found[name] / run.figures[name])) for name in TAILS]
    return pd.DataFrame(rows, columns=["cv", "model", "metric", "error"])


def least_biased(some: pd.DataFrame) -> float:
    """Return the noise with the smallest bias, the mean of both metrics."""
    bias = some.groupby(["cv", "metric"])["error"].median().abs()
    mean = bias.groupby("cv").mean()
    return NOISE[int(mean.to_numpy().argmin())]


def test_queueing_explains_the_tails_of_a_full_engine(reference: Path) -> None:
    """vLLM 0.19 on RTX 4090, requests one by one: P99 is right without noise, and noise hardly moves it."""
    found = tails(read_llmservingsim(reference / "engine" / "llmservingsim_rtx4090" / "Llama-3.1-8B"))
    quiet = found[found["cv"] == 0].set_index("metric")["error"]
    assert quiet.abs().max() <= 0.08
    moved = found.set_index(["cv", "metric"])["error"] - found["metric"].map(quiet).to_numpy()
    assert moved.abs().max() <= 0.04


def test_models_do_not_agree_on_the_noise_of_one_engine(reference: Path) -> None:
    """vLLM 0.15 on H100: what takes the bias of some models' P99 away makes the P99 of others worse."""
    found = tails(read_vllm_runs(reference / "engine" / "vllm015_h100_runs.csv"))
    chosen = {model: least_biased(found[found["model"] != model]) for model in found["model"].unique()}
    assert max(chosen.values()) - min(chosen.values()) >= 0.2
    held_out = pd.concat([found[(found["model"] == model) & (found["cv"] == cv)] for model, cv in chosen.items()])
    quiet = found[found["cv"] == 0]["error"].abs().median()
    assert held_out["error"].abs().median() >= quiet - 0.03


@pytest.mark.parametrize("name", catalog.engine_names())
def test_so_profiles_have_none(name: str) -> None:
    assert catalog.engine_profile(name).step_noise_cv == 0
