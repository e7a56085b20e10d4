"""Sessions: the arrays, conversations that grow, and that every call is reached in any combination of traits."""

from __future__ import annotations

import pickle
from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import SpecError
from simulator.spec.workload import Workload
from simulator.workload import PS_PER_S, Requests, Sessions, build_requests

FIXED = {"prompt": {"distribution": "constant", "tokens": 300}, "output": {"distribution": "constant", "tokens": 50}}
LOAD: dict[str, Any] = {"requests": 2000, "arrivals": {"process": "poisson", "rate_rps": 8}, "lengths": FIXED}
CASCADE = {"kind": "cascade", "stages": ["small", "large"], "fallback": [0.5]}


def build(**changes: Any) -> Requests:
    return build_requests(Workload.parse({**LOAD, **changes}, source="test"))


def sessions_of(requests: Requests) -> Sessions:
    assert requests.sessions is not None
    return requests.sessions


def of(**arrays: Any) -> Sessions:
    n = len(arrays["session"])
    zero = [0] * n
    return Sessions(**{"wait_ps": zero, "first_follower": zero, "followers": zero, "keep": zero, **arrays})


#: Two sessions: one call; and a call, two that follow it, and one that follows both.
TWO: dict[str, Any] = {
    "session": [7, 3, 3, 3, 3],
    "needs": [0, 0, 1, 1, 2],
    "first_follower": [0, 2, 4, 4, 0],
    "followers": [0, 2, 1, 1, 0],
    "wait_ps": [0, 0, 5, 6, 7],
    "keep": [0, 0, 1, 2, 0],
}

# Arrays


def test_sessions_are_numbered_and_frozen() -> None:
    sessions = of(**TWO)
    assert sessions.session.tolist() == [0, 1, 1, 1, 1]
    assert sessions.count == 2
    assert sessions.first_rows.tolist() == [0, 1]
    assert sessions.wait_ps.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        sessions.needs[0] = 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"session": [7, 3, 3, 3, 7]}, "adjacent"),
        ({"needs": [0, 0, 1, 0, 2]}, "no other, must have needs 0"),
        ({"needs": [1, 0, 1, 1, 2]}, "no other, must have needs 0"),
        ({"needs": [0, 0, 1, 1, 3]}, "row 4 needs 3 rows, but 2 lead to it"),
        ({"first_follower": [0, 2, 2, 4, 0]}, "later rows of the same session"),
        ({"followers": [1, 2, 1, 1, 0], "first_follower": [1, 2, 4, 4, 0]}, "later rows of the same session"),
        ({"followers": [0, 2, 1, 2, 0]}, "later rows of the same session"),
        ({"wait_ps": [0, 0, -5, 6, 7]}, "must not be negative"),
        ({"keep": [0, 0, 3, 0, 0]}, "keep must be one of 0, 1, 2"),
        ({"keep": [0]}, "one length"),
    ],
)
def test_sessions_refuse_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of(**{**TWO, **changes})


def test_sorting_moves_sessions_as_they_are() -> None:
    requests = Requests(
        np.array([900, 500, 77, 77, 77]),
        np.array([1, 2, 3, 4, 5], dtype=np.int32),
        np.array([6, 7, 8, 9, 10], dtype=np.int32),
        sessions=of(**TWO),
    )
    sessions = sessions_of(requests)
    # Followers arrive with their session, whatever is given.
    assert requests.arrival_ps.tolist() == [0, 0, 0, 0, 400]
    assert requests.prompt_tokens.tolist() == [2, 3, 4, 5, 1]
    assert sessions.session.tolist() == [0, 0, 0, 0, 1]
    assert sessions.needs.tolist() == [0, 1, 1, 2, 0]
    assert sessions.first_follower.tolist() == [1, 3, 3, 0, 0]
    assert sessions.followers.tolist() == [2, 1, 1, 0, 0]
    assert sessions.wait_ps.tolist() == [0, 5, 6, 7, 0]
    assert sessions.keep.tolist() == [0, 1, 2, 0, 0]
    assert requests.session_count == 2
    assert requests.rate_rps == pytest.approx(1 / 400e-12)
    first = requests.first(1)
    assert first.prompt_tokens.tolist() == [2, 3, 4, 5]
    assert sessions_of(first).first_follower.tolist() == [1, 3, 3, 0]
    second = requests.between(1, 2)
    assert (second.arrival_ps.tolist(), second.prompt_tokens.tolist()) == ([0], [1])


