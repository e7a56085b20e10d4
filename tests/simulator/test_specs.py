"""Specifications: strict, and with errors that name the field, what was given and what is allowed, in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from simulator import SLO, Deployment, SpecError, Workload, catalog, simulate
from simulator.performance.engine_defaults import resolved
from simulator.performance.memory import DoesNotFit
from simulator.spec import Spec

POOL: dict[str, Any] = {"model": "llama-3.1-8b", "accelerator": "h100-sxm"}
LOAD: dict[str, Any] = {
    "requests": 5,
    "arrivals": {"process": "poisson", "rate_rps": 2},
    "lengths": {
        "prompt": {"distribution": "constant", "tokens": 100},
        "output": {"distribution": "constant", "tokens": 5},
    },
}
TARGET: dict[str, Any] = {"metric": "ttft", "percentile": 99, "limit_s": 0.5}


def pool(**changes: Any) -> dict[str, Any]:
    return {"pools": [POOL | changes]}


def load(**changes: Any) -> dict[str, Any]:
    return LOAD | changes


def lengths(**prompt: Any) -> dict[str, Any]:
    return load(lengths={"prompt": prompt, "output": {"distribution": "constant", "tokens": 5}})


def message_of(spec: type[Spec], data: object, tmp_path: Path) -> str:
    """Return the error of reading data from a YAML file: one line that begins with the file's name."""
    import yaml

    path = tmp_path / "given.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(SpecError) as caught:
        spec.from_yaml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    assert "pydantic" not in message
    return message.removeprefix(f"{path}: ")


NAN, INFINITY = float("nan"), float("inf")

# What is written, and words that the message must hold: field, value given, what is allowed.
DEPLOYMENTS: dict[str, tuple[Any, list[str]]] = {
    "unknown key": (
        pool(modle="x"),
        ["pools.0.modle", "'x'", "unknown key", "accelerator, adapters, batching", "model"],
    ),
    "unknown key outside": ({"pools": [POOL], "routr": "x"}, ["routr", "'x'", "unknown key", "router"]),
    "unknown key inside": (pool(batching={"size": 3}), ["pools.0.batching.size", "given 3"]),
    "text for a number": (pool(tp="8"), ["pools.0.tp", "'8'", "valid integer"]),
    "float for an integer": (pool(tp=2.0), ["pools.0.tp", "2.0", "valid integer"]),
    "truth for a number": (pool(clients=True), ["pools.0.clients", "True", "valid integer"]),
    "number for text": (pool(name=7), ["pools.0.name", "given 7", "valid string"]),
    "nothing for text": (pool(model=None), ["pools.0.model", "None", "valid string"]),
    "negative": (pool(clients=-1), ["pools.0.clients", "given -1", "greater than or equal to 1"]),
    "zero": (pool(tp=0), ["pools.0.tp", "given 0", "greater than or equal to 1"]),
    "too large": (pool(tp=2048), ["pools.0.tp", "given 2048", "less than or equal to 1024"]),
    "negative latency": (
        {"pools": [POOL], "link": {"latency_us": -2.5}},
        ["link.latency_us", "given -2.5", "greater than or equal to 0"],
    ),
    "not a number": (
        pool(kv_memory={"memory_utilization": NAN}),
        ["pools.0.kv_memory.memory_utilization", "nan", "finite number"],
    ),
    "infinite": (
        {"pools": [POOL], "link": {"gb_per_s": INFINITY}},
        ["link.gb_per_s", "inf", "finite number"],
    ),
    "above one": (
        pool(kv_memory={"memory_utilization": 1.5}),
        ["pools.0.kv_memory.memory_utilization", "given 1.5", "less than or equal to 1"],
    ),
    "unknown role": (pool(role="prefil"), ["pools.0.role", "'prefil'", "'both', 'prefill' or 'decode'"]),
    "unknown policy": (
        pool(batching={"policy": "x"}),
        ["pools.0.batching.policy", "'x'", "'static', 'continuous'"],
    ),
    "unknown router": (
        {"pools": [POOL], "router": "shortest_path"},
        ["router", "'shortest_path'", "'round_robin', 'join_shortest_queue'"],
    ),
    "unknown precision": (
        pool(weights="fp16"),
        ["pools.0.weights", "'fp16'", "'bf16', 'fp8', 'int8' or 'fp4'"],
    ),
    "no pools": ({"pools": []}, ["pools", "at least 1"]),
    "nothing": ({}, ["pools", "required"]),
    "empty file": (None, ["the document", "None", "object"]),
    "a list": ([POOL], ["the document", "object"]),
    "a word": ("hello", ["the document", "'hello'", "object"]),
    "no accelerator": ({"pools": [{"model": "llama-3.1-8b"}]}, ["pools.0.accelerator", "required"]),
    "same names": ({"pools": [POOL, POOL]}, ["pools", "names must differ", "main, main"]),
    "prefill alone": (pool(role="prefill"), ["pools", "prefill pools need decode pools"]),
    "decode alone": (
        {"pools": [POOL | {"name": "a"}, POOL | {"name": "b", "role": "decode"}]},
        ["pools", "prefill pools need decode pools and the reverse"],
    ),
    "two models": (
        {"pools": [POOL | {"name": "a"}, POOL | {"name": "b", "model": "qwen3-8b"}]},
        ["pools", "the same model"],
    ),
    "budget below batch": (
        pool(batching={"max_batch_requests": 300, "token_budget_tokens": 200}),
        ["pools.0.batching", "token_budget_tokens 200", "max_batch_requests 300"],
    ),
    "two faults": (pool(tp=0, kv="fp4"), ["pools.0.tp", "given 0", "pools.0.kv", "'fp4'"]),
}


