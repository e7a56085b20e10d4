"""What people have becomes what is simulated: engines' arguments, metrics, request logs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dse.cli.main import app
from dse.evaluation import deployment_of
from dse.export import export
from dse.export.exported import Account
from dse.export.scripts import engine_command
from dse.imports import import_engine, import_metrics, import_requests
from dse.imports.arguments import read_arguments
from dse.imports.models import model_of
from dse.library import load_study
from dse.spec import StudySpec
from dse.warm_start import starting_designs
from search_spaces import to_design
from simulator import Deployment, SpecError, Workload, build_requests, catalog
from simulator.performance.engine_defaults import resolved

from .conftest import SMALL, small
from .test_export import SPLIT, any_pools, made, shipped_designs

# Engines


def value_at(deployment: Deployment, pool: int, field: str) -> Any:
    """A field of a pool; None where a part on the way is absent."""
    found: Any = deployment.pools[pool]
    for name in field.split("."):
        found = None if found is None else getattr(found, name)
    return found


def same(field: str, one: Any, other: Any) -> bool:
    if field == "ep":
        # One group is what vLLM and the simulator do without groups.
        return (one or 1) == (other or 1)
    return bool(one == pytest.approx(other)) if isinstance(one, float) else bool(one == other)


def differences(deployment: Deployment, engine: str) -> list[str]:
    """Fields that come back otherwise from the engine's command, of those that it determines."""
    account = Account(resolved(deployment))
    commands = [engine_command(pool, account, engine) for pool in account.deployment.pools]
    profiles = {str(pool.engine) for pool in deployment.pools}
    found = import_engine(
        [command.line() for command in commands],
        accelerator=[pool.accelerator for pool in deployment.pools],
        clients=[pool.clients for pool in deployment.pools],
        engine=profiles.pop(),
        acceptance=0.7,
    )
    back, wrong = resolved(found.deployment), []
    for number, pool in enumerate(account.deployment.pools):
        at = f"pools.{pool.name}."
        names = {name.removeprefix(at) for name in account.expressed if name.startswith(at)}
        rounded = {name for name in names if any(f"{at}{name}: vLLM keeps room" in note for note in account.notes)}
        if pool.dp > 1 and any(note.startswith(f"{at}batching:") for note in account.notes):
            rounded |= {"batching.max_batch_requests", "batching.token_budget_tokens"}
        for name in names - rounded - {"name", "stage", "prefix_cache.fetch", "prefix_cache.eviction_share"}:
            if name == "prefix_cache.write" and not account.deployment.tiers:
                continue
            if f"{at}{name}" in account.told:
                continue
            one, other = value_at(account.deployment, number, name), value_at(back, number, name)
            if name == "prefix_cache":
                one, other = one is None, other is None
            if name == "adapters":
                one, other = one is None, other is None
            if not same(name, one, other):
                wrong.append(f"{at}{name}: {one} came back as {other}")
    return wrong


@settings(max_examples=120, deadline=None)
@given(shipped_designs(), st.sampled_from(["vllm", "sglang"]))
def test_designs_of_shipped_studies_come_back_from_their_commands(deployment: Deployment, engine: str) -> None:
    # Every model has commands of its own, and comes back as a deployment of its own.
    for stage in {pool.stage for pool in deployment.pools}:
        pools = tuple(pool for pool in deployment.pools if pool.stage == stage)
        assert not differences(deployment.model_copy(update={"pools": pools}), engine)


@settings(max_examples=150, deadline=None)
@given(any_pools(), st.sampled_from(["vllm", "sglang"]))
def test_any_pool_comes_back_from_its_command(deployment: Deployment, engine: str) -> None:
    assert not differences(deployment, engine)


@settings(max_examples=40, deadline=None)
@given(shipped_designs())
def test_what_came_back_from_vllm_is_the_same_design(deployment: Deployment) -> None:
    """Every study whose space vLLM can express: the imported deployment is the design that was exported."""
    pools = deployment.pools
    if len({pool.stage for pool in pools}) > 1 or any(pool.batching.policy == "static" for pool in pools):
        return
    lines = [engine_command(pool, Account(deployment), "vllm").line() for pool in deployment.pools]
    found = import_engine(
        lines,
        accelerator=[pool.accelerator for pool in pools],
        clients=[pool.clients for pool in pools],
        engine=str(pools[0].engine),
        router=deployment.router,
    ).deployment
    for study in map(load_study, ("chat", "finite-chat", "finite-code", "rag", "finite-rag")):
        try:
            design = to_design(deployment, study.space.space, study.space)
        except SpecError:
            continue
        if set(study.models.values()) == {pools[0].model}:
            given = found.model_copy(update={"services": deployment.services})
            assert to_design(given, study.space.space, study.space) == design


