"""Classes of requests, media, urgency: mixtures of several kinds of load."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pytest

from simulator.errors import SpecError
from simulator.spec.workload import Workload
from simulator.workload import NO_DEADLINE_PS, PS_PER_S, Requests, build_requests

LOAD: dict[str, Any] = {
    "requests": 20_000,
    "arrivals": {"process": "poisson", "rate_rps": 8},
    "lengths": {"statistics": "azure-2023-conversation"},
}
FIXED = {"prompt": {"distribution": "constant", "tokens": 300}, "output": {"distribution": "constant", "tokens": 50}}
ENCODE = {"kind": "encode", "patches_per_image": 577, "fold": 4}


def build(**changes: Any) -> Requests:
    return build_requests(Workload.parse({**LOAD, **changes}, source="test"))


def test_shares_and_lengths_of_classes() -> None:
    requests = build(
        classes=[
            {"name": "chat", "share": 3, "priority": 2},
            {"name": "fixed", "share": 1, "lengths": FIXED, "deadline_s": 2.5},
        ]
    )
    plain = build()
    assert requests.classes == ("chat", "fixed")
    assert requests.request_class is not None
    fixed = requests.request_class == 1
    assert fixed.mean() == pytest.approx(0.25, abs=0.0141)  # 4.6 standard deviations
    assert set(requests.prompt_tokens[fixed]) == {300}
    # The first class has the stream of a workload without classes.
    n = np.count_nonzero(~fixed)
    assert np.array_equal(requests.prompt_tokens[~fixed], plain.prompt_tokens[:n])
    assert np.array_equal(requests.arrival_ps, plain.arrival_ps)
    assert requests.priority is not None
    assert requests.deadline_ps is not None
    assert set(requests.priority[~fixed]) == {2}
    assert set(requests.priority[fixed]) == {0}
    assert set(requests.deadline_ps[fixed]) == {2.5 * PS_PER_S}
    assert set(requests.deadline_ps[~fixed]) == {NO_DEADLINE_PS}
    # An arrival at the end of the clock (100 days) and this fit 64 bits.
    assert NO_DEADLINE_PS + 100 * 86_400 * PS_PER_S < 2**63


def test_one_class_is_as_none() -> None:
    one, none = build(classes=[{"name": "all", "share": 7}]), build()
    for name in ("arrival_ps", "prompt_tokens", "output_tokens"):
        assert np.array_equal(getattr(one, name), getattr(none, name))
    assert none.ways == ()
    assert (none.way, none.priority, none.sessions, none.prefixes, none.request_class) == (None,) * 5
    assert one.ways == (("llm",),)


def test_a_class_without_requests_is_no_trouble() -> None:
    requests = build(requests=3, classes=[{"name": "a", "share": 1}, {"name": "b", "share": 1e-9, "priority": 3}])
    assert requests.request_class is not None
    assert requests.request_class.tolist() == [0, 0, 0]
    assert requests.priority is not None


def test_a_class_has_what_the_workload_has_unless_it_says_otherwise() -> None:
    requests = build(
        lengths=FIXED,
        session={"turns": 2, "prompt_tokens": 10},
        priority=5,
        classes=[
            {"name": "a", "share": 1},
            {"name": "b", "share": 1, "session": {"turns": 1, "prompt_tokens": 10}, "priority": 0},
        ],
        requests=200,
    )
    assert requests.request_class is not None
    assert requests.priority is not None
    assert requests.sessions is not None
    rows = [np.flatnonzero(requests.request_class == place) for place in range(2)]
    assert set(requests.priority[rows[0]]) == {5}
    assert set(requests.priority[rows[1]]) == {0}
    sessions = [np.unique(requests.sessions.session[each]).size for each in rows]
    assert [each.size for each in rows] == [2 * sessions[0], sessions[1]]


def test_a_trace_may_have_classes(tmp_path: Any) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i},{i + 1},5\n" for i in range(100)))
    trace = {"path": str(path)}
    classes = [{"name": "a", "share": 1}, {"name": "b", "share": 1, "priority": 1}]
    requests = build_requests(Workload.parse({"trace": trace, "classes": classes}))
    assert requests.prompt_tokens.tolist() == list(range(1, 101))
    assert requests.request_class is not None
    assert 20 < requests.request_class.sum() < 80
    with pytest.raises(SpecError, match="give either trace"):
        Workload.parse({"trace": trace, "classes": [{"name": "a", "share": 1, "lengths": FIXED}]})


def test_every_class_needs_lengths() -> None:
    given = {**LOAD, "lengths": None}
    assert Workload.parse({**given, "classes": [{"name": "a", "share": 1, "lengths": FIXED}]}).lengths is None
    with pytest.raises(SpecError, match="both arrivals and lengths"):
        Workload.parse({**given, "classes": [{"name": "a", "share": 1, "lengths": FIXED}, {"name": "b", "share": 1}]})


# Media


def test_images_are_encoded_and_stand_in_the_prompt() -> None:
    requests = build(pipeline=[ENCODE, "prefill", "decode"], media={"images": 2}, lengths=FIXED, requests=5)
    assert requests.media_tokens is not None
    assert requests.media_tokens.tolist() == [2 * 577] * 5
    # 577 / 4, rounded up, is 145.
    assert requests.prompt_tokens.tolist() == [300 + 2 * 145] * 5
    assert requests.query_tokens is not None
    assert requests.query_tokens.tolist() == [300] * 5


@pytest.mark.parametrize(
    ("images", "mean", "least"),
    [
        ({"distribution": "poisson", "mean": 1.5}, 1.5, 0),
        ({"distribution": "uniform", "low": 0, "high": 4}, 2.0, 0),
        ({"distribution": "geometric", "mean": 2.5}, 2.5, 1),
        (0, 0.0, 0),
    ],
)
def test_numbers_of_images(images: Any, mean: float, least: int) -> None:
    requests = build(pipeline=[ENCODE, "prefill", "decode"], media={"images": images}, lengths=FIXED)
    assert requests.media_tokens is not None
    counts = requests.media_tokens // 577
    assert counts.mean() == pytest.approx(mean, rel=0.04)  # 4.6 standard deviations: at most 3.3 %
    assert counts.min() == least
    assert np.array_equal(requests.prompt_tokens, 300 + 145 * counts)


def test_media_of_one_class_of_two() -> None:
    classes = [
        {"name": "text", "share": 1},
        {"name": "seen", "share": 1, "pipeline": [ENCODE, "prefill", "decode"], "media": {"images": 1}},
    ]
    requests = build(classes=classes, lengths=FIXED)
    assert requests.request_class is not None
    assert requests.media_tokens is not None
    assert np.array_equal(requests.media_tokens, 577 * requests.request_class)
    assert np.array_equal(requests.prompt_tokens, 300 + 145 * requests.request_class)


def test_images_of_a_conversation_stay_in_its_history() -> None:
    session = {"turns": 2, "prompt_tokens": 40}
    requests = build(
        pipeline=[ENCODE, "prefill", "decode"], media={"images": 1}, lengths=FIXED, requests=1, session=session
    )
    assert requests.prompt_tokens.tolist() == [445, 445 + 50 + 40 + 145]


# Speed


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": [{"name": "a", "share": 1}, {"name": "b", "share": 2, "deadline_s": 3}]},
        {"prefix": {"system_prompts": 10, "tokens": 1024}},
        {"pipeline": [{"kind": "cascade", "stages": ["small", "large"], "fallback": [0.3]}]},
        {"session": {"turns": {"distribution": "geometric", "mean": 4}, "prompt_tokens": 200}, "requests": 25_000},
    ],
)
def test_a_hundred_thousand_calls_take_a_fraction_of_a_second(changes: dict[str, Any]) -> None:
    times_s = []
    for _ in range(3):
        start_s = perf_counter()
        build(**{"requests": 100_000, **changes})
        times_s.append(perf_counter() - start_s)
    assert min(times_s) <= 0.5  # measured: 0.02 to 0.15 s
