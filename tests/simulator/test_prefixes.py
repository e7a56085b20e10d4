"""Shared prefixes: ids are equal if and only if the texts are; system prompts, adapters and recorded hashes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import SpecError
from simulator.spec.workload import Workload
from simulator.workload import Prefixes, Requests, build_requests, read_trace_file
from simulator.workload.generate import _adapters, _classes_of
from simulator.workload.shared_text import SystemPrompts
from simulator.workload.traces import TraceFile, _read_by_row, _read_fast

LOAD: dict[str, Any] = {
    "requests": 2000,
    "arrivals": {"process": "poisson", "rate_rps": 8},
    "lengths": {"statistics": "azure-2023-conversation"},
}


def build(**changes: Any) -> Requests:
    return build_requests(Workload.parse({**LOAD, **changes}, source="test"))


def prefixes_of(requests: Requests) -> Prefixes:
    assert requests.prefixes is not None
    return requests.prefixes


def ids_of(prefixes: Prefixes, row: int) -> list[int]:
    start = int(prefixes.chunk_first[row])
    return prefixes.chunks[start : start + int(prefixes.all_chunks[row])].tolist()


# Arrays


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_tokens": 40}, "multiple of 16, given 40"),
        ({"all_chunks": [1, 0]}, "from 0 to all_chunks"),
        ({"chunk_first": [0, 2]}, "lie outside chunks"),
        ({"chunk_first": [0]}, "one length"),
        ({"chunks": [0, -1, 0]}, "must not be negative"),
    ],
)
def test_prefixes_refuse_nonsense(changes: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "chunk_tokens": 16,
        "chunks": [0, 1, 2],
        "chunk_first": [0, 1],
        "prompt_chunks": [1, 1],
        "all_chunks": [2, 2],
    }
    assert Prefixes(**good).ids == 3
    with pytest.raises(ValueError, match=message):
        Prefixes(**{**good, **changes})


def test_a_part_of_the_rows_keeps_what_is_alike() -> None:
    whole = Prefixes(16, *map(np.array, ([5, 6, 9, 5, 7, 2], [0, 3, 0, 5], [2, 2, 3, 1], [2, 2, 3, 1])))  # type: ignore[arg-type]
    part = whole.of_rows(np.array([2, 1, 0]), compact=True)
    assert [ids_of(part, row) for row in range(3)] == [[0, 1, 3], [0, 2], [0, 1]]
    assert part.chunks.size == 5
    assert [ids_of(whole.of_rows(np.array([3, 0])), row) for row in range(2)] == [[2], [5, 6]]


def test_chunks_beyond_the_prompt_are_refused() -> None:
    one = np.ones(1, dtype=np.int32)
    prefixes = Prefixes(16, *map(np.array, ([0], [0], [1], [1])))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="longer than the prompt"):
        Requests(one, 15 * one, one, prefixes=prefixes)
    assert Requests(one, 16 * one, one, prefixes=prefixes).prefixes is not None


# Ids against texts


def texts_of(workload: Workload, requests: Requests) -> list[list[Any]]:
    """Return the beginning of every row's text, token by token: as a person would write it down."""
    classes = workload.resolved_classes
    class_of = _classes_of(workload, requests.session_count)
    system = SystemPrompts.draw(classes, class_of, workload.seed)
    adapter = _adapters(classes, class_of, workload.seed)
    texts = []
    for row in range(len(requests)):
        session = row if requests.sessions is None else int(requests.sessions.session[row])
        with_adapter = 0 if adapter is None else int(adapter[session])
        length = int(system.tokens[session])
        text: list[Any] = [(with_adapter, "system", int(system.number[session]), place) for place in range(length)]
        whole = int(requests.prompt_tokens[row] + requests.output_tokens[row])
        texts.append(text + [(with_adapter, "own", session, place) for place in range(length, whole)])
    return texts


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 50),
    system_prompts=st.integers(1, 4),
    system_tokens=st.sampled_from([1, 15, 16, 40, {"distribution": "uniform", "low_tokens": 1, "high_tokens": 80}]),
    turns=st.sampled_from([None, 1, 3]),
    adapters=st.sampled_from([None, {"count": 2}]),
    chunk_tokens=st.sampled_from([16, 48]),
    two=st.booleans(),
)
def test_ids_are_equal_if_and_only_if_the_texts_are(
    seed: int, system_prompts: int, system_tokens: Any, turns: int | None, adapters: Any, chunk_tokens: int, two: bool
) -> None:
    uniform = {"distribution": "uniform", "low_tokens": 1, "high_tokens": 60}
    workload = Workload.parse(
        {
            **LOAD,
            "requests": 12,
            "seed": seed,
            "lengths": {"prompt": uniform, "output": uniform},
            "prefix": {"system_prompts": system_prompts, "tokens": system_tokens, "zipf": 0.5},
            "session": turns and {"turns": turns, "prompt_tokens": uniform},
            "adapters": adapters,
            "chunk_tokens": chunk_tokens,
            "classes": [
                {"name": "a", "share": 1},
                {"name": "b", "share": 1},
                {"name": "c", "share": 1, "prefix": {"tokens": 33}, "adapters": {"count": 1}},
            ]
            if two
            else None,
        }
    )
    requests = build_requests(workload)
    prefixes = prefixes_of(requests)
    text_of_id: dict[int, Any] = {}
    id_of_text: dict[Any, int] = {}
    assert np.array_equal(prefixes.prompt_chunks, requests.prompt_tokens // chunk_tokens)
    assert np.array_equal(prefixes.all_chunks, (requests.prompt_tokens + requests.output_tokens) // chunk_tokens)
    for row, text in enumerate(texts_of(workload, requests)):
        for place, number in enumerate(ids_of(prefixes, row)):
            beginning = tuple(text[: (place + 1) * chunk_tokens])
            assert text_of_id.setdefault(number, beginning) == beginning
            assert id_of_text.setdefault(beginning, number) == number
    assert sorted(text_of_id) == list(range(prefixes.ids))


def test_system_prompts_come_before_the_lengths_and_are_popular_as_zipf_says() -> None:
    plain, shared = (
        build(requests=50_000),
        build(requests=50_000, prefix={"system_prompts": 3, "tokens": 128, "zipf": 1}),
    )
    assert np.array_equal(shared.prompt_tokens, plain.prompt_tokens + 128)
    assert np.array_equal(shared.output_tokens, plain.output_tokens)
    assert shared.query_tokens is not None
    assert np.array_equal(shared.query_tokens, plain.prompt_tokens)
    prefixes = prefixes_of(shared)
    first = prefixes.chunks[prefixes.chunk_first]
    share = np.unique(first, return_counts=True)[1] / first.size
    # 1, 1/2 and 1/3 by their sum, 11/6; 4.6 standard deviations of 50 000 draws are 0.01.
    assert share == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=0.0103)


def test_adapters_are_numbered_from_one_and_not_shared_by_owners() -> None:
    requests = build(
        adapters={"count": 4, "zipf": 0},
        classes=[
            {"name": "a", "share": 1},
            {"name": "b", "share": 1},
            {"name": "c", "share": 1, "adapters": {"count": 2}},
        ],
    )
    assert requests.adapter is not None
    assert requests.request_class is not None
    used = [np.unique(requests.adapter[requests.request_class == place]).tolist() for place in range(3)]
    assert used == [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6]]
    some = build(classes=[{"name": "a", "share": 1}, {"name": "b", "share": 1, "adapters": {"count": 1}}])
    assert some.adapter is not None
    assert np.array_equal(some.adapter, some.request_class)


