"""What stands in the place of prefill, decode: named LLMs, routers, cascades, reasoning; and the plan of all stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.errors import SpecError
from simulator.spec.stages import check_pipeline, llm_position, llm_stages_of, services_of
from simulator.spec.workload import Workload
from simulator.workload import Requests, added_prompt_tokens_of_way, build_requests, pipeline_plan

LOAD: dict[str, Any] = {
    "requests": 20_000,
    "arrivals": {"process": "poisson", "rate_rps": 8},
    "lengths": {"statistics": "azure-2023-conversation"},
}
EMBED, DETOKENISE = {"kind": "embed"}, {"kind": "detokenise"}
RETRIEVE = {"kind": "retrieve", "documents": 4, "tokens_per_document": 100}
TOKENISE = {"kind": "tokenise"}
ROUTE = {"kind": "route", "to": {"small": 0.7, "large": 0.3}}
CASCADE = {"kind": "cascade", "stages": ["small", "middle", "large"], "fallback": [0.4, 0.5]}
JUDGE = {"kind": "guard", "name": "judge", "applies_to": "output"}


def load(pipeline: list[Any], **changes: Any) -> Workload:
    return Workload.parse({**LOAD, "pipeline": pipeline, **changes}, source="test")


def build(pipeline: list[Any], **changes: Any) -> Requests:
    return build_requests(load(pipeline, **changes))


# Specification


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        ([{"kind": "route", "to": {"small": 1}}], ["pipeline.0.route", "at least two LLM stages, given 1"]),
        ([{"kind": "route", "to": {"a": 1, "b": "x"}}], ["by chance", "needs a number", "a: 1.0, b: ['x']"]),
        ([{"kind": "route", "to": {"a": 1, "b": -1}}], ["must not be negative", "b: -1.0"]),
        ([{"kind": "route", "to": {"a": 1, "b": True}}], ["b: must be a number", "True"]),
        ([{"kind": "route", "to": "small"}], ["pipeline.0.route.to", "must map LLM stages", "given 'small'"]),
        ([{"kind": "route", "by": "prompt_tokens", "to": {"a": 5, "b": 9}}], ["one be 0", "a: 5.0, b: 9.0"]),
        ([{"kind": "route", "by": "class", "to": {"a": "chat", "b": "code"}}], ["no class 'chat'", "classes: none"]),
        ([{"kind": "cascade", "stages": ["a", "a"], "fallback": [0.5]}], ["must differ, given a, a"]),
        ([{"kind": "cascade", "stages": ["a", "b"], "fallback": []}], ["one probability", "1 in all, given 0"]),
        ([{"kind": "cascade", "stages": ["a", "b"], "fallback": [2]}], ["cascade.fallback.0", "given 2"]),
        ([{"kind": "reason", "join": "all"}], ["join", "branches of 2 or more"]),
        ([{"kind": "reason", "factor": 0.5}], ["pipeline.0.reason.factor", "given 0.5"]),
        ([ROUTE, "prefill", "decode"], ["side by side; given route, prefill, decode", "llm, route, cascade, reason"]),
        ([ROUTE, CASCADE], ["side by side; given route, cascade"]),
        ([{"kind": "embed", "name": "llm"}, "prefill", "decode"], ["'llm' is both an LLM stage and a service"]),
        ([{"kind": "lmm"}], ["pipeline.0", "'lmm'", "'llm'", "'prefill, decode'"]),
        ([{"name": "x"}], ["pipeline.0", "'none'", "'llm'"]),
        (["prefil", "decode"], ["pipeline.0", "'prefill' or 'decode', given 'prefil'"]),
        (["prefill", "decode", {"kind": "encode"}], ["encode must stand before the LLM"]),
        ([{"kind": "encode"}, {"kind": "encode", "name": "b"}, "prefill", "decode"], ["at most one", "encode, b"]),
    ],
)
def test_a_wrong_pipeline_is_named(pipeline: list[Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        load(pipeline)
    assert [word for word in words if word not in str(error.value)] == [], error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "pipeline",
    [
        [EMBED, {"kind": "llm", "name": "small"}],
        [ROUTE, DETOKENISE],
        [{**ROUTE, "by": "output_tokens", "to": {"a": 0, "b": 2000}, "model": "bge-large-en"}],
        [{**CASCADE, "judge": JUDGE}],
        [{"kind": "reason", "branches": 8, "join": "majority", "factor": 3.5, "sigma": 0.4, "summary_tokens": 50}],
    ],
)
def test_round_trip(pipeline: list[Any], tmp_path: Path) -> None:
    given = load(pipeline)
    path = tmp_path / "workload.yaml"
    path.write_text(given.to_yaml())
    assert Workload.from_yaml(path) == given
    assert hash(Workload.from_yaml(path)) == hash(given)
    assert Workload.model_validate(given.model_dump()) == given


def test_names_and_positions() -> None:
    pipeline = load([TOKENISE, {**ROUTE, "name": "router"}, DETOKENISE]).pipeline
    check_pipeline(pipeline)
    assert [stage.name for stage in services_of(pipeline)] == ["tokenise", "router", "detokenise"]
    assert llm_position(pipeline) == 2
    assert llm_stages_of(pipeline) == ("small", "large")
    assert llm_stages_of(load([TOKENISE, "prefill", "decode"]).pipeline) == ("llm",)
    assert [stage.name for stage in services_of(load([{**CASCADE, "judge": JUDGE}]).pipeline)] == ["judge"]


# Plan


def test_the_plan_of_one_pipeline_is_the_pipeline() -> None:
    plan = pipeline_plan(load([EMBED, RETRIEVE, "prefill", "decode", DETOKENISE]))
    assert plan.ways == (("embed", "retrieve", "llm", "detokenise"),)
    assert plan.stages == ("embed", "retrieve", "llm", "detokenise")
    assert plan.llm_stages == ("llm",)
    assert plan.quantities == ("query", "none", "output")
    assert added_prompt_tokens_of_way(plan, 0) == 400
    assert plan.llm_of_way(0) == "llm"
    assert build([EMBED, RETRIEVE, "prefill", "decode"]).way is None


def test_the_plan_of_a_cascade_with_a_judge() -> None:
    plan = pipeline_plan(load([EMBED, RETRIEVE, {**CASCADE, "judge": JUDGE}, DETOKENISE]))
    assert plan.ways == (
        ("embed", "retrieve", "small", "judge"),
        ("embed", "retrieve", "small", "judge", "detokenise"),
        ("middle", "judge"),
        ("middle", "judge", "detokenise"),
        ("large", "detokenise"),
    )
    # What was found for the first stage is in the prompt of the others too.
    assert plan.added_prompt_tokens == (400,) * 5
    assert plan.stages == ("embed", "retrieve", "small", "middle", "large", "judge", "detokenise")
    assert [plan.llm_of_way(way) for way in range(5)] == ["small", "small", "middle", "middle", "large"]


def test_the_plan_of_two_classes() -> None:
    classes = [
        {"name": "chat", "share": 1, "pipeline": [EMBED, RETRIEVE, "prefill", "decode", DETOKENISE]},
        {"name": "code", "share": 1, "pipeline": [{"kind": "llm", "name": "coder"}, DETOKENISE]},
        {"name": "plain", "share": 1},
    ]
    plan = pipeline_plan(Workload.parse({**LOAD, "classes": classes}))
    assert plan.ways == (("embed", "retrieve", "llm", "detokenise"), ("coder", "detokenise"), ("llm",))
    assert plan.added_prompt_tokens == (400, 0, 0)
    assert plan.class_ways == ((0,), (1,), (2,))
    assert plan.llm_stages == ("llm", "coder")
    assert [stage.name for stage in plan.services] == ["embed", "retrieve", "detokenise"]
    assert plan.quantity("retrieve") == "none"
    assert plan.service("embed").kind == "embed"


def test_ways_of_the_same_stages_differ_by_what_is_added() -> None:
    cascade = {"kind": "cascade", "stages": ["small", "large"], "fallback": [0.5]}
    classes = [
        {"name": "a", "share": 1, "pipeline": [EMBED, RETRIEVE, cascade]},
        {"name": "b", "share": 1, "pipeline": [cascade]},
    ]
    plan = pipeline_plan(Workload.parse({**LOAD, "classes": classes}))
    large = [way for way, stages in enumerate(plan.ways) if stages == ("large",)]
    assert sorted(plan.added_prompt_tokens[way] for way in large) == [0, 400]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([EMBED, "prefill", "decode"], [{**EMBED, "model": "bge-base-en"}, "prefill", "decode"], ["'embed'", "same"]),
        ([TOKENISE, "prefill", "decode"], [RETRIEVE, TOKENISE, "prefill", "decode"], ["'tokenise'", "query", "prompt"]),
        ([EMBED, "prefill", "decode"], [{"kind": "llm", "name": "embed"}], ["'embed'", "LLM in one class"]),
    ],
)
def test_one_name_is_one_stage(first: list[Any], second: list[Any], words: list[str]) -> None:
    classes = [{"name": name, "share": 1, "pipeline": each} for name, each in (("a", first), ("b", second))]
    with pytest.raises(SpecError) as error:
        Workload.parse({**LOAD, "classes": classes})
    assert [word for word in words if word not in str(error.value)] == [], error.value


# Requests


def llm_of_rows(workload: Workload, requests: Requests) -> np.ndarray:
    names = [pipeline_plan(workload).llm_of_way(way) or "" for way in range(len(requests.ways))]
    return np.array(names)[requests.way]


def test_a_router_sends_by_chance() -> None:
    workload = load([ROUTE])
    requests = build_requests(workload)
    small = np.mean(llm_of_rows(workload, requests) == "small")
    assert small == pytest.approx(0.7, abs=0.015)  # 4.6 standard deviations of 20 000 draws
    plain = build(["prefill", "decode"])
    assert np.array_equal(requests.prompt_tokens, plain.prompt_tokens)
    assert np.array_equal(requests.arrival_ps, plain.arrival_ps)
    assert requests.sessions is None


@pytest.mark.parametrize("by", ["prompt_tokens", "output_tokens"])
def test_a_router_sends_by_length(by: str) -> None:
    pipeline = [EMBED, RETRIEVE, {"kind": "route", "by": by, "to": {"large": 600, "small": 0, "middle": 500}}]
    workload = load(pipeline)
    requests = build_requests(workload)
    # A router sees the 400 tokens of documents too.
    tokens = requests.prompt_tokens + 400 if by == "prompt_tokens" else requests.output_tokens
    expected = np.where(tokens >= 600, "large", np.where(tokens >= 500, "middle", "small"))
    assert np.array_equal(llm_of_rows(workload, requests), expected)
    assert set(expected) == {"small", "middle", "large"}


def test_a_router_sends_by_class() -> None:
    classes = [{"name": "chat", "share": 3}, {"name": "code", "share": 1}, {"name": "mail", "share": 1}]
    route: dict[str, Any] = {"kind": "route", "by": "class", "to": {"small": ["chat", "mail"], "coder": "code"}}
    workload = load([route], classes=classes)
    requests = build_requests(workload)
    of_row = np.array(requests.classes)[requests.request_class]
    assert np.array_equal(llm_of_rows(workload, requests) == "coder", of_row == "code")
    assert np.mean(of_row == "chat") == pytest.approx(0.6, abs=0.015)
    with pytest.raises(SpecError, match="class 'mail' is sent nowhere; to: chat, code"):
        load([{**route, "to": {"small": "chat", "coder": "code"}}], classes=classes)


def test_a_cascade_asks_again() -> None:
    workload = load([CASCADE, DETOKENISE])
    requests = build_requests(workload)
    sessions = requests.sessions
    assert sessions is not None
    llm = llm_of_rows(workload, requests)
    counts = [np.count_nonzero(llm == name) for name in ("small", "middle", "large")]
    assert counts[0] == requests.session_count == 20_000
    assert counts[1] / counts[0] == pytest.approx(0.4, abs=0.016)  # 4.6 standard deviations
    assert counts[2] / counts[1] == pytest.approx(0.5, abs=0.026)
    # Each asks the same again, in the order of the stages, and only the last goes on to what follows.
    first = sessions.first_rows[sessions.session]
    assert np.array_equal(requests.prompt_tokens, requests.prompt_tokens[first])
    assert np.array_equal(requests.output_tokens, requests.output_tokens[first])
    place = np.arange(len(requests)) - first
    assert np.array_equal(llm, np.array(["small", "middle", "large"])[place])
    last = np.append(sessions.session[1:] != sessions.session[:-1], True)
    ends = np.array(["detokenise" in way for way in requests.ways])[requests.way]
    assert np.array_equal(ends, last)
    assert np.array_equal(sessions.followers, 1 - last)
    assert np.array_equal(sessions.first_follower[~last], np.flatnonzero(~last) + 1)
    assert requests.prefixes is None


@pytest.mark.parametrize(("fallback", "asked"), [([0, 0], 1), ([1, 0], 2), ([1, 1], 3), ([0, 1], 1)])
def test_certain_cascades(fallback: list[float], asked: int) -> None:
    requests = build([{**CASCADE, "fallback": fallback}], requests=7)
    assert len(requests) == 7 * asked


def test_reasoning_on_one_path_lengthens_the_output() -> None:
    plain, thinking = build(["prefill", "decode"]), build([{"kind": "reason", "factor": 8}])
    assert np.array_equal(thinking.output_tokens, 8 * plain.output_tokens)
    assert np.array_equal(thinking.prompt_tokens, plain.prompt_tokens)
    assert thinking.sessions is None
    assert thinking.way is None


@pytest.mark.parametrize(("join", "needed"), [("first", 1), ("majority", 3), ("all", 5), (None, 5)])
def test_branches_share_a_prompt(join: str | None, needed: int) -> None:
    reason = {"kind": "reason", "branches": 5, "join": join, "factor": 2.5}
    requests = build([EMBED, reason, DETOKENISE], requests=3, arrivals={"process": "constant", "rate_rps": 1})
    plain = build(["prefill", "decode"], requests=3)
    sessions, prefixes = requests.sessions, requests.prefixes
    assert sessions is not None
    assert prefixes is not None
    assert requests.ways == (("embed", "llm"), ("llm",), ("detokenise",))
    assert requests.way is not None
    assert requests.way.tolist() == [0, 1, 1, 1, 1, 1, 2] * 3
    assert sessions.needs.tolist() == [0, 1, 1, 1, 1, 1, needed] * 3
    assert sessions.followers.tolist() == [5, 1, 1, 1, 1, 1, 0] * 3
    assert sessions.first_follower.tolist() == [
        *(1, 6, 6, 6, 6, 6, 0),
        *(8, 13, 13, 13, 13, 13, 0),
        *(15, 20, 20, 20, 20, 20, 0),
    ]
    assert np.array_equal(requests.prompt_tokens, np.repeat(plain.prompt_tokens, 7))
    rounded = np.rint(plain.output_tokens * 2.5)
    expected = [[1, *[each] * 5, answer] for each, answer in zip(rounded, plain.output_tokens, strict=True)]
    assert requests.output_tokens.tolist() == np.concatenate(expected).tolist()
    assert (requests.arrival_ps // 10**12).tolist() == [0] * 7 + [1] * 7 + [2] * 7
    # All calls of a session have the ids of the prompt, and no others have them.
    assert np.array_equal(prefixes.prompt_chunks, requests.prompt_tokens // 64)
    assert np.array_equal(prefixes.all_chunks, prefixes.prompt_chunks)
    assert np.unique(prefixes.chunk_first).size == 3
    assert prefixes.ids == prefixes.chunks.size == int((plain.prompt_tokens // 64).sum())


def test_a_summary_reads_the_answers() -> None:
    reason = {"kind": "reason", "branches": 4, "join": "majority", "factor": 9, "summary_tokens": 70}
    requests, plain = build([reason, DETOKENISE], requests=50), build(["prefill", "decode"], requests=50)
    assert requests.ways == (("llm",), ("llm", "detokenise"))
    last = slice(5, None, 6)
    assert np.array_equal(requests.prompt_tokens[last], plain.prompt_tokens + 3 * plain.output_tokens)
    assert (requests.output_tokens[last] == 70).all()


def test_branches_differ_in_length_and_keep_their_mean() -> None:
    fixed = {"distribution": "constant", "tokens": 1000}
    reason = {"kind": "reason", "branches": 20, "factor": 2, "sigma": 0.5}
    requests = build([reason], requests=2000, lengths={"prompt": fixed, "output": fixed})
    branches = requests.output_tokens.reshape(2000, 22)[:, 1:-1].astype(float)
    # Lognormal of mean 2000; the mean of 40 000 has a relative standard deviation of 0.0027.
    assert branches.mean() == pytest.approx(2000, rel=0.012)
    assert np.log(branches).std() == pytest.approx(0.5, rel=0.02)
