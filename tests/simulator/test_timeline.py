"""Series and traces against sums that the kernel and the requests give by other ways."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from simulator import Deployment, Requests, Result, SpecError, Workload, catalog, simulate
from simulator.kernel._compile import interpreted
from simulator.kernel.cost import knot_of
from simulator.kernel.layout import LAST_TOKENS
from simulator.timeline import series, write_perfetto
from simulator.timeline.activity import knots_of
from simulator.timeline.bins import Bins
from simulator.timeline.stays import visits_of
from simulator.workload import PS_PER_S
from tests.simulator.engines import REQUEST_S

PAGE = Path(__file__).parents[2] / "docs" / "timeline.md"
LENGTHS = {"statistics": "azure-2023-conversation"}
LOAD: dict[str, Any] = {
    "requests": 400,
    "arrivals": {"process": "gamma", "rate_rps": 12, "burstiness_cv": 2},
    "lengths": LENGTHS,
}
POOL: dict[str, Any] = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "clients": 2}
CPU = "xeon-gold-6448y"
RAG = [
    {"kind": "embed"},
    {"kind": "retrieve", "documents": 4, "tokens_per_document": 100},
    "prefill",
    "decode",
    {"kind": "detokenise", "us_per_request": 200_000},
]
SERVICES = [
    {"stage": "embed", "device": "l4", "max_wait_ms": 20},
    {"stage": "retrieve", "device": CPU, "max_batch_requests": 8},
    {"stage": "detokenise", "device": CPU, "max_batch_requests": 1},
    {"stage": "detokenise", "device": CPU, "max_batch_requests": 2, "clients": 2},
]
SPLIT = [
    {**POOL, "name": "reads", "role": "prefill", "clients": 1},
    {**POOL, "name": "writes", "role": "decode", "batching": {"max_batch_requests": 8}},
]
TIGHT = {**POOL, "clients": 1, "kv_memory": {"blocks": 1400}}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one pool": ({"pools": [{**POOL, "batching": {"policy": "chunked", "max_batch_requests": 16}}]}, {}),
    "static": ({"pools": [{**POOL, "batching": {"policy": "static", "max_batch_requests": 16}}]}, {}),
    "preempted": ({"pools": [TIGHT]}, {}),
    "speculative": ({"pools": [{**POOL, "speculation": {"draft_tokens": 3, "acceptance": 0.7}}]}, {}),
    "split": ({"pools": SPLIT}, {}),
    "services": ({"pools": SPLIT, "services": SERVICES, "link": {"shared": True}}, {"pipeline": RAG}),
    "tiers": (
        {
            "pools": [{**POOL, "prefix_cache": {}}],
            "tiers": [{"name": "host", "clients": 1, "memory_gb": 64, "gb_per_s": 20}],
        },
        {"session": {"turns": 3, "wait_s": 2.0, "prompt_tokens": 300}, "requests": 100},
    ),
    "cascade": (
        {"pools": [{**POOL, "stage": "small"}, {**POOL, "name": "big", "stage": "large", "accelerator": "h200-sxm"}]},
        {"pipeline": [{"kind": "cascade", "stages": ["small", "large"], "fallback": [0.6]}]},
    ),
}


def run(case: str, **how: Any) -> Result:
    deployment, load = CASES[case]
    return simulate(Deployment.parse(deployment), Workload.parse({**LOAD, **load}), **{"log": True, **how})


@pytest.fixture(scope="module", params=list(CASES))
def result(request: pytest.FixtureRequest) -> Result:
    return run(request.param)


def integral(frame: pd.DataFrame, column: str) -> float:
    return float(frame[column].sum() * frame.attrs["bin_s"])


def rows_of(result: Result) -> dict[str, npt.NDArray[Any]]:
    """Records of the clients of each pool and service, by the names of the columns."""
    lowered, found = result.lowered, {}
    for plan in lowered.pools:
        found[plan.pool.name] = lowered.memory.clients[plan.first : plan.first + plan.pool.clients]
    for plan in lowered.services:
        name = f"{plan.service.stage} on {plan.service.device}"
        name += " 2" if name in found else ""
        found[name] = lowered.memory.clients[plan.first : plan.first + plan.service.clients]
    return found


def time_at_stage_s(result: Result, stage: str) -> float:
    """Sum over requests of the time between reaching a stage and leaving it, from the table of requests."""
    table = result.requests()
    if f"{stage}_queue_s" in table:
        return float((table[f"{stage}_queue_s"] + table[f"{stage}_service_s"]).sum())
    here = result.lowered.memory.requests["llm_stage"] == result.lowered.plan.stages.index(stage)
    return float((table["e2e_s"] - table["frontend_s"])[here].sum())


def stages_of(result: Result) -> dict[str, list[str]]:
    names = iter(rows_of(result))
    found = defaultdict(list)
    for plan in result.lowered.pools:
        found[plan.pool.stage].append(next(names))
    for plan in result.lowered.services:
        found[plan.service.stage].append(next(names))
    return found


def test_the_cases_are_what_they_are_called() -> None:
    assert run("preempted").pools[0].preemptions > 20
    assert run("split").lowered.memory.clients["egress"].max() == -1
    assert run("services").lowered.memory.clients["egress"].max() >= 0
    assert run("tiers").pools[0].cache_hits > 0.05
    assert {use.name for use in run("cascade").pools} == {"main", "big"}


def test_overlaps_are_exact() -> None:
    rng = np.random.default_rng(0)
    begin = rng.integers(-20, 120, 500) * PS_PER_S // 7
    end = begin + rng.integers(0, 60, 500) * PS_PER_S // 7
    height = rng.integers(-3, 9, 500)
    bins = Bins(PS_PER_S, 11 * PS_PER_S, 13)
    edges = [1.0 + 10 * i / 13 for i in range(14)]
    expected = [
        sum(
            h * max(0.0, min(b / PS_PER_S, high) - max(a / PS_PER_S, low))
            for a, b, h in zip(begin.tolist(), end.tolist(), height.tolist(), strict=True)
        )
        for low, high in pairwise(edges)
    ]
    assert bins.overlaps(begin, end).integral(height) == pytest.approx(expected, abs=1e-9)


def test_knots_are_those_of_the_kernel() -> None:
    tokens = np.concatenate([np.arange(9000), np.arange(9000, LAST_TOKENS + 5000, 77)])
    kernel = interpreted(knot_of)
    assert knots_of(tokens).tolist() == [kernel(int(t)) for t in tokens]


def test_time_at_a_stage_is_queued_or_running(result: Result) -> None:
    """Little: requests there, integrated over time, are the times that requests spent there."""
    frame = series(result, bins=37)
    for stage, names in stages_of(result).items():
        there = sum(integral(frame, f"{name}/{kind}_requests") for name in names for kind in ("queue", "running"))
        assert there == pytest.approx(time_at_stage_s(result, stage), rel=1e-9)


def test_the_queue_holds_the_waits(result: Result) -> None:
    """From reaching a stage to the first admission; at a pool that decodes, all that is not running."""
    frame, table = series(result, bins=41), result.requests()
    rows = result.lowered.memory.requests
    assert (frame.filter(like="queue_requests") >= 0).all(axis=None)
    if result.lowered.memory.clients["preemptions"].any():
        return
    for stage, names in stages_of(result).items():
        if "writes" in names:
            decoding_s = (rows["finish_ps"] - rows["first_token_ps"]).sum() / PS_PER_S
            queued_s, running_s = (integral(frame, f"writes/{kind}_requests") for kind in ("queue", "running"))
            assert queued_s + running_s == pytest.approx(decoding_s, rel=1e-9)
            names.remove("writes")
        queued_s = sum(integral(frame, f"{name}/queue_requests") for name in names)
        here = rows["llm_stage"] == result.lowered.plan.stages.index(stage)
        waits = table[f"{stage}_queue_s"] if f"{stage}_queue_s" in table else table["queue_s"][here]
        assert queued_s == pytest.approx(float(waits.sum()), rel=1e-9, abs=1e-9)


def test_where_branches_join_nobody_is_at_a_stage() -> None:
    """The request in which branches end passes no stage; every other call is at the LLM once."""
    load = {**LOAD, "requests": 20, "pipeline": [{"kind": "reason", "branches": 3}]}
    result = simulate(Deployment.parse({"pools": [{**POOL, "prefix_cache": {}}]}), Workload.parse(load))
    visits = visits_of(result)
    assert len(result.requests()) == 20 * (1 + 3 + 1)
    assert len(visits.request) == len(set(visits.request.tolist())) == 20 * (1 + 3)
    assert set(visits.stage.tolist()) == {0}
    served = result.lowered.memory.requests[visits.request]
    assert (visits.left_ps == served["finish_ps"]).all()


def test_sums_are_what_clients_counted(result: Result) -> None:
    frame = series(result, bins=23)
    for name, rows in rows_of(result).items():
        busy_s = rows["busy_ps"].sum() / PS_PER_S
        assert integral(frame, f"{name}/busy_share") * len(rows) == pytest.approx(busy_s, rel=1e-9)
        if f"{name}/kv_share" in frame:
            for kind in ("prefill", "decode"):
                tokens = rows[f"{kind}_tokens"].sum()
                assert integral(frame, f"{name}/{kind}_tokens_per_s") == pytest.approx(tokens, rel=1e-9)


def test_power_is_the_energy(result: Result) -> None:
    frame = series(result, bins=29)
    columns = [column for column in frame if str(column).endswith("/power_w")]
    assert sum(integral(frame, column) for column in columns) == pytest.approx(result.energy_j, rel=1e-9)
    uses = dict(zip(rows_of(result), (*result.pools, *result.services), strict=True))
    for name, use in uses.items():
        assert integral(frame, f"{name}/power_w") == pytest.approx(use.energy_j, rel=1e-9)
    # No devices beyond what they can draw, nor below what they draw idle.
    for plan in result.lowered.pools:
        chip, power = plan.engine.accelerator, frame[f"{plan.pool.name}/power_w"] / plan.pool.accelerators
        assert (power >= chip.idle_w * 0.999).all()
        assert (power <= chip.tdp_w * 1.001).all()


def test_power_in_a_phase_is_that_of_the_phase_alone() -> None:
    """First prompts are read, then answers are written: each phase draws what it draws in a run of its own."""

    def phase(first_s: float, prompt: int, output: int) -> npt.NDArray[np.int64]:
        arrivals = (first_s + np.arange(40) / 8) * PS_PER_S
        return np.stack([arrivals.astype(np.int64), np.full(40, prompt), np.full(40, output)])

    def served(*phases: npt.NDArray[np.int64]) -> Result:
        return simulate(deployment, Requests(*np.concatenate(phases, axis=1)), log=True)

    deployment = Deployment.parse({"pools": [{**POOL, "clients": 1}]})
    idle_w = catalog.accelerator(POOL["accelerator"]).idle_w
    reading, writing, both = (
        served(phase(0, 2000, 1)),
        served(phase(0, 50, 300)),
        served(phase(0, 2000, 1), phase(10, 50, 300)),
    )
    assert reading.span_s < 10
    frame = series(both, bins=1000)
    above_j = (frame["main/power_w"] - idle_w) * frame.attrs["bin_s"]
    early_j, late_j = above_j[frame.index < 10].sum(), above_j[frame.index >= 10].sum()
    assert early_j == pytest.approx(reading.energy_j - idle_w * reading.span_s, rel=0.03)
    assert late_j == pytest.approx(writing.energy_j - idle_w * writing.span_s, rel=0.03)


def test_shares_lie_between_none_and_all(result: Result) -> None:
    frame = series(result)
    for kind in ("busy_share", "kv_share"):
        assert frame.filter(like=kind).to_numpy().min() >= -1e-9
        assert frame.filter(like=kind).to_numpy().max() <= 1 + 1e-9
    for use in result.pools:
        # Growth is spread evenly over a run, so a bin may be a block or so a request beyond the peak.
        assert frame[f"{use.name}/kv_share"].max() <= use.kv_peak + 0.01
        assert use.kv_peak == 0 or frame[f"{use.name}/kv_share"].max() > 0
    for name, rows in rows_of(result).items():
        assert frame[f"{name}/batch_requests"].max() <= rows["max_batch"][0]


def test_running_is_batch_by_busy_clients(result: Result) -> None:
    frame = series(result, bins=17)
    for name, rows in rows_of(result).items():
        product = frame[f"{name}/batch_requests"].fillna(0) * frame[f"{name}/busy_share"] * len(rows)
        assert np.allclose(product, frame[f"{name}/running_requests"])


def test_wide_bins_are_means_of_narrow_ones(result: Result) -> None:
    narrow, wide = series(result, bins=60), series(result, bins=12)
    assert np.allclose(narrow.index[::5], wide.index)
    for column in wide:
        if "batch" not in str(column):
            means = narrow[column].to_numpy().reshape(12, 5).mean(axis=1)
            assert np.allclose(means, wide[column], rtol=1e-9, atol=1e-7), column


@pytest.mark.parametrize("case", ["one pool", "static", "preempted", "split", "cascade"])
def test_runs_of_steps_tell_what_single_steps_tell(case: str) -> None:
    runs, steps = series(run(case), bins=30), series(run(case, max_run=1), bins=30)
    assert len(run(case, max_run=1).lowered.memory.log) > 1.5 * len(run(case).lowered.memory.log)
    for column in steps:
        largest = steps[column].max()
        # Tokens within a run are taken as even, blocks as growing evenly.
        tolerance = 1e-9 if str(column).endswith(("requests", "busy_share")) else 0.01
        assert np.allclose(runs[column], steps[column], atol=tolerance * largest, equal_nan=True), column


@pytest.mark.parametrize("case", ["one pool", "services", "tiers"])
def test_a_log_of_a_part_tells_that_part(case: str) -> None:
    whole = run(case)
    start, end = (0.3 * whole.span_s, 0.6 * whole.span_s)
    expected, part = series(whole, bins=100)[30:60], series(run(case, log=(start, end)), bins=30)
    assert np.allclose(expected.index, part.index)
    assert len(part) == 30
    for column in expected:
        tolerance = 0.15 if str(column).endswith("power_w") else 1e-6
        assert np.allclose(expected[column], part[column], rtol=tolerance, atol=1e-5, equal_nan=True), column


def test_a_result_without_log_says_how_to_get_one(tmp_path: Path) -> None:
    bare = run("one pool", log=False)
    for ask in (lambda: series(bare), lambda: write_perfetto(bare, tmp_path / "trace.json")):
        with pytest.raises(SpecError, match=r"simulate\(\.\.\., log=True\)"):
            ask()
    assert not list(tmp_path.iterdir())
    with pytest.raises(SpecError, match="bins: 0"):
        series(run("one pool"), bins=0)
    with pytest.raises(SpecError, match="allowed: earlier"):
        series(run("one pool", log=(1e5, 2e5)))


# Traces.


def read(path: Path) -> dict[str, Any]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture(scope="module")
def trace(result: Result, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("trace") / "trace.json.gz"
    write_perfetto(result, path)
    return read(path)


def by_process(trace: dict[str, Any], phase: str) -> dict[str, list[dict[str, Any]]]:
    events = trace["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for event in events:
        if event["ph"] == phase:
            found[names[event["pid"]]].append(event)
    return found


def nanoseconds(event: dict[str, Any]) -> tuple[int, int]:
    start = round(event["ts"] * 1000)
    return start, start + round(event["dur"] * 1000)


def test_threads_of_clients_are_monotone_and_do_not_overlap(result: Result, trace: dict[str, Any]) -> None:
    slices = by_process(trace, "X")
    assert set(slices) == {*rows_of(result), "requests"}
    entries = 0
    for name, rows in rows_of(result).items():
        threads = defaultdict(list)
        for event in slices[name]:
            threads[event["tid"]].append(event)
        for tid, events in threads.items():
            times = [nanoseconds(event) for event in events]
            assert all(a[1] <= b[0] for a, b in pairwise(times))
            busy_ns = sum(end - start for start, end in times)
            assert busy_ns == pytest.approx(rows["busy_ps"][tid - 1] / 1000, abs=len(times))
            if "steps" in events[0]["args"]:
                assert sum(event["args"]["steps"] for event in events) == rows["steps"][tid - 1]
                assert sum(e["args"]["prefill_tokens"] for e in events) == rows["prefill_tokens"][tid - 1]
            else:
                assert sum(event["args"]["requests"] for event in events) == rows["service_requests"][tid - 1]
            entries += len(events)
    assert entries == len(result.lowered.memory.log)


def test_slices_of_requests_lie_within_each_other(result: Result, trace: dict[str, Any]) -> None:
    table = result.requests()
    threads = defaultdict(list)
    for event in by_process(trace, "X")["requests"]:
        threads[event["tid"] - 1].append(event)
    assert set(threads) == set(table.index[table["served"]])
    first_tokens = {e["tid"] - 1: e for e in by_process(trace, "i")["requests"]}
    for request, (whole, *parts) in threads.items():
        begin, end = nanoseconds(whole)
        assert whole["name"] == f"request {request}"
        frontend_s = whole["args"]["frontend_s"]
        assert frontend_s == table["frontend_s"][request] == REQUEST_S
        assert end - begin == pytest.approx((table["e2e_s"][request] - frontend_s) * 1e9, abs=2)
        times = [(begin, begin), *(nanoseconds(part) for part in parts), (end, end)]
        assert all(a[1] <= b[0] for a, b in pairwise(times))
        mark = first_tokens[request]
        assert mark["args"]["ttft_s"] == pytest.approx(table["ttft_s"][request])
        assert (mark["ts"] - whole["ts"]) / 1e6 == pytest.approx(mark["args"]["ttft_s"] - frontend_s, abs=2e-9)
        queued_ns = sum(b - a for part in parts for a, b in [nanoseconds(part)] if part["name"].endswith(" queue"))
        columns = [c for c in table if str(c).endswith("_queue_s")] or ["queue_s"]
        assert queued_ns == pytest.approx(table.loc[request, columns].sum() * 1e9, abs=2 * len(parts))


def test_counters_follow_the_log(result: Result, trace: dict[str, Any]) -> None:
    counters = by_process(trace, "C")
    for use in result.pools:
        blocks = [event["args"]["blocks"] for event in counters[use.name] if event["name"] == "KV blocks"]
        assert blocks[-1] == 0
        assert min(blocks) == 0
    frame = series(result, bins=1)
    pools = [use.name for use in result.pools]
    queues = [[name] for name in pools] + [names for names in stages_of(result).values() if names[0] not in pools]
    assert sorted(counters) == sorted(["requests", *(name for names in queues for name in names)])
    for names in queues:
        queue = [event for event in counters[names[0]] if event["name"] == "queue"]
        times = np.array([event["ts"] for event in queue])
        values = np.array([event["args"]["requests"] for event in queue])
        assert values[-1] == values.min() == 0
        assert (np.diff(times) > 0).all()
        waited_s = float(values[:-1] @ np.diff(times)) / 1e6
        expected_s = sum(integral(frame, f"{name}/queue_requests") for name in names)
        assert waited_s == pytest.approx(expected_s, rel=1e-6, abs=1e-5)
        # The other services of a stage have the counter of the first.
        assert all(not counters[name] for name in names[1:])


def test_a_window_and_a_share_of_requests(tmp_path: Path) -> None:
    result = run("services")
    start, end = 0.4 * result.span_s, 0.5 * result.span_s
    for name in ("trace.json", "again.json", "trace.json.gz"):
        write_perfetto(result, tmp_path / name, from_s=start, until_s=end, requests=5)
    assert (tmp_path / "trace.json").read_bytes() == (tmp_path / "again.json").read_bytes()
    trace = read(tmp_path / "trace.json")
    assert trace == read(tmp_path / "trace.json.gz")
    table = result.requests()
    here = (table["arrival_s"] < end) & (table["arrival_s"] + table["e2e_s"] - table["frontend_s"] >= start)
    about = trace["otherData"]
    assert about["requests"] == here.sum() > 5
    assert about["requests_drawn"] == 5
    assert "5 of" in about["note"]
    drawn = {event["tid"] - 1 for event in by_process(trace, "X")["requests"]}
    assert len(drawn) == 5
    assert here[sorted(drawn)].all()
    for name, events in by_process(trace, "X").items():
        if name != "requests":
            assert all(event["ts"] < end * 1e6 and event["ts"] + event["dur"] > start * 1e6 for event in events)
    counters = [event["ts"] for events in by_process(trace, "C").values() for event in events]
    assert min(counters) >= start * 1e6 - 1e-3
    assert max(counters) <= end * 1e6 + 1e-3
    with pytest.raises(SpecError, match="allowed: 0 to"):
        write_perfetto(result, tmp_path / "none.json", from_s=end, until_s=start)
    with pytest.raises(SpecError, match="requests: -1"):
        write_perfetto(result, tmp_path / "none.json", requests=-1)
    assert not (tmp_path / "none.json").exists()
    write_perfetto(result, tmp_path / "clients.json", requests=0)
    assert "requests" not in by_process(read(tmp_path / "clients.json"), "X")


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
def test_the_page_runs_as_pasted(block: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "main/kv_share" in done.stdout
    assert len(pd.read_csv(tmp_path / "series.csv", index_col="time_s")) == 100
    assert read(tmp_path / "trace.json.gz")["traceEvents"]


def test_every_series_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = {str(column).rsplit("/", 1)[1] for column in series(run("services"), bins=1)}
    assert [name for name in names if f"| `{name}`" not in page and f"`{name}`" not in page] == []