def test_scripts_come_back_as_they_are(tmp_path: Path) -> None:
    deployment = Deployment.parse({"pools": [{**SPLIT[0], "prefix_cache": {}}, SPLIT[1]]})
    for engine in ("vllm", "sglang"):
        files = export(deployment, engine).files
        paths = []
        for pool in ("prefill", "decode"):
            path = tmp_path / f"{engine}-{pool}.sh"
            path.write_text(files[path.name])
            paths.append(str(path))
        found = import_engine(paths, accelerator=["h100-sxm", "h200-sxm"], clients=[2, 3], engine="vllm-0.15")
        expected, back = resolved(deployment), resolved(found.deployment)
        assert [(pool.name, pool.role, pool.tp, pool.clients) for pool in back.pools] == [
            (pool.name, pool.role, pool.tp, pool.clients) for pool in expected.pools
        ]
        assert [pool.batching for pool in back.pools] == [pool.batching for pool in expected.pools]


def test_what_people_write() -> None:
    """Other spellings, other starts, and what is no part of a deployment."""
    command = """
      CUDA_VISIBLE_DEVICES=0,1,2,3 nohup python3 -m vllm.entrypoints.openai.api_server \\
        --model RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8 -tp 4 --max_num_seqs=128 --max-num-batched-tokens 8k \\
        --no-enable-prefix-caching --enforce-eager --served-model-name chat --a-new-flag 7 > log.txt 2>&1 &
    """
    found = import_engine(command, accelerator="h100-sxm", clients=2)
    (pool,) = found.deployment.pools
    assert (pool.model, pool.weights, pool.tp, pool.clients) == ("llama-3.1-70b", "fp8", 4, 2)
    assert (pool.batching.max_batch_requests, pool.batching.token_budget_tokens) == (128, 8000)
    assert pool.prefix_cache is None
    assert any("--enforce-eager, --served-model-name" in note for note in found.notes)
    assert any("not known to vLLM 0.33.0" in note and "--a-new-flag" in note for note in found.notes)


def test_defaults_are_those_of_the_engine_on_this_accelerator() -> None:
    def batching(accelerator: str) -> tuple[int, int]:
        pool = import_engine("vllm serve Qwen/Qwen3-8B", accelerator=accelerator).deployment.pools[0]
        assert pool.prefix_cache is not None
        return pool.batching.max_batch_requests, pool.batching.token_budget_tokens

    assert batching("b200") == (1024, 16384)
    assert batching("h100-sxm") == (1024, 8192)
    assert batching("a100-80gb") == batching("l40s") == (256, 2048)


def test_single_keys_of_objects_and_drafts() -> None:
    command = (
        "vllm serve meta-llama/Llama-3.1-70B-Instruct --speculative-config.model meta-llama/Llama-3.2-1B "
        "--speculative-config.num_speculative_tokens 4"
    )
    with pytest.raises(SpecError, match="--acceptance"):
        import_engine(command, accelerator="h100-sxm")
    found = import_engine(command, accelerator="h100-sxm", acceptance=0.6)
    draft = found.deployment.pools[0].speculation
    assert draft is not None
    assert (draft.draft_model, draft.draft_tokens, draft.acceptance) == ("llama-3.2-1b", 4, 0.6)


def test_sglang_s_own_ways() -> None:
    command = "python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3-0324 --tp 16 --ep 8 --attn-dp-size 4"
    found = import_engine(f"{command} --chunked-prefill-size 4096 --disable-overlap-schedule", accelerator="h200-sxm")
    (pool,) = found.deployment.pools
    assert (pool.tp, pool.dp, pool.ep, pool.engine) == (4, 4, 8, "sglang-0.5")
    # Without --enable-mixed-chunk prompts have steps of their own.
    assert (pool.batching.policy, pool.batching.token_budget_tokens) == ("continuous", 4096)
    assert pool.batching.schedule_ahead is False