@pytest.mark.parametrize("case", DEPLOYMENTS)
def test_a_wrong_deployment_is_refused(case: str, tmp_path: Path) -> None:
    data, words = DEPLOYMENTS[case]
    message = message_of(Deployment, data, tmp_path)
    assert [word for word in words if word not in message] == [], message


WORKLOADS: dict[str, tuple[Any, list[str]]] = {
    "unknown key": (load(rate=3), ["rate", "given 3", "unknown key", "arrivals,", "lengths,"]),
    "no rate": (load(arrivals={"process": "poisson"}), ["arrivals.poisson.rate_rps", "required"]),
    "negative rate": (
        load(arrivals={"process": "poisson", "rate_rps": -1}),
        ["arrivals.poisson.rate_rps", "given -1", "greater than 0"],
    ),
    "no number": (
        load(arrivals={"process": "gamma", "rate_rps": 1, "burstiness_cv": NAN}),
        ["arrivals.gamma.burstiness_cv", "nan", "finite"],
    ),
    "unknown process": (
        load(arrivals={"process": "poison", "rate_rps": 1}),
        ["arrivals", "'poison'", "'poisson'"],
    ),
    "text for a number": (load(requests="10"), ["requests", "'10'", "valid integer"]),
    "no requests": (load(requests=0), ["requests", "given 0", "greater than or equal to 1"]),
    "lengths without arrivals": ({"lengths": LOAD["lengths"]}, ["arrivals", "trace"]),
    "trace and arrivals": (load(trace={"path": "x.csv"}), ["arrivals", "trace"]),
    "prompt without output": (
        load(lengths={"prompt": {"distribution": "constant", "tokens": 3}}),
        ["lengths", "prompt and output"],
    ),
    "unknown statistics": (
        load(lengths={"statistics": "azure-2023-conversatio"}),
        ["lengths.statistics", "'azure-2023-conversatio'", "did you mean azure-2023-conversation"],
    ),
    "unordered": (
        lengths(distribution="uniform", low_tokens=9, high_tokens=2),
        ["lengths.prompt.uniform", "high_tokens 2", "low_tokens 9"],
    ),
    "no token": (
        lengths(distribution="constant", tokens=0),
        ["lengths.prompt.constant.tokens", "given 0", "greater than or equal to 1"],
    ),
    "shapeless": (
        lengths(distribution="lognormal", mean_tokens=9),
        ["lengths.prompt.lognormal", "p99_tokens or sigma"],
    ),
    "overshaped": (
        lengths(distribution="lognormal", mean_tokens=9, p99_tokens=20, sigma=1),
        ["lengths.prompt.lognormal", "p99_tokens or sigma"],
    ),
    "impossible tail": (
        lengths(distribution="lognormal", mean_tokens=100, p99_tokens=2000),
        ["lengths.prompt.lognormal", "14.96", "20 times"],
    ),
    "unknown format": (
        {"trace": {"path": "x.csv", "format": "azur"}},
        ["trace.format", "'azur'", "'auto', 'azure', 'mooncake' or 'csv'"],
    ),
    "number for a path": ({"trace": {"path": 3}}, ["trace.path", "given 3"]),
    "one stage": (load(pipeline=["decode"]), ["pipeline", "given decode", "prefill, decode must stand in it"]),
}