def test_requests_refuse_what_does_not_fit() -> None:
    one = np.ones(2, dtype=np.int32)
    for changes, message in (
        ({"way": one}, "way must be from 0 to -1"),
        ({"request_class": one, "classes": ("a",)}, "request_class must be from 0 to 0"),
        ({"priority": one[:1]}, "priority has the shape"),
        ({"media_tokens": -one}, "media_tokens must not be negative"),
        ({"sessions": of(**TWO)}, "sessions has 5 rows, the requests 2"),
    ):
        with pytest.raises(ValueError, match=message):
            Requests(one, one, one, **changes)  # type: ignore[arg-type]


def test_everything_counts_in_the_fingerprint_and_survives_pickling() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"priority": 1},
        {"priority": 2},
        {"deadline_s": 1.5},
        {"adapters": {"count": 3}},
        {"prefix": {"tokens": 100}},
        {"prefix": {"tokens": 100}, "chunk_tokens": 16},
        {"session": {"turns": 2, "prompt_tokens": 9}},
        {"session": {"turns": 2, "prompt_tokens": 9, "keep": "drop"}},
        {"session": {"turns": 2, "prompt_tokens": 9, "wait_s": 1}},
        {"classes": [{"name": "a", "share": 1}]},
        {"classes": [{"name": "b", "share": 1}]},
        {"pipeline": [{"kind": "route", "to": {"a": 1, "b": 1}}]},
        {"pipeline": [{"kind": "route", "to": {"a": 1, "c": 1}}]},
    ]
    built = [build(requests=20, **each) for each in changes]
    assert len({each.fingerprint() for each in built}) == len(changes)
    assert [each.fingerprint() for each in built] == [build(requests=20, **each).fingerprint() for each in changes]
    for each in built:
        assert pickle.loads(pickle.dumps(each)).fingerprint() == each.fingerprint()


# Conversations


def test_a_conversation_by_hand() -> None:
    requests = build(
        requests=2,
        session={"turns": 3, "prompt_tokens": 40, "output_tokens": 7, "wait_s": 2.5, "keep": "offload"},
        prefix={"tokens": 1000},
        chunk_tokens=16,
    )
    sessions, prefixes = sessions_of(requests), requests.prefixes
    assert prefixes is not None
    # 1000 + 300; then an answer of 50 and 40 new ones; then one of 7 and 40 new ones.
    assert requests.prompt_tokens.tolist() == [1300, 1390, 1437] * 2
    assert requests.output_tokens.tolist() == [50, 7, 7] * 2
    assert requests.query_tokens is not None
    assert requests.query_tokens.tolist() == [300, 40, 40] * 2
    assert sessions.needs.tolist() == [0, 1, 1] * 2
    assert sessions.followers.tolist() == [1, 1, 0] * 2
    assert sessions.first_follower.tolist() == [1, 2, 0, 4, 5, 0]
    assert sessions.wait_ps.tolist() == [0, 2_500_000_000_000, 2_500_000_000_000] * 2
    assert sessions.keep.tolist() == [2] * 6
    assert prefixes.prompt_chunks.tolist() == [81, 86, 89] * 2
    assert prefixes.all_chunks.tolist() == [84, 87, 90] * 2
    first, second = (prefixes.chunks[start : start + 90] for start in prefixes.chunk_first[[0, 3]])
    # 62 full chunks of the system prompt are shared.
    assert np.array_equal(first[:62], second[:62])
    assert np.intersect1d(first[62:], second[62:]).size == 0
    assert prefixes.ids == 62 + 2 * 28


def test_first_turns_and_arrivals_do_not_change_with_turns() -> None:
    lengths = {"statistics": "azure-2023-code"}
    plain = build(lengths=lengths)
    turns = {"distribution": "geometric", "mean": 3}
    talk = build(lengths=lengths, session={"turns": turns, "prompt_tokens": 100})
    first = sessions_of(talk).first_rows
    assert np.array_equal(talk.prompt_tokens[first], plain.prompt_tokens)
    assert np.array_equal(talk.output_tokens[first], plain.output_tokens)
    assert np.array_equal(talk.arrival_ps[first], plain.arrival_ps)
    assert talk.rate_rps == plain.rate_rps