def test_sizes_of_ranks_are_added_up_to_those_of_a_client() -> None:
    command = (
        "python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3-0324 --tp 8 --attn-dp-size 4 --pp-size 2 "
        "--page-size 16 --max-total-tokens 32000 --enable-hierarchical-cache --hicache-size 64"
    )
    found = import_engine(command, accelerator="h200-sxm").deployment
    assert (found.pools[0].kv_memory.blocks, found.tiers[0].memory_gb) == (8000, 1024)
    command = "vllm serve deepseek-ai/DeepSeek-V3-0324 -tp 2 -dp 4 -pp 2 --num-gpu-blocks-override 2000"
    found = import_engine(f"{command} --kv-offloading-size 100", accelerator="h200-sxm").deployment
    assert found.pools[0].kv_memory.blocks == 8000
    assert found.tiers[0].memory_gb == pytest.approx(4 * 100 * 2**30 / 1e9)
    keeping = {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"cpu_bytes_to_use": 100 * 2**30},
    }
    found = import_engine(f"{command} --kv-transfer-config '{json.dumps(keeping)}'", accelerator="h200-sxm").deployment
    assert found.tiers[0].memory_gb == pytest.approx(4 * 100 * 2**30 / 1e9)


def test_configuration_files_of_engines(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "model": "meta-llama/Llama-3.1-8B-Instruct",
                "tensor-parallel-size": 2,
                "max_num_seqs": 64,
                "enable-chunked-prefill": False,
                "kv-cache-dtype": "fp8_e4m3",
                "kv-transfer-config": {"kv_connector": "NixlConnector", "kv_role": "kv_both"},
            }
        )
    )
    found = import_engine(str(path), accelerator="l40s")
    (pool,) = found.deployment.pools
    assert (pool.tp, pool.batching.max_batch_requests, pool.batching.policy, pool.kv) == (2, 64, "continuous", "fp8")
    assert any("kv_both is not simulated" in note for note in found.notes)
    path.write_text(yaml.safe_dump({"model-path": "Qwen/Qwen3-32B", "tp-size": 4, "mem-fraction-static": 0.85}))
    (pool,) = import_engine(str(path), accelerator="h100-sxm").deployment.pools
    assert (pool.tp, pool.engine, pool.kv_memory.memory_utilization) == (4, "sglang-0.5", 0.85)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
        ("google/gemma-3-27b-it", "gemma-3-27b"),
        ("nvidia/Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b"),
        ("/models/Qwen2.5-72B-Instruct-AWQ", "qwen2.5-72b"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("qwen3-32b", "qwen3-32b"),
    ],
)
def test_names_of_tuned_and_quantised_versions_lead_to_the_shape(name: str, model: str) -> None:
    assert model_of(name) == model


def test_every_catalogued_repository_leads_to_a_model_of_its_shape() -> None:
    for name in catalog.model_names():
        found = model_of(catalog.model(name).source.split(",")[0].split(" ")[0])
        assert catalog.model(found).parameters == catalog.model(name).parameters


def test_a_command_may_be_longer_than_a_name_of_a_file_and_end_in_one() -> None:
    flags = " ".join(["--disable-log-requests", "--max-num-seqs=256"] * 8)
    found = read_arguments(f"vllm serve llama-8b {flags} --config more.yaml")
    assert len(flags) > 255
    assert (found.engine, found.model, found.values["--max-num-seqs"]) == ("vllm", "llama-8b", 256)
    with pytest.raises(SpecError, match=r"nowhere\.yaml: No such file"):
        read_arguments("nowhere.yaml")


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("ollama run llama3", {}, "starts no engine"),
        ("vllm serve my/own-model", {}, "--model"),
        ("vllm serve Qwen/Qwen3-8B --max-num-seqs many", {}, "--max-num-seqs"),
        ("vllm serve Qwen/Qwen3-8B --max-num-seqs", {}, "no value"),
        ("vllm serve 'Qwen", {}, "not a shell command"),
        ("vllm serve Qwen/Qwen3-8B", {"accelerator": "h101"}, "h100"),
        ("vllm serve Qwen/Qwen3-8B", {"clients": [1, 2]}, "--clients"),
        ("vllm serve", {}, "names no model"),
        ("vllm serve Qwen/Qwen3-8B -tp $GPUS", {}, "variable of the shell"),
    ],
)
def test_mistakes_in_commands_are_one_line(command: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as raised:
        import_engine(command, **{"accelerator": "h100-sxm", **options})
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


# A baseline


def test_an_imported_engine_starts_a_study(tmp_path: Path) -> None:
    """The command line of the docs: import, then a study whose first design is what runs today."""
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(SMALL))
    today = tmp_path / "today.yaml"
    command = "vllm serve meta-llama/Llama-3.1-8B-Instruct -tp 2 --max-num-seqs 256 --max-num-batched-tokens 2048"
    ran = CliRunner().invoke(
        app,
        [
            "import",
            "engine",
            command,
            "--accelerator",
            "l40s",
            "--clients",
            "3",
            "--study",
            str(study),
            "-o",
            str(today),
        ],
    )
    assert ran.exit_code == 0, ran.output
    spec = StudySpec.parse({**SMALL, "start": [str(today)]})
    (design,) = starting_designs(spec)
    assert (design["main.accelerator"], design["main.clients"], design["main.tp"]) == ("l40s", 3, 2)
    (pool,) = deployment_of(design, spec).pools
    assert (
        resolved(Deployment.from_yaml(today)).pools[0].batching == resolved(Deployment(pools=(pool,))).pools[0].batching
    )