def test_nothing_is_shared_where_nothing_can_be() -> None:
    assert build().prefixes is None
    assert build(pipeline=[{"kind": "route", "to": {"a": 1, "b": 1}}]).prefixes is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prefix": {"tokens": 0}}, ["prefix.tokens", "given 0"]),
        ({"prefix": {}}, ["prefix.tokens", "required"]),
        ({"prefix": {"tokens": 5, "zipf": -1}}, ["prefix.zipf", "given -1"]),
        ({"chunk_tokens": 40}, ["chunk_tokens", "multiple of 16", "given 40"]),
        ({"adapters": {"count": 0}}, ["adapters.count", "given 0"]),
        ({"deadline_s": 1e6}, ["deadline_s", "432000", "given 1000000"]),
        ({"media": {"images": 1}}, ["media", "stage of the kind encode"]),
        ({"pipeline": [{"kind": "encode"}, "prefill", "decode"]}, ["media", "needed by the stage 'encode'"]),
        ({"classes": [{"name": "a", "share": 1}, {"name": "a", "share": 2}]}, ["classes", "differ, given a, a"]),
        ({"classes": [{"name": "a", "share": 0}]}, ["classes.0.share", "given 0"]),
        ({"classes": [{"name": "a", "share": 1, "pipeline": ["decode"]}]}, ["class a: pipeline", "given decode"]),
    ],
)
def test_wrong_traits_are_named(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        build(**changes)
    assert [word for word in words if word not in str(error.value)] == [], error.value


# Traces with hashes


def rows(*given: tuple[int, list[int]]) -> str:
    return "".join(
        json.dumps({"timestamp": 1000 * place, "input_length": tokens, "output_length": 1, "hash_ids": hashes}) + "\n"
        for place, (tokens, hashes) in enumerate(given)
    )


def read(folder: Path, text: str, **trace: Any) -> Requests:
    path = folder / "trace.jsonl"
    path.write_text(text)
    return build_requests(Workload.parse({"trace": {"path": str(path), "prefixes": True, **trace}}))


def test_only_full_chunks_of_a_trace_count(tmp_path: Path) -> None:
    requests = read(tmp_path, rows((1600, [50, 3, 90, 7]), (1024, [50, 3]), (1023, [50, 3]), (100, [7]), (1536, [50])))
    prefixes = prefixes_of(requests)
    assert prefixes.chunk_tokens == 512
    assert prefixes.prompt_chunks.tolist() == prefixes.all_chunks.tolist() == [3, 2, 1, 0, 1]
    assert [ids_of(prefixes, row) for row in range(5)] == [[1, 0, 2], [1, 0], [1], [], [1]]


def test_hashes_of_chunks_alone_become_ids_of_all_text_before(tmp_path: Path) -> None:
    given = [[1, 2, 3], [2, 2, 3], [1, 2, 4], [2, 2, 3], [3]]
    requests = read(tmp_path, rows(*((512 * len(hashes), hashes) for hashes in given)))
    ids = [ids_of(prefixes_of(requests), row) for row in range(5)]
    assert ids[0][:2] == ids[2][:2]
    assert ids[1] == ids[3]
    assert len({each for row in ids for each in row}) == len({tuple(h[: i + 1]) for h in given for i in range(len(h))})


def test_a_window_of_a_trace_is_numbered_anew(tmp_path: Path) -> None:
    text = rows(*((1024, [0, place]) for place in range(1, 9)))
    part = prefixes_of(read(tmp_path, text, start_s=3, duration_s=2, rate_rps=5))
    assert [ids_of(part, row) for row in range(2)] == [[0, 1], [0, 2]]
    assert part.chunks.size == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (rows((600, [1])) + rows((600, [1])).replace("[1]", "3"), "row 2 (line 2), column hash_ids: must be a list"),
        (
            rows((600, [1])).replace("hash_ids", "x"),
            "row 1 (line 1), column hash_ids: must be a list of whole numbers, g",
        ),
        (rows((600, [1])).replace("[1]", '["a"]'), "column hash_ids: must hold whole numbers of 64 bits, given 'a'"),
        (
            rows((600, [1])).replace("[1]", "[null]"),
            "column hash_ids: must hold whole numbers of 64 bits, given nothing",
        ),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n", "prefixes: only a mooncake trace has hash_ids, given the"),
    ],
)
def test_faulty_hashes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefix": {"tokens": 5}}, "prefix: not with prefixes of a trace"),
        ({"adapters": {"count": 5}}, "adapters: not with prefixes of a trace"),
        ({"session": {"turns": 2, "prompt_tokens": 5}}, "session: only for generated requests"),
        ({"chunk_tokens": 64}, "chunk_tokens: 512 in a trace with prefixes, given 64"),
    ],
)
def test_what_a_trace_cannot_have_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Workload.parse({"trace": {"path": "x.jsonl", "prefixes": True}, **changes})


