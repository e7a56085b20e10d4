"""Hand-overs of KV against Mooncake's measurements: sizes, the shipped coefficients, and each run by the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dse.calibration.kv_transfer import LEAST_TOKENS, fit_hand_over, hand_over_s
from dse.measurements.kv_transfer import Transfers, read_transfers
from simulator import Deployment, Pool, SpecError
from simulator.lowering.pools import hand_over_ps
from simulator.performance.engine import Engine, engine_of
from simulator.performance.kv_transfer import LAYER_S, NETWORK_SHARE, hand_over_bytes

MODELS = {"Qwen3-8B": "qwen3-8b", "Qwen3-235B-A22B BF16": "qwen3-235b-a22b"}


@pytest.fixture(scope="module")
def runs(reference: Path) -> list[tuple[Transfers, Engine]]:
    found = read_transfers(reference / "stages" / "mooncake_pd_kv_transfer.csv")
    assert [run.model for run in found] == sorted(MODELS)
    pools = [Pool.parse({"model": MODELS[run.model], "accelerator": "h200-sxm", "tp": 8}) for run in found]
    return [(run, engine_of(pool)) for run, pool in zip(found, pools, strict=True)]


def errors(run: Transfers, predicted_s: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(predicted_s / run.seconds - 1)[run.prompt_tokens >= LEAST_TOKENS]


def test_sizes_are_those_of_the_catalogued_models(runs: list[tuple[Transfers, Engine]]) -> None:
    """Qwen3-235B's 4 heads lie on 8 ranks and are sent twice. Qwen3-8B's sizes are in MiB, or 1000 to the GiB."""
    for run, engine in runs:
        long = run.prompt_tokens >= LEAST_TOKENS
        ratio = (run.prompt_tokens * hand_over_bytes(engine)[0] / 1e6 / run.size_mb)[long]
        most = 1.01 if "235B" in run.model else 2**30 / 1e9 + 0.01
        assert np.all((ratio > 0.99) & (ratio < most))


def test_the_shipped_coefficients_are_the_fit(runs: list[tuple[Transfers, Engine]]) -> None:
    share, layer_s = fit_hand_over(runs)
    assert pytest.approx(share, rel=0.01) == NETWORK_SHARE
    assert pytest.approx(layer_s, rel=0.01) == LAYER_S
    for run, engine in runs:
        assert np.median(errors(run, hand_over_s(run, engine, NETWORK_SHARE, LAYER_S))) <= 0.06


@pytest.mark.parametrize("held_out", [0, 1])
def test_one_run_predicts_the_other(held_out: int, runs: list[tuple[Transfers, Engine]]) -> None:
    """Another model, engine, network and number of layers: medians 10 and 8 %."""
    fitted = fit_hand_over([runs[1 - held_out]])
    run, engine = runs[held_out]
    found = errors(run, hand_over_s(run, engine, *fitted))
    assert np.median(found) <= 0.10
    assert found.max() <= 0.13


def test_long_prompts_from_short_ones(runs: list[tuple[Transfers, Engine]]) -> None:
    """Fitted up to 4k tokens, tested beyond."""
    for run, engine in runs:
        short = run.prompt_tokens <= 4096
        part = Transfers(
            run.model,
            run.engine,
            run.hardware,
            run.network_gb_per_s,
            run.prompt_tokens[short],
            run.size_mb[short],
            run.seconds[short],
        )
        found = np.abs(hand_over_s(run, engine, *fit_hand_over([(part, engine)])) / run.seconds - 1)
        assert np.median(found[~short]) <= 0.10


def test_the_simulator_hands_over_in_the_measured_time(runs: list[tuple[Transfers, Engine]]) -> None:
    """H200 servers have 8 × 50 GB/s; the measured ones 200 GB/s, so bytes take half as long."""
    for run, engine in runs:
        both = {"model": engine.model.name, "accelerator": "h200-sxm", "tp": 8}
        deployment = Deployment.parse(
            {"pools": [both | {"name": "in", "role": "prefill"}, both | {"name": "out", "role": "decode"}]}
        )
        start_ps, token_ps = hand_over_ps(deployment.pools[0], deployment)
        predicted = start_ps * 1e-12 + run.prompt_tokens * token_ps * 1e-12 * (400 / run.network_gb_per_s)
        assert np.median(errors(run, predicted)) <= 0.06


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="absent"):
        read_transfers(tmp_path / "absent.csv")
    (tmp_path / "bad.csv").write_text("model,engine\na,b\n")
    with pytest.raises(SpecError, match="bad"):
        read_transfers(tmp_path / "bad.csv")