def test_a_study_without_the_design_says_what_differs() -> None:
    from dse.imports.baseline import as_start

    found = import_engine("vllm serve meta-llama/Llama-3.1-8B -tp 8", accelerator="h100-sxm")
    with pytest.raises(SpecError, match=r"study small: has no such design.*tp"):
        as_start(found.deployment, small())


def test_written_deployment_keeps_what_was_not_said_unsaid(tmp_path: Path) -> None:
    path = tmp_path / "today.yaml"
    command = "vllm serve meta-llama/Llama-3.1-8B --max-num-seqs 64"
    ran = CliRunner().invoke(app, ["import", "engine", command, "--accelerator", "h100-sxm", "-o", str(path)])
    assert ran.exit_code == 0, ran.output
    (pool,) = resolved(Deployment.from_yaml(path)).pools
    # The profile's default, which a written-out False would have hidden.
    assert pool.batching.schedule_ahead is True


# Metrics


def exposition(prompts: Any, outputs: Any, edges: list[float]) -> str:
    """What vLLM 0.33.0 shows at /metrics after these requests."""
    labels = 'engine="0",model_name="m"'
    lines = []
    for name, values in (("request_prompt_tokens", prompts), ("request_generation_tokens", outputs)):
        lines.append(f"# TYPE vllm:{name} histogram")
        lines += [f'vllm:{name}_bucket{{{labels},le="{edge:g}"}} {float(np.sum(values <= edge))}' for edge in edges]
        lines.append(f'vllm:{name}_bucket{{{labels},le="+Inf"}} {float(len(values))}')
        lines += [
            f"vllm:{name}_count{{{labels}}} {len(values)}",
            f"vllm:{name}_sum{{{labels}}} {float(np.sum(values))}",
        ]
    for reason, share in (("stop", 0.75), ("length", 0.25)):
        lines.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {share * len(prompts)}')
    lines.append(f"vllm:num_requests_running{{{labels}}} 3.0")
    return "\n".join(lines) + "\n"


EDGES = [float(f"{digit}e{power}") for power in range(5) for digit in (1, 2, 5)]
"""vLLM's buckets of tokens."""


@pytest.fixture(scope="module")
def drawn() -> tuple[Any, Any]:
    workload = Workload.parse(
        {
            "requests": 20_000,
            "arrivals": {"process": "poisson", "rate_rps": 5},
            "lengths": {
                "prompt": {"distribution": "lognormal", "mean_tokens": 900, "sigma": 1.1},
                "output": {"distribution": "lognormal", "mean_tokens": 220, "sigma": 0.8},
            },
        }
    )
    requests = build_requests(workload)
    return requests.prompt_tokens, requests.output_tokens


def test_metrics_between_two_scrapes_give_back_the_workload(drawn: tuple[Any, Any], tmp_path: Path) -> None:
    before, after = tmp_path / "before.txt", tmp_path / "after.txt"
    before.write_text(exposition(drawn[0][:5000], drawn[1][:5000], EDGES))
    after.write_text(exposition(*drawn, EDGES))
    found = import_metrics(before, after, seconds=3000.0).workload
    assert found.arrivals is not None
    assert found.arrivals.rate_rps == pytest.approx(15_000 / 3000)
    lengths = found.lengths
    assert lengths is not None
    for found_lengths, values, sigma in ((lengths.prompt, drawn[0], 1.1), (lengths.output, drawn[1], 0.8)):
        assert found_lengths is not None
        assert found_lengths.distribution == "lognormal"
        assert found_lengths.mean_tokens == pytest.approx(values[5000:].mean(), rel=1e-4)
        assert found_lengths.sigma == pytest.approx(sigma, rel=0.03)


