"""Specifications of workloads, learned statistics and generated requests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from simulator.errors import SpecError
from simulator.spec.arrivals import SHIPPED_STATISTICS
from simulator.spec.workload import Workload
from simulator.workload import (
    PS_PER_S,
    Requests,
    build_requests,
    learn_statistics,
    load_statistics,
    read_trace_file,
)
from simulator.workload.statistics import index_of_dispersion, main

TRACES = {"azure-2023-conversation": "azure_llm_2023_conv.csv", "azure-2023-code": "azure_llm_2023_code.csv"}
POISSON = {"process": "poisson", "rate_rps": 8}
LEARNED = {"statistics": "azure-2023-conversation"}


def workload(**fields: object) -> Workload:
    return Workload.parse(fields, source="test")


def learned(name: str, **fields: object) -> Requests:
    arrivals = {"process": "statistics", "statistics": name}
    return build_requests(workload(arrivals=arrivals, lengths={"statistics": name}, **fields))


def ks_distance(a: np.ndarray, b: np.ndarray) -> float:
    points = np.union1d(a, b)
    first, second = (np.searchsorted(np.sort(each), points, side="right") / each.size for each in (a, b))
    return float(np.abs(first - second).max())


def rank_correlation(requests: Requests) -> float:
    ranks = []
    for values in (requests.prompt_tokens, requests.output_tokens):
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count - 1) / 2)[place])
    return float(np.corrcoef(*ranks)[0, 1])


@pytest.fixture(params=TRACES)
def pair(request: pytest.FixtureRequest, reference: Path) -> tuple[Requests, Requests, str]:
    """Requests of a real trace, many generated from its statistics, and the name."""
    name = request.param
    return read_trace_file(reference / "traces" / TRACES[name]), learned(name, requests=100_000), name


# Specification


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give either trace, or both arrivals and lengths"),
        ({"arrivals": POISSON}, "give either trace, or both arrivals and lengths"),
        ({"arrivals": POISSON, "trace": {"path": "x"}}, "give either trace, or both arrivals and lengths"),
        ({"trace": {"path": "x"}, "requests": 0}, "requests: Input should be greater than or equal to 1"),
        ({"trace": {"path": "x"}, "seed": -1}, "seed: Input should be greater than or equal to 0"),
        (
            {"trace": {"path": "x"}, "pipeline": ["decode"]},
            "prefill, decode must stand in it once, side by side; given decode",
        ),
        ({"trace": {"path": "x", "rate_rps": 0}}, "trace.rate_rps: Input should be greater than 0"),
        (
            {"arrivals": {"process": "gamma", "rate_rps": 1}, "lengths": LEARNED},
            "arrivals.gamma.burstiness_cv: Field required",
        ),
        (
            {"arrivals": {"process": "poison", "rate_rps": 1}, "lengths": LEARNED},
            "'constant', 'poisson', 'gamma', 'statistics'",
        ),
        ({"arrivals": POISSON, "lengths": {}}, "lengths: give either statistics, or both prompt and output"),
        ({"arrivals": POISSON, "lengths": {"statistics": "azure-conv"}}, "did you mean azure-2023-code"),
    ],
)
def test_a_wrong_workload_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)) as error:
        workload(**fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        ({"distribution": "lognormal", "mean_tokens": 9}, "give either p99_tokens or sigma"),
        (
            {"distribution": "lognormal", "mean_tokens": 100, "p99_tokens": 90},
            "p99_tokens must be 1 to 14.96 times mean_tokens",
        ),
        (
            {"distribution": "uniform", "low_tokens": 9, "high_tokens": 8},
            "high_tokens 8 is below low_tokens 9",
        ),
        ({"distribution": "constant", "tokens": 0}, "tokens: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_length_distribution_is_named(distribution: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        workload(arrivals=POISSON, lengths={"prompt": distribution, "output": distribution})


def test_yaml_round_trip(tmp_path: Path) -> None:
    for given in (
        workload(arrivals=POISSON, lengths=LEARNED, requests=5),
        workload(trace={"path": "some.csv", "rate_rps": 2.5}),
    ):
        (tmp_path / "workload.yaml").write_text(given.to_yaml())
        assert Workload.from_yaml(tmp_path / "workload.yaml") == given


def test_every_field_is_described() -> None:
    schema = Workload.model_json_schema()
    for owner in (schema, *schema["$defs"].values()):
        assert all(field.get("description") for field in owner["properties"].values()), owner["title"]


# Requests


def test_requests_are_sorted_shifted_and_frozen() -> None:
    requests = Requests(np.array([7, 5, 5]), np.array([1, 2, 3]), np.array([4, 5, 6]))  # type: ignore[arg-type]
    assert requests.arrival_ps.tolist() == [0, 0, 2]
    assert requests.prompt_tokens.tolist() == [2, 3, 1]
    assert requests.output_tokens.dtype == np.int32
    assert len(requests) == 3
    assert requests.rate_rps == pytest.approx(2 / 2e-12)
    assert re.fullmatch("[0-9a-f]{16}", requests.fingerprint())
    with pytest.raises(ValueError, match="read-only"):
        requests.prompt_tokens[0] = 9


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([], [], []), "at least one"),
        (([0], [1], [1, 2]), "one length"),
        (([0], [1], [0]), "at least 1 token"),
    ],
)
def test_requests_refuse_nonsense(arrays: tuple[list[int], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Requests(*(np.array(each, dtype=np.int64) for each in arrays))  # type: ignore[arg-type]


# Generation


@pytest.mark.parametrize(
    ("process", "cv"),
    [({"process": "constant"}, 0.0), (POISSON, 1.0), ({"process": "gamma", "burstiness_cv": 2.5}, 2.5)],
)
def test_arrival_processes_have_their_rate_and_burstiness(process: dict[str, object], cv: float) -> None:
    requests = build_requests(workload(arrivals={**process, "rate_rps": 8}, lengths=LEARNED, requests=200_000))
    gaps = np.diff(requests.arrival_ps)
    assert requests.rate_rps == pytest.approx(8, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05, abs=1e-9)


@pytest.mark.parametrize(
    ("distribution", "mean", "p99"),
    [
        ({"distribution": "constant", "tokens": 300}, 300, 300),
        ({"distribution": "uniform", "low_tokens": 100, "high_tokens": 500}, 300, 496),
        ({"distribution": "lognormal", "mean_tokens": 300, "p99_tokens": 1500}, 300, 1500),
        ({"distribution": "lognormal", "mean_tokens": 300, "sigma": 0.5}, 300, 847),
        ({"distribution": "exponential", "mean_tokens": 300}, 300, 300 * np.log(100)),
        ({"distribution": "geometric", "mean_tokens": 300}, 300, 300 * np.log(100)),
    ],
)
def test_length_distributions_have_their_moments(distribution: dict[str, object], mean: float, p99: float) -> None:
    lengths = {"prompt": distribution, "output": distribution}
    requests = build_requests(workload(arrivals=POISSON, lengths=lengths, requests=100_000))
    for tokens in (requests.prompt_tokens, requests.output_tokens):
        assert tokens.mean() == pytest.approx(mean, rel=0.015)
        assert np.quantile(tokens, 0.99) == pytest.approx(p99, rel=0.03)
        assert tokens.min() >= 1


def test_lengths_are_clipped() -> None:
    requests = build_requests(
        workload(arrivals=POISSON, lengths={**LEARNED, "max_prompt_tokens": 500, "max_output_tokens": 20})
    )
    assert len(requests) == 10_000
    assert requests.prompt_tokens.max() == 500
    assert requests.output_tokens.max() == 20


def test_the_seed_decides_and_the_rate_changes_no_length() -> None:
    first, again = (learned("azure-2023-code", seed=3) for _ in range(2))
    assert first.fingerprint() == again.fingerprint()
    assert first.fingerprint() != learned("azure-2023-code", seed=4).fingerprint()
    slow, fast = (
        build_requests(workload(arrivals={"process": "poisson", "rate_rps": rate}, lengths=LEARNED)) for rate in (1, 10)
    )
    assert np.array_equal(slow.prompt_tokens, fast.prompt_tokens)
    assert np.array_equal(slow.output_tokens, fast.output_tokens)
    assert np.abs(slow.arrival_ps - 10 * fast.arrival_ps).max() <= 1_000  # the same, float rounding of 1 ns


@pytest.mark.parametrize("requests", [1, 2, 50])
def test_a_few_requests_can_be_drawn(requests: int) -> None:
    assert len(learned("azure-2023-code", requests=requests)) == requests


def test_too_long_a_span_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"10000 requests span .* days, at most 90; raise rate_rps"):
        build_requests(workload(arrivals={"process": "constant", "rate_rps": 1e-3}, lengths=LEARNED))


def test_generation_is_fast() -> None:
    learned("azure-2023-conversation", requests=20_000)
    times_s = []
    for _ in range(5):
        start_s = perf_counter()
        learned("azure-2023-conversation", requests=20_000)
        times_s.append(perf_counter() - start_s)
    assert min(times_s) <= 0.010  # measured: 3.5 ms on 2 cores


# Learned statistics


def test_generated_lengths_are_those_of_the_trace(pair: tuple[Requests, Requests, str]) -> None:
    real, generated, _ = pair
    assert ks_distance(real.prompt_tokens, generated.prompt_tokens) <= 0.02
    assert ks_distance(real.output_tokens, generated.output_tokens) <= 0.02
    assert rank_correlation(generated) == pytest.approx(rank_correlation(real), abs=0.05)
    assert generated.prompt_tokens.mean() == pytest.approx(real.prompt_tokens.mean(), rel=0.01)
    # Measured up to 2 % off for code (heavy tail): 0.9 % of bias, 0.7 % of standard error.
    assert generated.output_tokens.mean() == pytest.approx(real.output_tokens.mean(), rel=0.03)
    assert np.quantile(generated.output_tokens, 0.999) == pytest.approx(np.quantile(real.output_tokens, 0.999), rel=0.1)


def test_generated_bursts_are_those_of_the_trace(pair: tuple[Requests, Requests, str]) -> None:
    real, generated, _ = pair
    assert generated.rate_rps == pytest.approx(real.rate_rps, rel=0.02)
    for window_s in (1, 10, 60):
        ours, theirs = (index_of_dispersion(each.arrival_ps / PS_PER_S, window_s) for each in (generated, real))
        # Measured 0.64 to 0.97: blocks do not line up with the windows, which takes a little off.
        assert theirs / 1.75 < ours < theirs * 1.75


def test_a_rate_scales_the_learned_process(pair: tuple[Requests, Requests, str]) -> None:
    _, generated, name = pair
    arrivals = {"process": "statistics", "statistics": name, "rate_rps": 3 * generated.rate_rps}
    faster = build_requests(workload(requests=100_000, arrivals=arrivals, lengths={"statistics": name}))
    assert faster.rate_rps == pytest.approx(3 * generated.rate_rps)
    assert np.abs(generated.arrival_ps - 3 * faster.arrival_ps).max() <= 10_000  # float rounding, 10 ns
    assert np.array_equal(faster.prompt_tokens, generated.prompt_tokens)


def test_shipped_statistics_are_what_the_trace_teaches(pair: tuple[Requests, Requests, str]) -> None:
    real, _, name = pair
    shipped = load_statistics(name)
    fresh = learn_statistics(
        real,
        name=name,
        **{each: getattr(shipped, each) for each in ("source", "licence", "trace_file", "trace_sha256")},
    )
    assert fresh.model_copy(update={"learned_on": shipped.learned_on}) == shipped
    assert shipped.licence == "CC-BY-4.0"


def test_shipped_names_are_the_files_and_hold_no_rows() -> None:
    import simulator.workload

    files = sorted((Path(simulator.workload.__file__).parent / "learned").glob("*.json"))
    assert tuple(file.stem for file in files) == SHIPPED_STATISTICS
    for file in files:
        statistics = json.loads(file.read_text())
        numbers = re.findall(r"[-+.\deE]*\d[-+.\deE]*", json.dumps([statistics["lengths"], statistics["arrivals"]]))
        assert len(numbers) < 1500


def test_the_command_line_learns_a_file_that_a_workload_can_name(reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    main([str(reference / "traces" / TRACES["azure-2023-code"]), "--name", "mine", "--out", str(out)])
    assert load_statistics(str(out)).lengths == load_statistics("azure-2023-code").lengths
    assert len(learned(str(out), requests=10)) == 10


def test_statistics_that_cannot_be_used_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ones = np.ones(3000, dtype=np.int32)
    with pytest.raises(SpecError, match="10 requests are too few to learn from; at least 2000"):
        learn_statistics(Requests(np.arange(10), ones[:10], ones[:10]), name="few")
    with pytest.raises(SpecError, match="are too short to learn from; at least 3000 s"):
        learn_statistics(Requests(np.arange(3000), ones, ones), name="short")
    with pytest.raises(SpecError, match="No such file"):
        load_statistics(str(tmp_path / "none.json"))
    with pytest.raises(SpecError, match="no 'azure'; did you mean"):
        load_statistics("azure")
    (tmp_path / "half.json").write_text('{"name": ')
    with pytest.raises(SpecError, match="not valid JSON"):
        load_statistics(str(tmp_path / "half.json"))
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(SpecError, match="lengths: Field required"):
        load_statistics(str(tmp_path / "empty.json"))
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "none.csv"), "--name", "x", "--out", str(tmp_path / "x.json")])
    assert stopped.value.code == 2
    assert "No such file" in capsys.readouterr().err