@pytest.mark.parametrize("case", WORKLOADS)
def test_a_wrong_workload_is_refused(case: str, tmp_path: Path) -> None:
    data, words = WORKLOADS[case]
    message = message_of(Workload, data, tmp_path)
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "tft"}, ["metric", "'tft'", "'ttft', 'tpot', 'itl', 'e2e' or 'session'"]),
        ({"percentile": 101}, ["percentile", "given 101", "less than or equal to 100"]),
        ({"percentile": -5}, ["percentile", "given -5", "greater than 0"]),
        ({"limit_s": -1}, ["limit_s", "given -1", "greater than 0"]),
        ({"limit_s": NAN}, ["limit_s", "nan", "finite"]),
        ({"limit_s": "1"}, ["limit_s", "'1'", "valid number"]),
        ({"limit_ms": 100}, ["limit_ms", "given 100", "unknown key", "limit_s"]),
    ],
)
def test_a_wrong_slo_is_refused(changes: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    message = message_of(SLO, TARGET | changes, tmp_path)
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model": "llama-3.1-9b"},
            ["model", "'llama-3.1-9b'", "did you mean llama-3.1-8b", "known:", "qwen3-8b"],
        ),
        ({"accelerator": "h100"}, ["accelerator", "'h100'", "did you mean h100-sxm", "known:", "mi300x"]),
        ({"model": "no/such/config.json"}, ["no/such/config.json", "No such file"]),
        ({"tp": 3}, ["tp", "3 does not divide llama-3.1-8b", "32 heads, 8 KV heads", "allowed: 1, 2, 4, 8"]),
        ({"tp": 64}, ["tp", "64 does not divide llama-3.1-8b", "allowed: 1, 2, 4, 8, 16, 32"]),
        ({"dp": 1024, "pp": 32, "tp": 32}, ["dp 1024", "exceed the 32768 linked h100-sxm"]),
        ({"model": "bge-large-en"}, ["model", "bge-large-en is an encoder"]),
        (
            {"model": "llama-3.1-405b"},
            ["pool main", "llama-3.1-405b in bf16 on 1 x h100-sxm", "77.0 GB are allowed"],
        ),
        ({"kv_memory": {"blocks": 10**7}}, ["pool main", "160000000 tokens of KV", "85.5 GB are allowed"]),
    ],
)
def test_an_impossible_pool_is_refused(changes: dict[str, Any], words: list[str]) -> None:
    """What only the catalog can tell is refused by ``simulate``, with what would be possible."""
    with pytest.raises(SpecError) as caught:
        simulate(Deployment.parse(pool(**changes)), Workload.parse(LOAD))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert [word for word in words if word not in message] == [], message
    assert isinstance(caught.value, DoesNotFit) == ("GB are allowed" in message)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_what_the_message_allows_is_allowed(size: int) -> None:
    assert simulate(Deployment.parse(pool(tp=size)), Workload.parse(LOAD)).rejected == 0