def test_totals_alone_tell_no_rate(drawn: tuple[Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "metrics.txt"
    path.write_text(exposition(*drawn, EDGES))
    with pytest.raises(SpecError, match="--rate"):
        import_metrics(path)
    found = import_metrics(path, rate_rps=2.5, requests=100).workload
    assert found.arrivals is not None
    assert (found.arrivals.rate_rps, found.requests) == (2.5, 100)


@pytest.mark.parametrize(("cv", "process"), [(1.0, "poisson"), (3.0, "gamma")])
def test_a_range_query_tells_rate_and_bursts(cv: float, process: str, drawn: tuple[Any, Any], tmp_path: Path) -> None:
    workload = Workload.parse(
        {
            "requests": 20_000,
            "seed": 3,
            "arrivals": {"process": "gamma", "rate_rps": 5, "burstiness_cv": cv},
            "lengths": {"statistics": "azure-2023-conversation"},
        }
    )
    arrival_s = build_requests(workload).arrival_ps / 1e12
    times = np.arange(0, arrival_s[-1], 60.0)
    done = np.searchsorted(arrival_s, times)
    # A restart in the middle: counters begin again at 0.
    restart = len(times) // 2
    result = []

    def series(name: str, counts: Any, **labels: str) -> None:
        shown = [
            float(each) if number < restart else float(each - counts[restart - 1]) for number, each in enumerate(counts)
        ]
        values = [[1.7e9 + time, str(value)] for time, value in zip(times, shown, strict=True)]
        result.append({"metric": {"__name__": name, **labels}, "values": values})

    series("vllm:request_success_total", done, finished_reason="stop")
    for name, tokens in (("request_prompt_tokens", drawn[0]), ("request_generation_tokens", drawn[1])):
        for edge in EDGES:
            below = np.concatenate(([0], np.cumsum(tokens <= edge)))[done]
            series(f"vllm:{name}_bucket", below, le=f"{edge:g}")
        series(f"vllm:{name}_bucket", done, le="+Inf")
        series(f"vllm:{name}_sum", np.concatenate(([0], np.cumsum(tokens)))[done])
    path = tmp_path / "range.json"
    path.write_text(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}))
    found = import_metrics(path)
    arrivals = found.workload.arrivals
    assert arrivals is not None
    assert arrivals.process == process
    assert arrivals.rate_rps == pytest.approx(5, rel=0.05)
    if arrivals.process == "gamma":
        assert arrivals.burstiness_cv == pytest.approx(cv, rel=0.15)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vllm:request_success_total 3 4 5 6\n", "line 1"),
        ("up 1\n", "no histogram"),
        ('{"status": "success", "data": {"result": [{"metric": {}, "values": [[1, "2"], [2, "3"]]}]}}', "no name"),
        ('{"status": "error"}', "query_range"),
    ],
)
def test_mistakes_in_metrics_are_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.txt"
    path.write_text(text)
    with pytest.raises(SpecError) as raised:
        import_metrics(path, rate_rps=1.0)
    assert said in str(raised.value)


def test_a_server_that_was_started_again_between_scrapes(drawn: tuple[Any, Any], tmp_path: Path) -> None:
    before, after = tmp_path / "before.txt", tmp_path / "after.txt"
    before.write_text(exposition(*drawn, EDGES))
    after.write_text(exposition(drawn[0][:50], drawn[1][:50], EDGES))
    with pytest.raises(SpecError, match="started again"):
        import_metrics(before, after, seconds=60)


# Request logs


ROWS = [(0.0, 120, 30), (0.5, 2400, 8), (0.5, 64, 512), (61.25, 1, 1)]


def lines_of(style: str) -> str:
    start = 1_763_317_000.0
    if style == "openai":
        return "".join(
            json.dumps({"created": start + at, "usage": {"prompt_tokens": p, "completion_tokens": o}}) + "\n"
            for at, p, o in reversed(ROWS)
        )
    if style == "milliseconds":
        return json.dumps([{"ts": (start + at) * 1e3, "input_tokens": p, "output_tokens": o} for at, p, o in ROWS])
    if style == "dates":
        stamps = [
            "2026-11-16T18:16:40Z",
            "2026-11-16T18:16:40.500Z",
            "2026-11-16 18:16:40.5+00:00",
            "2026-11-16T18:17:41.25",
        ]
        rows = [f"{stamp},{p},{o}" for stamp, (_, p, o) in zip(stamps, ROWS, strict=True)]
        return "\n".join(["timestamp,prompt_tokens,completion_tokens", *rows, "2026-11-16T18:18:00Z,55,"]) + "\n"
    return "\n".join(["when;a", *(f"{at},{p},{o}" for at, p, o in ROWS)]).replace("when;a", "when,in,out")


