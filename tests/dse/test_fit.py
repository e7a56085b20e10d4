"""What fits: against memory counted by hand, the memory and steps of the simulator, and a simulated overload."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pytest

from dse.cli.main import main
from dse.explain import Fit, FitRequest, NoFit, fit
from dse.explain.fitting import blocks_per_request, degrees_of, steady_state
from simulator import Deployment, Pool, Requests, SpecError, catalog, simulate
from simulator.performance.engine import engine_of
from simulator.performance.explanation import StepLoad, explain_prompt, explain_step, request_seconds


def dse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["dse", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def only(found: list[Fit | NoFit]) -> Fit:
    (one,) = found
    assert isinstance(one, Fit)
    return one


def test_memory_is_that_counted_by_hand() -> None:
    one = only(fit(FitRequest("llama-3.1-8b"), ["h100-sxm"], tp=1))
    # 32 layers of attention, feed-forward and two norms; two tables of 128,256 tokens and the last norm; 2 bytes each.
    layer = 4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14336 + 2 * 4096
    weights = 2 * (32 * layer + 2 * 128256 * 4096 + 4096)
    # A step of 2,048 tokens: four hidden vectors and three inner ones; and 1.5 GB for the runtime.
    working = 2048 * 2 * (4 * 4096 + 3 * 14336) + 1.5e9
    allowed = 0.9 * 81559 * 2**20
    assert one.weight_bytes == pytest.approx(weights)
    assert one.working_bytes == pytest.approx(working)
    assert one.kv_bytes == pytest.approx(allowed - weights - working)
    # Keys and values of 8 heads of 128 in 32 layers: 131,072 bytes a token, in blocks of 16.
    assert one.kv_tokens == (allowed - weights - working) // (16 * 131072) * 16
    blocks = one.kv_tokens // 16
    assert one.kv_requests == (blocks - blocks // 100) // 80  # 1 % is kept free; 1,280 tokens are 80 blocks
    assert (one.requests, one.limit) == (256, "batch limit")


def test_fp8_halves_kv_and_weights() -> None:
    wide = only(fit(FitRequest("llama-3.1-8b"), ["h100-sxm"], tp=1))
    narrow = only(fit(FitRequest("llama-3.1-8b", weights="fp8", kv="fp8"), ["h100-sxm"], tp=1))
    tables = 2 * 2 * 128256 * 4096
    assert narrow.weight_bytes - tables == pytest.approx((wide.weight_bytes - tables) / 2)
    assert narrow.kv_tokens / narrow.kv_bytes == pytest.approx(2 * wide.kv_tokens / wide.kv_bytes, rel=1e-3)


def test_times_alone_are_those_of_the_steps() -> None:
    one = only(fit(FitRequest("llama-3.1-8b", prompt_tokens=3000, output_tokens=400), ["h100-sxm"], tp=2))
    engine = engine_of(one.pool)
    assert one.ttft_s == pytest.approx(explain_prompt(engine, 3000, 2048).seconds + request_seconds(engine))
    assert one.tpot_alone_s == pytest.approx(explain_step(engine, "", StepLoad((), 1, 3200)).seconds)
    assert one.tpot_s > one.tpot_alone_s
    assert one.tokens_per_s_per_request == pytest.approx(1 / one.tpot_s)
    usd = 2 * catalog.accelerator("h100-sxm").price_usd_per_hour
    assert one.usd_per_million_output_tokens == pytest.approx(usd / (one.tokens_per_s * 3600) * 1e6)


@pytest.mark.parametrize(
    ("model", "gpu", "prompt", "output", "most"),
    [
        ("llama-3.1-8b", "h100-sxm", 256, 256, 0.12),
        ("llama-3.1-8b", "l4", 1024, 256, 0.12),
        ("llama-3.1-8b", "l40s", 4000, 200, 0.12),
        ("llama-3.1-8b", "a100-80gb", 100, 1000, 0.12),
    ],
)
def test_throughput_at_full_is_that_of_a_simulated_overload(
    model: str, gpu: str, prompt: int, output: int, most: float
) -> None:
    """All requests wait from the beginning: what the client serves between its first and last hour is all it can."""
    one = only(fit(FitRequest(model, prompt_tokens=prompt, output_tokens=output), [gpu], tp=1))
    count = 12 * one.requests
    requests = Requests(np.zeros(count), np.full(count, prompt), np.full(count, output))
    result = simulate(Deployment(pools=(one.pool,)), requests)
    ends = np.sort(result.e2e_s)
    low, high = 3 * one.requests, 9 * one.requests
    served = (high - low) * output / (ends[high] - ends[low])
    assert one.tokens_per_s == pytest.approx(served, rel=most)


def test_the_steady_state_balances() -> None:
    request = FitRequest("llama-3.1-8b", prompt_tokens=1000, output_tokens=101)
    decodes, loads = steady_state(request, 100, 2048)
    assert decodes == pytest.approx(100 / 1.01)
    assert sum(share for share, _ in loads) == pytest.approx(1)
    # Prompt tokens of a mean step: one prompt for every hundred decodes.
    assert sum(share * load.prompt_tokens for share, load in loads) == pytest.approx(decodes * 10, rel=0.02)
    # 2,048 tokens a step are not enough for 1,000 decodes, each of which brings ten tokens of a prompt.
    decodes, loads = steady_state(request, 1000, 2048)
    assert decodes == pytest.approx(2048 / 11)
    assert loads[0][1].tokens(0) <= 2048


def test_windows_and_states_take_blocks() -> None:
    plain = Pool.parse({"model": "llama-3.1-8b", "accelerator": "h100-sxm"})
    assert blocks_per_request(plain, 1280) == 80
    assert blocks_per_request(plain, 1281) == 81
    # Half of Gemma 2's layers see 4,096 tokens: these count as much again, up to the window.
    gemma = Pool.parse({"model": "gemma-2-9b", "accelerator": "h100-sxm"})
    assert blocks_per_request(gemma, 1600) == 200
    assert blocks_per_request(gemma, 8192) == 512 + 256


def test_degrees_follow_heads_and_links() -> None:
    assert degrees_of(FitRequest("llama-3.1-8b"), "h100-sxm") == [1, 2, 4, 8]
    with pytest.raises(SpecError, match="generates no tokens"):
        degrees_of(FitRequest("bge-large-en"), "h100-sxm")
    with pytest.raises(SpecError, match="--output-tokens: must be at least 2"):
        FitRequest("llama-3.1-8b", output_tokens=1)
    with pytest.raises(SpecError, match="tp: 3 does not divide"):
        fit(FitRequest("llama-3.1-8b"), ["h100-sxm"], tp=3)


def test_what_does_not_fit_says_what_would() -> None:
    one, two, *_ = fit(FitRequest("llama-3.1-70b"), ["h100-sxm"])
    assert isinstance(one, NoFit)
    assert isinstance(two, Fit)
    assert one.hint == "--tp 2 or --weights fp8"
    # 141.1 GB of weights, working memory and 2,048 tokens of KV in 77 GB.
    assert one.shortage_bytes == pytest.approx(66.8e9, rel=0.01)
    (large,) = fit(FitRequest("llama-3.1-405b"), ["v100-16gb"], tp=8)
    assert isinstance(large, NoFit)
    assert large.hint == ""


def test_a_request_longer_than_the_kv_does_not_fit() -> None:
    (one,) = fit(FitRequest("llama-3.1-8b", prompt_tokens=60_000), ["l4"], tp=1)
    assert isinstance(one, NoFit)
    assert "one request of 60,256 needs more" in str(one.error)
    assert one.hint.startswith("--tp 2")


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert dse(monkeypatch, "fit", "llama-3.1-8b", "--gpu", "h100-sxm", "--gpu", "v100-16gb") == 0
    said = capsys.readouterr().out
    assert [line.split()[:2] for line in said.splitlines()[2:10]] == [
        [gpu, f"TP{tp}"] for gpu in ("h100-sxm", "v100-16gb") for tp in (1, 2, 4, 8)
    ]
    assert "v100-16gb TP1: 2.6 GB missing on each; fits with --tp 2 or --weights fp8" in said
    assert dse(monkeypatch, "fit", "llama-3.1-8b", "--gpu", "h100-sxm", "--tp", "1", "--json") == 0
    (data,) = json.loads(capsys.readouterr().out)
    assert data["fits"]
    assert data["requests"] == 256
    assert data["bound"] == "compute"
    # One client that does not fit is an error; a table without any that does ends with exit code 3.
    assert dse(monkeypatch, "fit", "llama-3.1-70b", "--gpu", "h100-sxm", "--tp", "1") == 2
    printed = capsys.readouterr()
    assert "needs 143.8 GB" in printed.err
    assert "(fits with --tp 2 or --weights fp8)" in printed.err
    assert dse(monkeypatch, "fit", "llama-3.1-405b", "--gpu", "v100-16gb", "--gpu", "a10g") == 3
    assert dse(monkeypatch, "fit", "llama-3.1-70b", "--gpu", "h100-sxm", "--tp", "1", "--json") == 3
    assert dse(monkeypatch, "fit", "llama-3.1-8b", "--gpu", "h1000") == 2
    assert "h1000" in capsys.readouterr().err
    assert dse(monkeypatch, "fit", "llama-3.1-8b", "--gpu", "h100-sxm", "--weights", "fp3") == 2


def test_all_accelerators_take_a_moment() -> None:
    request = FitRequest("llama-3.1-70b", weights="fp8", kv="fp8", prompt_tokens=8000, output_tokens=500)
    fit(request, ["h100-sxm"])
    begin = time.process_time()
    found = fit(request, catalog.accelerator_names())
    assert time.process_time() - begin < 3  # 0.3 s on an idle machine
    assert {each.pool.accelerator for each in found} == set(catalog.accelerator_names())