def test_turns_and_waits_have_their_distributions() -> None:
    requests = build(
        requests=40_000,
        session={
            "turns": {"distribution": "geometric", "mean": 4},
            "prompt_tokens": {"distribution": "exponential", "mean_tokens": 200},
            "output_tokens": {"distribution": "uniform", "low_tokens": 1, "high_tokens": 99},
            "wait_s": {"distribution": "lognormal", "mean_s": 20, "p99_s": 100},
        },
    )
    sessions = sessions_of(requests)
    later = sessions.needs > 0
    assert len(requests) / requests.session_count == pytest.approx(4, rel=0.02)  # 4.6 standard deviations: 2 %
    wait_s = sessions.wait_ps[later] / PS_PER_S
    assert wait_s.mean() == pytest.approx(20, rel=0.02)
    assert np.quantile(wait_s, 0.99) == pytest.approx(100, rel=0.05)
    assert requests.output_tokens[later].mean() == pytest.approx(50, rel=0.02)
    # A prompt is the one before with its answer, and what is new: on average 200 tokens.
    grown = requests.prompt_tokens[1:] - requests.prompt_tokens[:-1] - requests.output_tokens[:-1]
    assert requests.query_tokens is not None
    assert np.array_equal(grown[later[1:]], requests.query_tokens[later])
    assert grown[later[1:]].mean() == pytest.approx(200, rel=0.02)


def test_later_answers_are_those_of_lengths() -> None:
    lengths = {"statistics": "azure-2023-conversation"}
    requests = build(requests=30_000, lengths=lengths, session={"turns": 2, "prompt_tokens": 10})
    first, second = requests.output_tokens[::2], requests.output_tokens[1::2]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert second.mean() == pytest.approx(first.mean(), rel=0.03)


def test_a_session_ends_before_its_context_is_too_long() -> None:
    # Turns of 300 + 50, 390 + 50, 480 + 50, …: the third would be 530 long.
    requests = build(requests=4, session={"turns": 10, "prompt_tokens": 40, "max_context_tokens": 529})
    assert requests.prompt_tokens.tolist() == [300, 390] * 4
    assert sessions_of(requests).followers.tolist() == [1, 0] * 4
    # The first turn stays whatever it is.
    assert len(build(requests=4, session={"turns": 10, "prompt_tokens": 40, "max_context_tokens": 10})) == 4