def test_a_trace_with_branches_keeps_its_ids(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(rows((1600, [4, 5, 6, 7]), (700, [4, 8])))
    reason = {"kind": "reason", "branches": 2}
    workload = Workload.parse({"trace": {"path": str(path), "prefixes": True}, "pipeline": [reason]})
    prefixes = prefixes_of(build_requests(workload))
    assert [ids_of(prefixes, row) for row in range(8)] == [[0, 1, 2]] * 4 + [[0]] * 4


@pytest.mark.parametrize("name", ["conversation", "synthetic"])
def test_the_real_hashes_are_read_right_and_fast(name: str, reference: Path) -> None:
    path = reference / "traces" / f"mooncake_{name}.jsonl"
    times_s = []
    for _ in range(3):
        start_s = perf_counter()
        requests = read_trace_file(path, prefixes=True)
        times_s.append(perf_counter() - start_s)
    assert min(times_s) <= 0.150  # measured: 47 ms for 12 031 rows, 285 000 hashes
    fast, plain = (
        reader(TraceFile(path, path.name), "mooncake", hashes=True).hashes  # type: ignore[operator, union-attr]
        for reader in (_read_fast, _read_by_row)
    )
    assert all(np.array_equal(a, b) for a, b in zip(fast, plain, strict=True))
    # Against the plain meaning of the file.
    prefixes = prefixes_of(requests)
    id_of: dict[int, int] = {}
    with path.open() as file:
        for row, line in enumerate(file):
            record = json.loads(line)
            full = record["hash_ids"][: record["input_length"] // 512]
            assert [id_of.setdefault(each, found) for each, found in zip(full, ids_of(prefixes, row), strict=True)] == (
                ids_of(prefixes, row)
            )
    assert sorted(id_of.values()) == list(range(prefixes.ids))


def test_hashes_are_not_read_unless_asked(reference: Path) -> None:
    assert read_trace_file(reference / "traces" / "mooncake_synthetic.jsonl").prefixes is None
