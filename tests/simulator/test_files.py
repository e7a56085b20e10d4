"""Names of files in specifications: who decides what they stand for, and that nothing goes past it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dse.spec import StudySpec
from dse.warm_start import starting_designs
from simulator import Deployment, SpecError, Workload, build_requests, catalog
from simulator.files import confined, files_from, named_file
from simulator.performance.engine import engine_of
from simulator.workload import learn_statistics, load_statistics
from simulator.workload.size import requests_of

HEADER = "arrival_s,prompt_tokens,output_tokens\n"
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 1024,
}
LEVEL = {"name": "n", "devices": 8, "gb_per_s": 1.0, "latency_us": 1.0}
POOL = {"model": "llama-3.1-8b", "accelerator": "h100-sxm"}
LOAD = {
    "arrivals": {"process": "poisson", "rate_rps": 2.0},
    "lengths": {"statistics": "azure-2023-conversation"},
}
STUDY = {
    "name": "s",
    "model": "llama-3.1-8b",
    "workload": LOAD,
    "space": {"accelerators": ["h100-sxm"], "clients": [1, 2]},
    "objectives": ["usd_per_hour"],
}


def refuse(name: str, kind: str) -> Path:
    raise SpecError(f"files are not taken here: {kind} {name}")


def within(folder: Path) -> Callable[[str, str], Path]:
    return lambda name, _: folder / name


def test_without_a_finder_a_name_is_a_path() -> None:
    assert not confined()
    assert named_file("a/../b", "trace") == Path("a/../b")


def test_a_finder_is_asked_for_name_and_kind_and_only_inside(tmp_path: Path) -> None:
    asked = []

    def find(name: str, kind: str) -> Path:
        asked.append((name, kind))
        return tmp_path / "t"

    with files_from(find):
        assert confined()
        assert named_file("x", "trace") == tmp_path / "t"
        with files_from(refuse), pytest.raises(SpecError, match="not taken here"):
            named_file("x", "trace")
        assert confined()
    assert not confined()
    assert asked == [("x", "trace")]


def test_a_finder_holds_for_its_own_thread_alone() -> None:
    seen: list[bool] = []
    with files_from(refuse):
        thread = threading.Thread(target=lambda: seen.append(confined()))
        thread.start()
        thread.join()
    assert seen == [False]


@pytest.mark.parametrize(
    ("kind", "spec", "data"),
    [
        ("trace", Workload, {"trace": {"path": "/etc/passwd"}}),
        ("statistics", Workload, {**LOAD, "lengths": {"statistics": "/etc/x.json"}}),
        ("statistics", Workload, {**LOAD, "arrivals": {"process": "statistics", "statistics": "../x.json"}}),
        ("model", Workload, {**LOAD, "pipeline": [{"kind": "guard", "model": "/x.json"}, "prefill", "decode"]}),
        ("model", Workload, {**LOAD, "pipeline": [{"kind": "embed", "model": "/x.json"}, "prefill", "decode"]}),
        ("model", Workload, {**LOAD, "pipeline": [{"kind": "encode", "model": "/x.json"}, "prefill", "decode"]}),
        ("model", Workload, {**LOAD, "pipeline": [{"kind": "route", "model": "/x.json", "to": {"a": 1, "b": 1}}]}),
        ("model", Deployment, {"pools": [{**POOL, "model": "/x.json"}]}),
        ("engine", Deployment, {"pools": [{**POOL, "engine": "/x.yaml"}]}),
        ("engine", Deployment, {"pools": [{**POOL, "engine": "/x.yml"}]}),
        ("kernels", Deployment, {"pools": [{**POOL, "kernels": "/etc/passwd"}]}),
        (
            "link",
            Deployment,
            {"pools": [{**POOL, "topology": {"levels": [{**LEVEL, "link": "/x.yaml"}]}}]},
        ),
        (
            "model",
            Deployment,
            {"pools": [{**POOL, "speculation": {"draft_model": "/x.json", "draft_tokens": 1, "acceptance": 0.5}}]},
        ),
        ("model", StudySpec, {**STUDY, "model": "/x.json"}),
        ("start", StudySpec, {**STUDY, "start": ["/etc"]}),
    ],
)
def test_every_name_of_a_file_is_asked_for_when_it_is_validated(kind: str, spec: Any, data: dict[str, Any]) -> None:
    with files_from(refuse), pytest.raises(SpecError, match=f"files are not taken here: {kind} ") as caught:
        spec.parse(data)
    assert any(kind in problem.message for problem in caught.value.problems)


def test_planned_and_catalogued_names_are_no_files() -> None:
    with files_from(refuse):
        StudySpec.parse({**STUDY, "start": ["planned"]})
        Deployment.parse({"pools": [{**POOL, "engine": "vllm-0.15"}]})
        build_requests(Workload.parse(LOAD))


def opening(folder: Path) -> dict[str, Callable[[], object]]:
    """Return what opens each kind of file, by kind."""
    model, engine, kernels, link = (str(folder / name) for name in ("m.json", "e.yaml", "k.yaml", "l.yaml"))
    workload = Workload.parse({"trace": {"path": str(folder / "t.csv")}})
    pool = Deployment.parse({"pools": [{**POOL, "model": model}]}).pools[0]
    study = StudySpec.parse({**STUDY, "start": [str(folder / "d.yaml")]})
    return {
        "trace": lambda: build_requests(workload),
        "trace size": lambda: requests_of(workload),
        "model": lambda: catalog.model(model),
        "model in a pool": lambda: engine_of(pool),
        "statistics": lambda: load_statistics(str(folder / "s.json")),
        "engine": lambda: catalog.engine_profile(engine),
        "kernels": lambda: catalog.own_kernel_profile(kernels),
        "link": lambda: catalog.link_profile(link),
        "start": lambda: starting_designs(study),
    }


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with a good file of every kind."""
    (tmp_path / "t.csv").write_text(HEADER + "0,10,10\n1,10,10\n")
    (tmp_path / "m.json").write_text(json.dumps(LLAMA))
    load = build_requests(Workload.parse({**LOAD, "requests": 8000}))
    (tmp_path / "s.json").write_text(learn_statistics(load, name="s").to_json())
    (tmp_path / "e.yaml").write_text(catalog.engine_profile("vllm-0.15").to_yaml())
    (tmp_path / "k.yaml").write_text(catalog.kernel_profile("h100-sxm").to_yaml())
    (tmp_path / "l.yaml").write_text(catalog.link_profile("nvlink-h100").to_yaml())
    pool = {**POOL, "batching": {"policy": "chunked", "max_batch_requests": 256, "token_budget_tokens": 2048}}
    (tmp_path / "d.yaml").write_text(Deployment.parse({"pools": [pool]}).to_yaml())
    return tmp_path