def test_files_that_are_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.yaml: No such file or directory"):
        Deployment.from_yaml(tmp_path / "absent.yaml")
    with pytest.raises(SpecError, match="Is a directory"):
        Deployment.from_yaml(tmp_path)
    broken = tmp_path / "broken.yaml"
    broken.write_text("pools:\n  - model: [\n")
    with pytest.raises(SpecError, match=r"broken\.yaml: not valid YAML at line 3, column 1: "):
        Deployment.from_yaml(broken)
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match=r"broken\.yaml: not a UTF-8 text file"):
        Deployment.from_yaml(broken)
    broken.write_text("pools: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(SpecError, match=r"broken\.yaml: not valid YAML at line 1"):
        Deployment.from_yaml(broken)


def test_specs_are_frozen() -> None:
    deployment = Deployment.parse(pool())
    with pytest.raises(ValidationError, match="frozen"):
        deployment.router = "round_robin"  # type: ignore[misc]


# ----------------------------------------------------------------------------------------------------------------------
# Known faults of the messages; strict, so that whoever mends one removes its mark


def test_zero_is_shown_as_given(tmp_path: Path) -> None:
    message = message_of(Deployment, {"pools": [POOL], "link": {"gb_per_s": 0}}, tmp_path)
    assert "given 0" in message


def test_one_fault_gives_one_complaint(tmp_path: Path) -> None:
    assert "Tuple" not in message_of(Deployment, pool(tp=0), tmp_path)


def test_line_breaks_in_names_stay_one_line() -> None:
    with pytest.raises(SpecError) as caught:
        Deployment.parse(pool(**{"a\nb": 1}))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["pools: &a [*a]\n", "pools: " + "9" * 5000 + "\n", "a: " + "[" * 500 + "]" * 500])
def test_odd_yaml_is_a_spec_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(SpecError):
        Deployment.from_yaml(path)


# ----------------------------------------------------------------------------------------------------------------------
# There and back

FULL_DEPLOYMENT: dict[str, Any] = {
    "pools": [
        POOL
        | {
            "name": "prompts",
            "clients": 3,
            "tp": 2,
            "role": "prefill",
            "weights": "fp8",
            "kv": "fp8",
            "batching": {"policy": "continuous", "max_batch_requests": 9, "token_budget_tokens": 4096},
        },
        POOL
        | {
            "name": "Übersetzung: #1 'tokens' \"x\"",
            "role": "decode",
            "kv_memory": {"block_tokens": 32, "memory_utilization": 0.85, "blocks": 777, "watermark": 0.0},
        },
    ],
    "router": "round_robin",
    "handover_router": "least_outstanding_tokens",
    "link": {"gb_per_s": 12.5, "latency_us": 3.25},
}
SPECS: list[tuple[type[Spec], dict[str, Any]]] = [
    (Deployment, pool()),
    (Deployment, FULL_DEPLOYMENT),
    (Workload, LOAD),
    (
        Workload,
        {"trace": {"path": "a b/c.csv", "format": "csv", "rate_rps": 0.1, "start_s": 5, "duration_s": 1e-3}},
    ),
    (Workload, load(arrivals={"process": "statistics", "statistics": "azure-2023-code"}, seed=2**60)),
    (Workload, lengths(distribution="lognormal", mean_tokens=100.5, p99_tokens=1000)),
    (Workload, lengths(distribution="uniform", low_tokens=1, high_tokens=10_000_000)),
    (SLO, TARGET),
]


