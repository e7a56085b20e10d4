"""The bound on the number of requests holds, is not far off, and is quick."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator import SpecError, Workload, build_requests
from simulator.workload import read_trace_file
from simulator.workload.size import requests_of

LENGTHS = {
    "prompt": {"distribution": "uniform", "low_tokens": 1, "high_tokens": 9},
    "output": {"distribution": "geometric", "mean_tokens": 5.0},
}
counts = st.one_of(
    st.integers(1, 6),
    st.builds(
        lambda low, more: {"distribution": "uniform", "low": low, "high": low + more},
        st.integers(1, 4),
        st.integers(0, 5),
    ),
    st.builds(lambda mean: {"distribution": "geometric", "mean": mean}, st.floats(1, 12)),
)
sessions = st.builds(
    lambda turns, most: {"turns": turns, "prompt_tokens": 3, "max_context_tokens": most},
    counts,
    st.sampled_from([20, 10_000_000]),
)
pipelines = st.one_of(
    st.just(["prefill", "decode"]),
    st.just([{"kind": "tokenise"}, "prefill", "decode"]),
    st.builds(
        lambda fallback: [{"kind": "cascade", "stages": list("abcd")[: len(fallback) + 1], "fallback": fallback}],
        st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=3),
    ),
    st.builds(
        lambda branches, summary: [
            {"kind": "reason", "branches": branches, "factor": 2.0} | ({"summary_tokens": 5} if summary else {})
        ],
        st.integers(2, 5),
        st.booleans(),
    ),
    st.just([{"kind": "reason", "factor": 3.0}]),
    st.just([{"kind": "route", "to": {"small": 0.5, "large": 0.5}}]),
)
traits = st.fixed_dictionaries({"pipeline": pipelines}, optional={"session": sessions, "deadline_s": st.just(5.0)})
generated = st.builds(
    lambda requests, seed, whole, classes: (
        {
            **whole,
            "arrivals": {"process": "poisson", "rate_rps": 5.0},
            "lengths": LENGTHS,
            "requests": requests,
            "seed": seed,
        }
        | (
            {"classes": [{**each, "name": f"c{n}", "share": share} for n, (each, share) in enumerate(classes)]}
            if classes
            else {}
        )
    ),
    st.integers(1, 300),
    st.integers(0, 1000),
    traits,
    st.one_of(
        st.just([]),
        st.lists(
            st.tuples(st.fixed_dictionaries({}, optional={"session": sessions}), st.floats(0.01, 10)),
            min_size=1,
            max_size=4,
        ),
    ),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(generated)
def test_never_less_than_is_built(data: dict[str, Any]) -> None:
    workload = Workload.parse(data)
    assert len(build_requests(workload)) <= requests_of(workload)


@pytest.mark.parametrize(
    ("more", "most"),
    [
        ({}, 1.0),
        ({"session": {"turns": 4, "prompt_tokens": 3}}, 1.0),
        ({"session": {"turns": {"distribution": "geometric", "mean": 4.0}, "prompt_tokens": 3}}, 1.2),
        ({"session": {"turns": {"distribution": "uniform", "low": 1, "high": 8}, "prompt_tokens": 3}}, 2.0),
        ({"pipeline": [{"kind": "reason", "branches": 4}]}, 1.0),
        ({"classes": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]}, 1.0),
        (
            {
                "classes": [
                    {"name": "chat", "share": 0.95},
                    {"name": "agent", "share": 0.05, "session": {"turns": 50, "prompt_tokens": 3}},
                ]
            },
            1.5,
        ),
    ],
)
def test_not_far_off(more: dict[str, Any], most: float) -> None:
    workload = Workload.parse({"arrivals": {"process": "poisson", "rate_rps": 5.0}, "lengths": LENGTHS, **more})
    built = len(build_requests(workload))
    assert built <= requests_of(workload) <= most * built


@settings(max_examples=100, deadline=None)
@given(st.floats(1, 1000), st.integers(1, 50), st.integers(0, 10**6))
def test_heavy_turns_stay_below(mean: float, requests: int, seed: int) -> None:
    turns = {"distribution": "geometric", "mean": mean}
    data = {
        "arrivals": {"process": "constant", "rate_rps": 5.0},
        "lengths": LENGTHS,
        "requests": requests,
        "seed": seed,
    }
    workload = Workload.parse({**data, "session": {"turns": turns, "prompt_tokens": 1}})
    assert len(build_requests(workload)) <= requests_of(workload)


ROW = {"timestamp": 1, "input_length": 3, "output_length": 2}
HEADER = "arrival_s,prompt_tokens,output_tokens"


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (f"{HEADER}\n1,2,3\n2,2,3\n", 2),
        (f"{HEADER}\n1,2,3\n2,2,3", 2),
        (f"{HEADER}\r\n1,2,3\r\n2,2,3\r\n", 2),
        (f"{HEADER}\r1,2,3\r2,2,3\r3,3,3", 3),
        (f"\ufeff\n\n{HEADER}\n1,2,3\n\n2,2,3\n", 2),
        ("\n".join([json.dumps(ROW)] * 5), 5),
        (json.dumps(ROW) * 3 + "\n", 3),
        ("\ufeff" + json.dumps(ROW, indent=1), 1),
        (" " * 3_000_000 + "\n" + f"{json.dumps(ROW)}\n" * 3, 3),
    ],
)
def test_rows_of_a_trace(tmp_path: Path, content: str, rows: int) -> None:
    path = tmp_path / "trace"
    path.write_bytes(content.encode())
    workload = Workload.parse({"trace": {"path": str(path)}})
    assert len(read_trace_file(path)) == rows
    assert rows <= requests_of(workload) <= 2 * rows + 4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["\n", "\r", "\r\n"]), min_size=1, max_size=40), st.booleans(), st.integers(1, 7))
def test_line_ends_over_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: list[str], ended: bool, piece: int
) -> None:
    from simulator.workload import size

    monkeypatch.setattr(size, "_PIECE_BYTES", piece)
    path = tmp_path / "trace"
    lines = [HEADER, *("1,2,3" for _ in ends)]
    path.write_bytes(
        "".join(f"{line}{end}" for line, end in zip(lines, [*ends, "\n" if ended else ""], strict=True)).encode()
    )
    assert len(ends) <= requests_of(Workload.parse({"trace": {"path": str(path)}})) <= len(ends) + 1


def test_a_trace_is_limited_by_requests_and_makes_as_many_calls_as_its_pipeline(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(f"{HEADER}\n" + "1,2,3\n" * 1000)
    data: dict[str, Any] = {"trace": {"path": str(path)}, "requests": 100}
    assert requests_of(Workload.parse(data)) == 100
    assert requests_of(Workload.parse({**data, "pipeline": [{"kind": "reason", "branches": 3}]})) == 500
    assert len(build_requests(Workload.parse({**data, "pipeline": [{"kind": "reason", "branches": 3}]}))) == 500


def test_a_missing_trace_is_a_persons_mistake() -> None:
    with pytest.raises(SpecError, match=r"^nowhere.csv: No such file"):
        requests_of(Workload.parse({"trace": {"path": "nowhere.csv"}}))


def test_the_largest_workload_is_counted_at_once() -> None:
    session = {"turns": {"distribution": "geometric", "mean": 100_000.0}, "prompt_tokens": 1}
    classes = [{"name": f"c{n}", "share": 1.0 + n, "session": session} for n in range(1000)]
    reason = {"kind": "reason", "branches": 10_000}
    arrivals = {"process": "poisson", "rate_rps": 5.0}
    workload = Workload.parse(
        {"requests": 100_000_000, "arrivals": arrivals, "lengths": LENGTHS, "classes": classes, "pipeline": [reason]}
    )
    start = time.perf_counter()
    assert requests_of(workload) >= 10**17
    assert time.perf_counter() - start < 0.5