KINDS = ("trace", "trace size", "model", "model in a pool", "statistics", "engine", "kernels", "link", "start")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_opened_nor_answered_from_a_cache_past_the_finder(files: Path, kind: str) -> None:
    open_it = opening(files)[kind]
    open_it()  # and what can be cached now is
    with files_from(refuse), pytest.raises(SpecError, match="files are not taken here"):
        open_it()
    open_it()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_finder_returns_is_read(files: Path, kind: str) -> None:
    elsewhere = files / "elsewhere"
    elsewhere.mkdir()
    open_it = opening(elsewhere)[kind]
    with pytest.raises(SpecError):
        open_it()
    with files_from(lambda name, _: files / Path(name).name):
        open_it()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "trace size"])
@pytest.mark.parametrize(
    "content", ["s3cret", '{"s3cret": "s3cret"}', "s3cret: [s3cret", HEADER + "1,s3cret,2\n", '["s3cret"]', "\xff"]
)
def test_errors_show_neither_content_nor_place(tmp_path: Path, kind: str, content: str) -> None:
    hidden = tmp_path / "hidden-folder"
    hidden.mkdir()
    for name in ("t.csv", "m.json", "s.json", "e.yaml", "k.yaml", "l.yaml", "d.yaml"):
        (hidden / name).write_bytes(content.encode("latin-1"))
    open_it = opening(tmp_path / "named")[kind]
    for find in (within(hidden), within(hidden / "missing")):
        with files_from(lambda name, kind, find=find: find(Path(name).name, kind)), pytest.raises(SpecError) as caught:  # type: ignore[misc]
            open_it()
        assert "s3cret" not in str(caught.value)
        assert "hidden-folder" not in str(caught.value)
        assert str(tmp_path / "named") in str(caught.value)
        assert all("s3cret" not in repr(problem) for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("content", "trace"),
    [
        ("s3cret,s3cret\n1,2\n", {}),
        (HEADER + "1,2,3\n", {"format": "mooncake"}),
        ("arrival_s,prompt_tokens,output_tokens,s3cret\n1,2,3\n", {}),
        (HEADER + "1,2,3\n", {"prefixes": True}),
        ('{"timestamp": "s3cret", "input_length": 1, "output_length": 1}', {}),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\ns3cret,1,1\n", {}),
        ('{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": ["s3cret"]}', {"prefixes": True}),
        (HEADER + "1,2,3\n2,2,3\n", {"start_s": 50.0}),
    ],
)
def test_errors_of_traces_say_what_is_wrong_without_the_content(
    tmp_path: Path, content: str, trace: dict[str, Any]
) -> None:
    (tmp_path / "t").write_text(content)
    with files_from(within(tmp_path)), pytest.raises(SpecError, match=r"^t: ") as caught:
        build_requests(Workload.parse({"trace": {"path": "t", **trace}}))
    assert "s3cret" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_model_does_not_tell_where_its_file_lies(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    with files_from(within(tmp_path)):
        model = catalog.model("config.json")
    assert str(tmp_path) not in repr(model)
    assert tmp_path.name not in repr(model)
    assert catalog.model(tmp_path / "config.json").name == tmp_path.name


@pytest.mark.parametrize(
    "content",
    [
        "a" * 200_000 + "\n",
        '{"timestamp":' + "[" * 200_000,
        '{"timestamp":' + "1" * 5000 + "}",
        '{"timestamp":1' + "0" * 400 + "}",
    ],
)
def test_hostile_traces_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "t").write_text(content)
    with pytest.raises(SpecError) as caught:
        build_requests(Workload.parse({"trace": {"path": str(tmp_path / "t")}}))
    assert len(str(caught.value)) < 1000