@pytest.mark.parametrize(("spec", "data"), SPECS)
def test_round_trips(spec: type[Spec], data: dict[str, Any], tmp_path: Path) -> None:
    """YAML, JSON and plain Python give the same specification back; so does YAML of YAML, character by character."""
    given = spec.parse(data)
    path = tmp_path / "spec.yaml"
    path.write_text(given.to_yaml(), encoding="utf-8")
    assert spec.from_yaml(path) == given
    assert spec.from_yaml(path).to_yaml() == given.to_yaml()
    assert spec.model_validate(given.model_dump()) == given
    assert spec.parse(given.model_dump(mode="json")) == given
    assert spec.model_validate_json(given.model_dump_json()) == given
    assert hash(given) == hash(spec.parse(json.loads(json.dumps(data))))


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20),
    rate=st.floats(1e-9, 1e9, allow_nan=False),
    share=st.floats(1e-6, 1, allow_nan=False),
    batch=st.integers(1, 65536),
    clients=st.integers(1, 100_000),
)
def test_any_value_survives_yaml(
    tmp_path_factory: pytest.TempPathFactory, name: str, rate: float, share: float, batch: int, clients: int
) -> None:
    """Names that look like numbers or YAML syntax, and floats to the last bit."""
    path = tmp_path_factory.mktemp("yaml") / "spec.yaml"
    data = {
        "pools": [
            POOL
            | {
                "name": name,
                "clients": clients,
                "batching": {"max_batch_requests": batch, "token_budget_tokens": 10**6},
                "kv_memory": {"memory_utilization": share},
            }
        ],
        "link": {"gb_per_s": rate},
    }
    deployment = Deployment.parse(data)
    assert deployment.pools[0].name == name
    path.write_text(deployment.to_yaml(), encoding="utf-8")
    assert Deployment.from_yaml(path) == deployment


def test_defaults_are_written_out() -> None:
    """A file written by the program tells everything that was simulated, not only what the person typed."""
    text = resolved(Deployment.parse(pool())).to_yaml()
    for word in (
        "policy: chunked",
        "max_batch_requests: 256",
        "memory_utilization: 0.9",
        "router: join_shortest",
    ):
        assert word in text


@pytest.mark.parametrize("engine", ["vllm-0.15", "sglang-0.5", "trtllm-0.14"])
@pytest.mark.parametrize("set_here", [{}, {"batching": {"max_batch_requests": 8}}, {"kv_memory": {"watermark": 0.1}}])
def test_what_is_written_reads_back_as_the_same_system(engine: str, set_here: dict[str, Any]) -> None:
    """What nobody set is left to the engine, whose defaults differ from those of the fields; set, it stays set."""
    deployment = Deployment.parse(pool(engine=engine, **set_here))
    for again in (
        Deployment.parse(yaml.safe_load(deployment.to_yaml())),
        Deployment.parse(yaml.safe_load(resolved(deployment).to_yaml())),
        Deployment.parse(deployment.model_dump(mode="json")),
        Deployment.model_validate_json(deployment.model_dump_json()),
    ):
        assert resolved(again) == resolved(deployment)


def test_every_catalogued_name_is_accepted() -> None:
    for model in catalog.model_names():
        for accelerator in catalog.accelerator_names():
            Deployment.parse({"pools": [{"model": model, "accelerator": accelerator}]})


# ----------------------------------------------------------------------------------------------------------------------
# Schema


def fields_of(schema: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every field of a JSON schema and of the pieces it defines."""
    for field, about in schema.get("properties", {}).items():
        yield f"{name}.{field}", about
    for piece, inner in schema.get("$defs", {}).items():
        yield from fields_of(inner, piece)


@pytest.mark.parametrize("spec", [Deployment, Workload, SLO])
def test_schema_describes_every_field(spec: type[Spec]) -> None:
    """Editors and the web page show these: each field says what it is, and unknown fields are refused there too."""
    schema = spec.model_json_schema()
    described = dict(fields_of(schema, spec.__name__))
    assert len(described) >= len(spec.model_fields)
    assert [field for field, about in described.items() if len(about.get("description", "")) < 5] == []
    for piece in (schema, *schema.get("$defs", {}).values()):
        assert piece["additionalProperties"] is False
        assert piece["description"]