def test_thoughts_are_not_remembered() -> None:
    think = [{"kind": "reason", "factor": 4}]
    requests = build(requests=1, pipeline=think, session={"turns": 2, "prompt_tokens": 40})
    assert requests.output_tokens.tolist() == [200, 200]
    assert requests.prompt_tokens.tolist() == [300, 390]
    assert requests.prefixes is not None
    assert requests.prefixes.all_chunks.tolist() == [300 // 64, 390 // 64]


def test_documents_are_not_remembered() -> None:
    pipeline = [{"kind": "retrieve", "documents": 4}, "prefill", "decode"]
    requests = build(requests=1, pipeline=pipeline, session={"turns": 2, "prompt_tokens": 40})
    assert requests.prompt_tokens.tolist() == [300, 390]
    assert requests.prefixes is not None
    assert np.array_equal(requests.prefixes.all_chunks, requests.prefixes.prompt_chunks)


def test_turns_of_a_cascade() -> None:
    cascade = {**CASCADE, "fallback": [1.0]}
    requests = build(
        requests=1, pipeline=[cascade], session={"turns": 2, "prompt_tokens": 40, "wait_s": 1, "keep": "drop"}
    )
    sessions = sessions_of(requests)
    assert requests.prompt_tokens.tolist() == [300, 300, 390, 390]
    assert sessions.needs.tolist() == [0, 1, 1, 1]
    assert sessions.followers.tolist() == [1, 1, 1, 0]
    assert sessions.first_follower.tolist() == [1, 2, 3, 0]
    assert sessions.wait_ps.tolist() == [0, 0, PS_PER_S, 0]
    assert sessions.keep.tolist() == [1, 1, 1, 1]
    assert requests.prefixes is not None
    # A refused answer is not in the history.
    assert requests.prefixes.all_chunks.tolist() == [300 // 64, 350 // 64, 390 // 64, 440 // 64]


def test_turns_with_branches() -> None:
    reason = {"kind": "reason", "branches": 2, "factor": 3, "summary_tokens": 20}
    session = {"turns": 2, "prompt_tokens": 40, "wait_s": 1, "keep": "drop"}
    requests = build(requests=1, pipeline=[reason], session=session)
    sessions = sessions_of(requests)
    # The next turn's history has the summary for an answer.
    assert requests.prompt_tokens.tolist() == [300, 300, 300, 400, 360, 360, 360, 460]
    assert requests.output_tokens.tolist() == [1, 150, 150, 20, 1, 150, 150, 20]
    assert sessions.needs.tolist() == [0, 1, 1, 2, 1, 1, 1, 2]
    assert sessions.followers.tolist() == [2, 1, 1, 1, 2, 1, 1, 0]
    assert sessions.first_follower.tolist() == [1, 3, 3, 4, 5, 7, 7, 0]
    assert sessions.wait_ps.tolist() == [0, 0, 0, 0, PS_PER_S, 0, 0, 0]
    assert sessions.keep.tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("session", "words"),
    [
        ({"turns": 0}, ["session", "turns", "at least 1"]),
        ({"turns": {"distribution": "poisson", "mean": 3}}, ["turns", "poisson count that may be 0"]),
        ({"turns": {"distribution": "geometric", "mean": 0.5}}, ["session.turns.geometric.mean", "given 0.5"]),
        ({"turns": 2.5}, ["session.turns", "given 2.5"]),
        ({"turns": True}, ["session.turns", "True"]),
        ({"wait_s": -1}, ["session.wait_s", "given -1"]),
        ({"wait_s": {"distribution": "lognormal", "mean_s": 3}}, ["wait_s", "either p99_s or sigma"]),
        ({"wait_s": {"distribution": "uniform", "low_s": 3, "high_s": 2}}, ["high_s 2 is below low_s 3"]),
        ({"prompt_tokens": 0}, ["session.prompt_tokens", "given 0"]),
        ({"prompt_tokens": None}, ["session.prompt_tokens"]),
        ({"keep": "hold"}, ["session.keep", "'hold'", "'keep', 'drop' or 'offload'"]),
    ],
)
def test_a_wrong_session_is_named(session: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        build(session={"turns": 2, "prompt_tokens": 9, **session})
    assert [word for word in words if word not in str(error.value)] == [], error.value


def test_a_prompt_that_grows_beyond_all_bounds_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"a prompt of 10,000,300 tokens, .* at most 10,000,000"):
        build(requests=1, prefix={"tokens": 10_000_000})


# Any combination


def reached(requests: Requests) -> list[int]:
    """Return how often each row arrives if whatever arrives is done at once."""
    sessions = sessions_of(requests)
    needs, times = sessions.needs.copy(), [0] * len(requests)
    queue = deque(np.flatnonzero(needs == 0).tolist())
    while queue:
        row = queue.popleft()
        times[row] += 1
        first = int(sessions.first_follower[row])
        for follower in range(first, first + int(sessions.followers[row])):
            needs[follower] -= 1
            if needs[follower] == 0:
                queue.append(follower)
    return times


PIPELINES = st.sampled_from(
    [
        ["prefill", "decode"],
        [CASCADE],
        [{"kind": "route", "to": {"a": 1, "b": 2}}],
        [{"kind": "reason", "branches": 3, "join": "first"}, {"kind": "detokenise"}],
        [{"kind": "reason", "branches": 4, "join": "majority", "summary_tokens": 5, "sigma": 1}],
        [{"kind": "reason", "factor": 3}],
    ]
)
SESSIONS = st.sampled_from(
    [
        None,
        {"turns": 1, "prompt_tokens": 5},
        {"turns": {"distribution": "geometric", "mean": 3}, "prompt_tokens": 50, "max_context_tokens": 700},
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.tuples(PIPELINES, SESSIONS), min_size=1, max_size=3), n=st.integers(1, 40), seed=st.integers(0, 9)
)
def test_every_call_arrives_once(kinds: list[tuple[Any, Any]], n: int, seed: int) -> None:
    classes = [
        {"name": f"class {i}", "share": 1, "pipeline": pipeline, "session": session}
        for i, (pipeline, session) in enumerate(kinds)
    ]
    requests = build(requests=n, seed=seed, classes=classes)
    assert requests.session_count == n
    assert (requests.prompt_tokens >= 1).all()
    if requests.sessions is not None:
        assert reached(requests) == [1] * len(requests)
        assert (np.diff(requests.arrival_ps[requests.sessions.first_rows]) >= 0).all()
        assert np.array_equal(requests.first(n).fingerprint(), requests.fingerprint())
    if requests.prefixes is not None:
        assert np.unique(requests.prefixes.chunks).size == requests.prefixes.ids
