"""Specifications from strangers: each is refused with a cause or used, in little time."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dse.spec import StudySpec
from simulator import Deployment, SpecError, Workload
from simulator.spec.base import MOST_CHARACTERS, MOST_LEVELS, MOST_VALUES, read_yaml_text
from simulator.workload.size import requests_of

LENGTHS = {"prompt": {"distribution": "constant", "tokens": 5}, "output": {"distribution": "constant", "tokens": 5}}
LOAD: dict[str, Any] = {"arrivals": {"process": "poisson", "rate_rps": 2.0}, "lengths": LENGTHS}
SPACE: dict[str, Any] = {"accelerators": ["h100-sxm"], "clients": [1, 2]}
STUDY: dict[str, Any] = {
    "name": "s",
    "model": "llama-3.1-8b",
    "workload": LOAD,
    "space": SPACE,
    "objectives": ["usd_per_hour"],
}
MANY = 14_000
CASCADE = {"kind": "cascade", "fallback": [0.5] * 15}
MODEL, LLMS = "llama-3.1-8b", [f"s{n}" for n in range(60)]
LONGEST_S = 4.0
"""Of a body below 1 MB. The worst takes 1.3 s alone on a core; tests run beside others."""


def refusal_of(data: object) -> SpecError | None:
    """Return why a study is refused; None if it can be used, sized, written down and read back."""
    try:
        spec = StudySpec.parse(data)
    except SpecError as error:
        return error
    assert float(spec.space.space.size) >= 1
    assert requests_of(spec.workload) >= 1
    assert StudySpec.parse(json.loads(spec.model_dump_json(exclude_none=True))) == spec
    return None


def space(**more: Any) -> dict[str, Any]:
    return {**STUDY, "space": {**SPACE, **more}}


def load(**more: Any) -> dict[str, Any]:
    return {**STUDY, "workload": {**LOAD, **more}}


def classes(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"c{n}", "share": 1.0, **more} for n in range(count)]


def filters(count: int, name: str = "f") -> list[Any]:
    return [*({"kind": "filter", "name": f"{name}{n}"} for n in range(count)), "prefill", "decode"]


BODIES: dict[str, dict[str, Any]] = {
    "choices": space(clients=list(range(1, MANY))),
    "equal choices": space(clients=[1] * MANY),
    "wide range": space(clients={"low": 1, "high": 10**12}),
    "wide range of nines": space(clients={"low": 1, "high": 10**9}),
    "names of accelerators": space(accelerators=["h100-sxm"] * MANY),
    "services to choose": space(services={f"s{n}": {"devices": ["l4"], "clients": [1]} for n in range(7000)}),
    "links": space(links={f"s{n}": {"gb_per_s": n + 1.0} for n in range(MANY)}),
    "drafts": space(drafts={f"s{n}": {"draft_tokens": 1, "acceptance": n / MANY} for n in range(7000)}),
    "tiers": space(prefix_cache=[True], tiers={f"s{n}": [{"name": "t", "kind": "host-dram"}] for n in range(7000)}),
    "lending": space(lending={f"s{n}": {"prefill_above_tokens": n} for n in range(MANY)}),
    "stages": space(stages={f"s{n}": {} for n in range(MANY)}),
    "layouts of 60 stages": {
        **space(stages={name: {} for name in LLMS}),
        "model": dict.fromkeys(LLMS, MODEL),
        "workload": {**LOAD, "pipeline": [{"kind": "route", "to": dict.fromkeys(LLMS, 1)}]},
    },
    "60 stages": {
        **space(layouts=["disaggregated"], stages={name: {} for name in LLMS}, tp=list(range(1, 600))),
        "model": dict.fromkeys(LLMS, MODEL),
        "workload": {**LOAD, "pipeline": [{"kind": "route", "to": dict.fromkeys(LLMS, 1)}]},
    },
    "targets": load(pipeline=[{"kind": "route", "to": {f"s{n}": 1 for n in range(MANY)}}]),
    "stages of a pipeline": load(pipeline=filters(9000)),
    "classes by a router": load(
        classes=classes(1000),
        pipeline=[{"kind": "route", "by": "class", "to": {"a": [f"c{n}" for n in range(1000)], "b": ["d"]}}],
    ),
    "classes with cascades": load(
        classes=[
            {
                **each,
                "pipeline": [
                    {"kind": "cascade", "stages": [f"{each['name']}{n}" for n in range(16)], "fallback": [0.5] * 15}
                ],
            }
            for each in classes(800)
        ]
    ),
    "classes with routers": load(
        classes=[
            {
                **each,
                "pipeline": [
                    {"kind": "route", "name": f"r{each['name']}", "to": {f"{each['name']}{n}": 1 for n in range(90)}}
                ],
            }
            for each in classes(250)
        ]
    ),
    "classes with services": load(classes=[{**each, "pipeline": filters(98, each["name"])} for each in classes(130)]),
    "classes with the same services": load(classes=classes(1000), pipeline=filters(98)),
    "objectives": {**STUDY, "objectives": ["nonsense"] * MANY},
    "constraints": {**STUDY, "constraints": [{"metric": "nonsense", "at_most": 1.0}] * MANY},
    "models": {**STUDY, "model": {f"s{n}": "nonsense" for n in range(MANY)}},
    "unknown keys": {**STUDY, **{f"k{n}": 1 for n in range(MANY)}},
    "unknown keys of services": space(services={f"s{n}": {"zzz": 1} for n in range(MANY)}),
    "wrong slos": {**STUDY, "slos": [{"a": 1}] * MANY},
    "wrong choices": space(clients=["x"] * 58_000),
    "wrong classes": load(classes=[{"a": 1}] * 19_000),
    "question": {**STUDY, "question": "x" * 900_000},
    "name": {**STUDY, "name": "x" * 900_000},
    "model": {**STUDY, "model": "x" * 9_000},
    "huge values": space(tp=[10**18], groups=[10**18], handover_scopes=["local"], swaps_gb=[1e308]),
    "weight": load(pipeline=[{"kind": "route", "to": {"a": 10**400, "b": 1}}]),
    "turns": load(session={"turns": 10**400, "prompt_tokens": 10**400}),
    "slow": load(arrivals={"process": "poisson", "rate_rps": 5e-324}),
    "fast": load(arrivals={"process": "gamma", "rate_rps": 1e308, "burstiness_cv": 20.0}),
    "seed": load(seed=10**4000),
    "too large a seed": load(seed=10**5000),
    "levels": json.loads('{"a":' * 900 + "1" + "}" * 900),
    "commas": {"name": "," * 900_000},
}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_study_is_used_or_refused_in_little_time(name: str) -> None:
    start = time.perf_counter()
    refusal = refusal_of(BODIES[name])
    if refusal is not None:
        assert "\n" not in str(refusal)
        assert len(str(refusal)) < 150_000
        assert refusal.problems
    assert time.perf_counter() - start < LONGEST_S


@pytest.mark.parametrize(
    "data",
    [
        {"pools": [{"name": f"p{n}", "model": "m", "accelerator": "a"} for n in range(9000)]},
        {"pools": [{"model": "m", "accelerator": "a", "clients": 10**18}]},
        {"pools": [{"model": "m", "accelerator": "a", "pp": 256, "stage_accelerators": ["a"] * 50_000}]},
        {"pools": [{"model": "m", "accelerator": "a"}], "services": [{"stage": "s", "device": "d"}] * 9000},
        {"pools": [{"a": n} for n in range(29_000)]},
    ],
)
def test_a_hostile_deployment_is_refused_in_little_time(data: dict[str, Any]) -> None:
    start = time.perf_counter()
    with pytest.raises(SpecError):
        Deployment.parse(data)
    assert time.perf_counter() - start < LONGEST_S


@pytest.mark.parametrize(
    ("data", "field", "character"),
    [
        ({**STUDY, "question": "a\0b"}, "question", "U+0000"),
        ({**STUDY, "question": "a\ud800"}, "question", "U+D800"),
        ({**STUDY, "workload": {**LOAD, "classes": [{"name": "\udfff"}]}}, "workload.classes.0.name", "U+DFFF"),
        ({**STUDY, "a\0": 1}, "a?", "U+0000"),
    ],
)
def test_what_is_no_text_is_refused_by_field(data: dict[str, Any], field: str, character: str) -> None:
    with pytest.raises(SpecError, match=f"character U\\{character[1:]}, which is no text") as caught:
        StudySpec.parse(data)
    (problem,) = caught.value.problems
    assert problem.field == field
    str(caught.value).encode()


def test_all_other_text_is_taken() -> None:
    text = "how? \\u0000 \\ud800 \U0001f600 \u00e4 \u202e\n\t" + "x" * 3000
    assert StudySpec.parse({**STUDY, "question": text}).question == text


@pytest.mark.parametrize("data", [{b"a": 1}, {("a",): 1}, {1: 2, None: 3}, [[]] * 3, "text", 1.5, None, float("nan")])
def test_odd_data_is_refused(data: object) -> None:
    for spec in (StudySpec, Deployment, Workload):
        with pytest.raises(SpecError):
            spec.parse(data)


def test_the_greatest_space_is_counted() -> None:
    """A body with more designs than a float can say is refused, not a crash later."""
    with pytest.raises(SpecError, match="more than 10\\^300 designs"):
        StudySpec.parse(BODIES["60 stages"])


# ----------------------------------------------------------------------------------------------------------------------
# YAML


def test_plain_yaml_is_read() -> None:
    text = "a: 1\nb: [x, 2.5, true, null]\nc: {d: 'e', f: !!str 8}\ng: >\n  folded\n  text\n"
    assert read_yaml_text(text, "body") == {
        "a": 1,
        "b": ["x", 2.5, True, None],
        "c": {"d": "e", "f": "8"},
        "g": "folded text\n",
    }
    assert read_yaml_text(json.dumps(STUDY), "body") == STUDY


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a: &x [1]\nb: *x", r"line 1, column 4: anchors and aliases"),
        ("a: *x", "anchors and aliases"),
        ("a: 1\nb: 2\na: 3", r"line 3, column 1: the key 'a' stands twice"),
        ("x:\n  - {a: 1, a: 1}", "the key 'a' stands twice"),
        ("[" * 5000, f"more than {MOST_LEVELS} lists"),
        ("- " * 5000, f"more than {MOST_LEVELS} lists"),
        ("{a: " * 5000, f"more than {MOST_LEVELS} lists"),
        ("[" + "1," * (MOST_VALUES + 1) + "]", "more than 60,000 values"),
        ("a: 1" + ":10" * 100_000, "too many digits"),
        ("a: 0b" + "1" * 100_000, "too many digits"),
        ("a: " + "1" * 10_000, "too many digits"),
        ("a: !!python/object:os.system {}", "tags"),
        ("a: !!int '1'", "tags"),
        ("a: !x 1", "tags"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: [", "not valid YAML at line"),
        ("a: \x00", "not valid YAML"),
        ("\ud800", "body: not"),
        ("=: =", "not valid YAML"),
    ],
)
def test_yaml_of_strangers_is_refused(text: str, cause: str) -> None:
    start = time.perf_counter()
    with pytest.raises(SpecError, match=f"^body: .*{cause}" if not cause.startswith("body") else cause):
        read_yaml_text(text, "body")
    assert time.perf_counter() - start < LONGEST_S


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.sampled_from("ab01 \n\t:-?[]{},&*!|>'\"%@`#.~=<\\_eExX+é\0"), max_size=60))
def test_any_text_is_plain_data_or_refused(text: str) -> None:
    try:
        data = read_yaml_text(text, "body")
    except SpecError:
        return
    with pytest.raises(SpecError):
        StudySpec.parse(data, source="body")


# ----------------------------------------------------------------------------------------------------------------------
# Anything anywhere

hostile = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**18, 10**400, 1e308, -1e308, 5e-324, float("inf"), float("nan")]),
    st.floats(),
    st.text(st.characters(), max_size=12),
    st.sampled_from(["\ud800", "a\0", "", "planned", "llm", "../x.json", "x.yaml", "a" * (MOST_CHARACTERS + 1)]),
    st.lists(st.one_of(st.integers(-2, 5), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
)
FULL: dict[str, Any] = {
    **STUDY,
    "workload": {
        **LOAD,
        "requests": 50,
        "session": {"turns": {"distribution": "geometric", "mean": 2.0}, "prompt_tokens": 3, "wait_s": 1.0},
        "prefix": {"system_prompts": 3, "tokens": 100, "zipf": 1.0},
        "pipeline": [
            {"kind": "tokenise"},
            {"kind": "route", "to": {"a": 1.0, "b": 2.0}},
            {"kind": "filter", "name": "f"},
        ],
        "classes": [{"name": "x", "share": 1.0}, {"name": "y", "share": 2.0, "deadline_s": 3.0}],
    },
    "model": {"a": "llama-3.1-8b", "b": "llama-3.1-8b"},
    "space": {
        **SPACE,
        "clients": {"low": 1, "high": 4, "step": 1},
        "stages": {"a": {}, "b": {"tp": [1, 2]}},
        "links": {"slow": {"gb_per_s": 10.0}, "fast": {"gb_per_s": 100.0}},
        "services": {
            name: {
                "devices": ["xeon-gold-6448y"],
                "clients": [1, 2],
                "max_waits_ms": [0.0, 5.0],
                "max_batches_requests": [1, 8],
            }
            for name in ("tokenise", "route", "f")
        },
        "prefix_cache": [True, False],
    },
    "slos": [{"metric": "ttft", "percentile": 99.0, "limit_s": 1.0}],
    "constraints": [{"metric": "usd_per_hour", "at_most": 100.0, "penalty": 1.0}],
    "limits": {"accelerators": 8, "usd_per_hour": 100.0},
    "budget": {"trials": 10, "certified": 0.01},
}


def places(data: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [here, *(place for key, each in inside for place in places(each, (*here, key)))]


PLACES = places(FULL)[1:]


def test_the_full_study_is_valid() -> None:
    assert StudySpec.parse(FULL).space.space.size > 1000


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PLACES), hostile), min_size=1, max_size=2))
def test_anything_anywhere_is_used_or_refused(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    data = json.loads(json.dumps(FULL))
    for place, value in changes:
        inside = data
        try:
            for part in place[:-1]:
                inside = inside[part]
            inside[place[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    refusal = refusal_of(data)
    assert refusal is None or all(problem.message for problem in refusal.problems)