@pytest.mark.parametrize("style", ["openai", "milliseconds", "dates", "own"])
def test_logs_become_traces_that_the_simulator_reads(style: str, tmp_path: Path) -> None:
    log, trace = tmp_path / "log", tmp_path / "trace.csv"
    log.write_text(lines_of(style))
    columns = {"time": "when", "prompt": "in", "output": "out"} if style == "own" else {}
    found = import_requests(log, **columns)
    trace.write_text(found.csv)
    requests = build_requests(Workload.parse({"trace": {"path": str(trace)}}))
    rows = zip(
        requests.arrival_ps / 1e12, requests.prompt_tokens.tolist(), requests.output_tokens.tolist(), strict=True
    )
    expected = sorted(ROWS)
    for (at, p, o), (time, prompt, output) in zip(sorted(rows), expected, strict=True):
        assert at == pytest.approx(time, abs=1e-5)
        assert (p, o) == (prompt, output)
    assert found.requests == 4
    if style == "dates":
        assert any("1 of 5 requests" in note for note in found.notes)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("within", ["\u2028", "\x85", "a" * 200_000], ids=["separator", "next line", "long"])
@pytest.mark.parametrize("style", ["lines", "table"])
def test_logs_may_hold_the_prompts_themselves(style: str, within: str, end: str, tmp_path: Path) -> None:
    log, usual = tmp_path / "log", csv.field_size_limit()
    if style == "lines":
        row = {"time": 1, "prompt": within, "prompt_tokens": 2, "output_tokens": 3}
        text = "".join(json.dumps({**row, "time": at}, ensure_ascii=False) + end for at in (1, 2))
    else:
        text = end.join(["time,prompt,prompt_tokens,output_tokens", f"1,{within},2,3", f"2,{within},2,3", ""])
    log.write_text(text, encoding="utf-8", newline="")
    assert import_requests(log).csv == "arrival_s,prompt_tokens,output_tokens\n0,2,3\n1,2,3\n"
    assert csv.field_size_limit() == usual


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("a,b,c\n1,2,3\n", {}, "--time"),
        ("time,prompt_tokens\n1,2\n", {}, "--output"),
        ("time,prompt_tokens,output_tokens\n1,2,3\n", {"time": "when"}, "no column 'when'"),
        ("time,prompt_tokens,output_tokens\nsoon,2,3\n", {}, "request 1, time"),
        ("time,prompt_tokens,output_tokens\n1,0,3\n", {}, "no request has"),
        ('{"time": 1', {}, "line 1"),
        ("", {}, "no request"),
    ],
)
def test_mistakes_in_logs_are_one_line(text: str, options: dict[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    with pytest.raises(SpecError) as raised:
        import_requests(path, **options)
    assert said in str(raised.value)


def test_commands_write_files(drawn: tuple[Any, Any], tmp_path: Path) -> None:
    metrics, workload = tmp_path / "metrics.txt", tmp_path / "workload.yaml"
    metrics.write_text(exposition(*drawn, EDGES))
    ran = CliRunner().invoke(app, ["import", "metrics", str(metrics), "--rate", "3", "-o", str(workload)])
    assert ran.exit_code == 0, ran.output
    assert Workload.from_yaml(workload).requests == 10_000
    log, trace = tmp_path / "log.jsonl", tmp_path / "trace.csv"
    log.write_text(lines_of("openai"))
    ran = CliRunner().invoke(app, ["import", "requests", str(log), "-o", str(trace)])
    assert ran.exit_code == 0, ran.output
    assert trace.read_text().splitlines()[0] == "arrival_s,prompt_tokens,output_tokens"


def test_the_pool_of_docs_is_simulated() -> None:
    """What is imported runs."""
    from simulator import simulate

    found = import_engine("vllm serve meta-llama/Llama-3.1-8B", accelerator="h100-sxm").deployment
    workload = Workload.parse(
        {
            "requests": 50,
            "arrivals": {"process": "poisson", "rate_rps": 2},
            "lengths": {"statistics": "azure-2023-code"},
        }
    )
    assert simulate(found, workload).rejected == 0
    assert found.pools[0].prefix_cache == made(prefix_cache={}).pools[0].prefix_cache
