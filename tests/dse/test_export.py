"""Exported files: what engines and clusters accept, where each argument comes from, and that no field is dropped."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
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
from dse.export import TARGETS, Exported, export
from dse.export.bundle import bundle
from dse.export.command import Command
from dse.export.exported import Account, settings_of
from dse.export.load import DATASET, export_load
from dse.export.names import repository_of
from dse.export.parsers import COMMANDS, describe, flag_list
from dse.export.scripts import engine_command
from dse.library import load_study, study_names
from dse.output import load as load_run
from simulator import Deployment, Scenario, SpecError, Workload, build_requests, catalog, simulate
from simulator.performance.engine_defaults import resolved

ONE = {"model": "llama-3.1-70b", "accelerator": "h100-sxm", "tp": 4}
SPLIT = [
    {**ONE, "name": "prefill", "role": "prefill", "clients": 2},
    {**ONE, "name": "decode", "role": "decode", "clients": 3, "tp": 2, "accelerator": "h200-sxm"},
]


def made(**pool: Any) -> Deployment:
    return Deployment.parse({"pools": [{**ONE, **pool}]})


def commands_of(deployment: Deployment, engine: str) -> list[Command]:
    account = Account(resolved(deployment))
    return [engine_command(pool, account, engine) for pool in account.deployment.pools]


def parsed(deployment: Deployment, engine: str) -> dict[str, Any]:
    (command,) = commands_of(deployment, engine)
    return flag_list(engine).parse(command.words())


# Designs


@st.composite
def shipped_designs(draw: st.DrawFn) -> Deployment:
    """A design of a shipped study's space that is a possible deployment."""
    spec = load_study(draw(st.sampled_from(study_names())))
    seed = draw(st.integers(0, 2**31))
    for row in spec.space.space.sample(20, np.random.default_rng(seed)):
        try:
            deployment = deployment_of(spec.space.space.design_of(row), spec)
        except ValueError:
            continue
        # No cluster has a hypothetical chip: the one that it is a change of stands in for it.
        chips = [catalog.base_name(pool.accelerator) for pool in deployment.pools]
        pools = zip(deployment.pools, chips, strict=True)
        kept = tuple(pool.model_copy(update={"accelerator": chip}) for pool, chip in pools)
        return deployment.model_copy(update={"pools": kept})
    raise AssertionError(f"{spec.name}: none of 20 designs is possible")


@st.composite
def any_pools(draw: st.DrawFn) -> Deployment:
    """A deployment with settings that shipped spaces do not vary."""
    model = draw(st.sampled_from(["llama-3.1-8b", "deepseek-v3", "qwen3-30b-a3b"]))
    tp, dp = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 2]))
    policy = draw(st.sampled_from(["static", "continuous", "chunked"]))
    pool: dict[str, Any] = {
        "model": model,
        "accelerator": draw(st.sampled_from(["h100-sxm", "mi300x", "tpu-v6e", "rtx-pro-6000"])),
        "clients": draw(st.integers(1, 4)),
        "tp": tp,
        "dp": dp,
        "pp": draw(st.sampled_from([1, 2])),
        "weights": draw(st.sampled_from(["bf16", "fp8", "int8", "fp4"])),
        "kv": draw(st.sampled_from(["bf16", "fp8", "int8"])),
        "engine": draw(st.sampled_from(["vllm-0.15", "sglang-0.5"])),
        "batching": {
            "policy": policy,
            "max_batch_requests": draw(st.integers(1, 512)),
            "token_budget_tokens": draw(st.integers(512, 16384)),
            "order": draw(st.sampled_from(["fcfs", "priority", "shortest_first", "earliest_deadline"])),
        },
        "kv_memory": {
            "block_tokens": draw(st.sampled_from([16, 32, 64])),
            "memory_utilization": draw(st.sampled_from([0.8, 0.9, 0.95])),
            "watermark": draw(st.sampled_from([0.0, 0.01, 0.05])),
            "swap_gb": draw(st.sampled_from([0.0, 64.0])),
        },
        "expert_skew": draw(st.sampled_from([0.0, 0.5])),
        "min_prompt_tokens": draw(st.sampled_from([1, 10])),
        "step_noise_cv": draw(st.sampled_from([0.0, 0.1])),
    }
    if draw(st.booleans()):
        pool["ep"] = draw(st.sampled_from([1, tp * dp]))
    if draw(st.booleans()):
        pool["adapters"] = {"rank": draw(st.sampled_from([8, 24, 64, 700])), "slots": draw(st.integers(1, 16))}
        pool["adapters"] |= draw(st.sampled_from([{}, {"memory": "host-dram"}, {"gb_per_s": 20, "latency_us": 50}]))
    data: dict[str, Any] = {
        "pools": [pool],
        "router": draw(st.sampled_from(["round_robin", "least_kv_tokens", "prefix_affinity"])),
    }
    if policy != "static":
        pool["batching"]["schedule_ahead"] = draw(st.booleans())
        extra = draw(st.sampled_from(["none", "cache", "tiers", "ngram", "draft"]))
        if extra in ("cache", "tiers"):
            pool["prefix_cache"] = {"write": draw(st.sampled_from(["through", "back", "none"]))}
        if extra == "tiers":
            data["tiers"] = [
                {"name": "host", "kind": "host-dram", "clients": 1, "memory_gb": draw(st.sampled_from([64, 512]))},
                {"name": "rack", "clients": None, "memory_gb": 4000, "gb_per_s": 2},
            ]
        if extra in ("ngram", "draft"):
            pool["speculation"] = {"draft_tokens": draw(st.integers(1, 5)), "acceptance": 0.7}
        if extra == "draft":
            pool["speculation"]["draft_model"] = "llama-3.2-1b"
    return Deployment.parse(data)


EXAMPLES = [
    path
    for path in sorted((Path(__file__).parents[2] / "docs/examples").glob("*.yaml"))
    if {"deployment", "workload"} <= set(yaml.safe_load(path.read_text()))
]


# No field is dropped in silence


def unaccounted(deployment: Deployment, found: Exported) -> list[str]:
    """Fields away from their default that the files do not determine and no note accounts for."""

    def held(name: str) -> bool:
        parts = name.split(".")
        places = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        return name in found.expressed or bool(places & found.noted)

    return [name for name, _ in settings_of(resolved(deployment)) if not held(name)]


def unsaid(found: Exported) -> list[str]:
    """Fields that notes are said to account for, though none holds the name."""
    text = "\n".join(found.notes)
    return [name for name in found.noted if name not in text and name.rsplit(".", 1)[-1] not in text]


@settings(max_examples=60, deadline=None)
@given(st.one_of(shipped_designs(), any_pools()))
def test_every_field_is_expressed_or_named_in_a_note(deployment: Deployment) -> None:
    for target in TARGETS:
        found = export(deployment, target)
        assert not unaccounted(deployment, found), target
        assert not unsaid(found), target
        assert found.files


@settings(max_examples=60, deadline=None)
@given(shipped_designs())
def test_no_design_of_a_shipped_study_needs_the_sentence_for_forgotten_fields(deployment: Deployment) -> None:
    for target in TARGETS:
        assert not [note for note in export(deployment, target).notes if "has no counterpart in" in note]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_exported_with_all_its_fields(path: Path) -> None:
    deployment = Scenario.from_yaml(path).deployment
    for target in TARGETS:
        assert not unaccounted(deployment, export(deployment, target)), target


def test_a_field_that_nobody_thought_of_is_named() -> None:
    account = Account(made(expert_skew=0.5))
    account.close("nowhere")
    assert any(note.startswith("pools.main.expert_skew: 0.5 has no counterpart in nowhere") for note in account.notes)


# Command lines


@settings(max_examples=100, deadline=None)
@given(st.one_of(shipped_designs(), any_pools()))
def test_arguments_parse_by_the_lists_of_both_engines(deployment: Deployment) -> None:
    for engine in ("vllm", "sglang"):
        for command in commands_of(deployment, engine):
            assert flag_list(engine).parse(command.words())


def test_arguments_of_vllm_say_what_the_design_says() -> None:
    deployment = made(
        pp=2,
        layers_per_stage=[41, 39],
        weights="fp8",
        kv="fp8",
        batching={"max_batch_requests": 100, "token_budget_tokens": 4096, "order": "priority"},
        kv_memory={"memory_utilization": 0.85, "block_tokens": 32, "blocks": 5000, "watermark": 0.02},
        prefix_cache={},
        adapters={"rank": 64, "slots": 4},
    )
    found = parsed(deployment, "vllm")
    assert found == {
        "--tensor-parallel-size": 4,
        "--pipeline-parallel-size": 2,
        "--dtype": "bfloat16",
        "--quantization": "fp8",
        "--kv-cache-dtype": "fp8",
        "--max-num-seqs": 100,
        "--max-num-batched-tokens": 4096,
        "--enable-chunked-prefill": True,
        "--scheduling-policy": "priority",
        "--async-scheduling": True,
        "--gpu-memory-utilization": 0.85,
        "--block-size": 32,
        "--num-gpu-blocks-override": 5000,
        "--watermark": 0.02,
        "--enable-prefix-caching": True,
        "--enable-lora": True,
        "--max-lora-rank": 64,
        "--max-loras": 4,
    }
    (command,) = commands_of(deployment, "vllm")
    assert command.environment == {"VLLM_PP_LAYER_PARTITION": ("41,39", "pools.main.layers_per_stage")}
    assert command.line().startswith("VLLM_PP_LAYER_PARTITION=41,39 vllm serve meta-llama/Llama-3.1-70B --tensor")


def test_data_parallel_ranks_share_what_a_client_has() -> None:
    batching = {"max_batch_requests": 100, "token_budget_tokens": 4096}
    deployment = made(model="deepseek-v3", tp=2, dp=4, ep=8, batching=batching)
    vllm, sglang = parsed(deployment, "vllm"), parsed(deployment, "sglang")
    assert (vllm["--data-parallel-size"], vllm["--max-num-seqs"], vllm["--max-num-batched-tokens"]) == (4, 25, 1024)
    assert vllm["--enable-expert-parallel"] is True
    # SGLang's tensor-parallel group holds the data-parallel ranks, and its limits are those of all of them.
    assert (sglang["--tp-size"], sglang["--attn-dp-size"], sglang["--ep-size"]) == (8, 4, 8)
    assert (sglang["--max-running-requests"], sglang["--chunked-prefill-size"]) == (100, 4096)


def test_groups_of_experts_that_vllm_does_not_have_are_named() -> None:
    deployment = made(model="deepseek-v3", tp=8, ep=4)
    found = export(deployment, "vllm")
    assert any("pools.main.ep: vLLM" in note and "no 4 groups" in note for note in found.notes)
    assert "--enable-expert-parallel" not in found.files["vllm-main.sh"]
    assert parsed(deployment, "sglang")["--ep-size"] == 4


def test_roles_tiers_and_drafts() -> None:
    deployment = Deployment.parse(
        {
            "pools": [
                {**SPLIT[0], "prefix_cache": {}},
                {**SPLIT[1], "speculation": {"draft_tokens": 3, "acceptance": 0.5}},
            ],
            "tiers": [{"name": "host", "kind": "host-dram", "clients": 1, "memory_gb": 107.3741824}],
        }
    )
    prefill, decode = (flag_list("vllm").parse(each.words()) for each in commands_of(deployment, "vllm"))
    assert prefill["--kv-transfer-config"] == {"kv_connector": "NixlConnector", "kv_role": "kv_producer"}
    assert decode["--kv-transfer-config"]["kv_role"] == "kv_consumer"
    assert prefill["--kv-offloading-size"] == pytest.approx(100)  # GiB
    assert decode["--speculative-config"] == {"method": "ngram", "num_speculative_tokens": 3}
    prefill, decode = (flag_list("sglang").parse(each.words()) for each in commands_of(deployment, "sglang"))
    assert (prefill["--disaggregation-mode"], decode["--disaggregation-mode"]) == ("prefill", "decode")
    assert prefill["--hicache-size"] * 4 == pytest.approx(107.37, abs=2)
    # SGLang's number has the model's own token.
    assert decode["--speculative-num-draft-tokens"] == 4


def test_scripts_run_the_command_with_their_arguments(tmp_path: Path) -> None:
    """Bash itself reads the scripts: the engine in its place prints what it is given."""
    deployment = Deployment.parse({"pools": SPLIT, "router": "round_robin"})
    for engine in ("vllm", "sglang"):
        found = export(deployment, engine)
        program = tmp_path / ("vllm" if engine == "vllm" else "python")
        for name in (program, tmp_path / "vllm-router"):
            name.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
            name.chmod(0o755)
        for name, text in found.files.items():
            script = tmp_path / name
            script.write_text(text)
            ran = subprocess.run(
                ["bash", str(script), "1"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True
            )
            assert ran.returncode == 0, ran.stderr
            words = json.loads(ran.stdout)
            if "router" in name:
                start = 0 if engine == "vllm" else 2
                routed = flag_list(f"{engine}-router").parse(words[start:])
                assert len(routed["--prefill"]), len(routed["--decode"]) == (2, 3)
                assert (routed["--prefill-policy"], routed["--decode-policy"]) == ("round_robin", "power_of_two")
            else:
                values = flag_list(engine).parse(words[2:])
                first = {"vllm": 8000, "sglang": 30000}[engine] + (2 if "decode" in name else 0)
                assert values["--port"] == first + 1


def test_a_rule_that_a_router_does_not_have_is_named() -> None:
    deployment = Deployment.parse({"pools": [{**ONE, "clients": 2}], "router": "least_kv_tokens"})
    for target in TARGETS:
        assert any(note.startswith("router") and "least_kv_tokens" in note for note in export(deployment, target).notes)


def test_every_catalogued_model_has_a_repository() -> None:
    for name in catalog.model_names():
        repository = repository_of(name)
        assert repository is not None, name
        assert catalog.model(name).source.startswith(repository)


def test_a_model_without_a_repository_is_a_placeholder_with_a_note(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
        "num_hidden_layers": 32, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192,
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    found = export(made(model=str(path)), "vllm")
    assert "vllm serve MODEL_ID" in found.files["vllm-main.sh"]
    assert any("MODEL_ID" in note for note in found.notes)


# The lists; test_export_engines.py holds them against the engines themselves


def test_lists_say_which_version_they_are_of() -> None:
    for name, (_, file) in COMMANDS.items():
        found = flag_list(name)
        assert found.version in file
        assert name in describe.PARSERS


def test_a_flag_that_a_version_does_not_have_is_refused() -> None:
    for wrong in (["--no-such-flag", "1"], ["--max-num-seqs", "many"], ["--scheduling-policy", "sjf"]):
        with pytest.raises(SpecError, match=r"vllm serve 0\.33\.0"):
            flag_list("vllm").parse(wrong)


# Manifests


def documents(found: Exported) -> Iterator[dict[str, Any]]:
    for text in found.files.values():
        yield from yaml.safe_load_all(text)


def flags_in(words: list[str], engine: str) -> dict[str, Any]:
    return flag_list(engine).parse(words)


@settings(max_examples=40, deadline=None)
@given(st.one_of(shipped_designs(), any_pools()))
def test_kubernetes_manifests_hold_each_pool_and_find_their_pods(deployment: Deployment) -> None:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for document in documents(export(deployment, "kubernetes")):
        kinds.setdefault(document["kind"], []).append(document)
    pools = [each for each in kinds["Deployment"] if not each["metadata"]["name"].startswith("router")]
    assert [each["spec"]["replicas"] for each in pools] == [pool.clients for pool in deployment.pools]
    for document, pool in zip(pools, deployment.pools, strict=True):
        template = document["spec"]["template"]
        (container,) = template["spec"]["containers"]
        (limit,) = container["resources"]["limits"].values()
        assert int(limit) == pool.accelerators_per_client
        assert all(isinstance(each, str) for each in container["args"])
        engine = "sglang" if str(pool.engine).startswith("sglang") else "vllm"
        assert flags_in(container["args"], engine)["--port"] == container["ports"][0]["containerPort"]
        labels = template["metadata"]["labels"]
        assert document["spec"]["selector"]["matchLabels"].items() <= labels.items()
        service = next(each for each in kinds["Service"] if each["metadata"]["name"] == document["metadata"]["name"])
        assert service["spec"]["selector"].items() <= labels.items()


def test_kubernetes_manifests_are_valid_by_its_own_schemas() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for deployment in (made(clients=2), Deployment.parse({"pools": SPLIT}), made(accelerator="mi300x")):
        for document in documents(export(deployment, "kubernetes")):
            validate.validate(document, "1.31", strict=True)


def test_llm_d_leaves_to_the_chart_what_the_chart_writes() -> None:
    (values,) = documents(export(Deployment.parse({"pools": SPLIT}), "llm-d"))
    assert (values["prefill"]["replicas"], values["decode"]["replicas"]) == (2, 3)
    assert (values["prefill"]["parallelism"]["tensor"], values["decode"]["parallelism"]["tensor"]) == (4, 2)
    assert values["routing"]["proxy"]["enabled"] is True
    for role in ("prefill", "decode"):
        words = values[role]["containers"][0]["args"]
        assert "--tensor-parallel-size" not in words
        assert flags_in(words, "vllm")["--kv-transfer-config"]["kv_connector"] == "NixlConnector"
    (values,) = documents(export(made(), "llm-d"))
    assert (values["prefill"], values["routing"]["proxy"]["enabled"]) == ({"create": False}, False)


def test_dynamo_graph_has_a_frontend_and_workers_by_role() -> None:
    (graph,) = documents(export(Deployment.parse({"pools": SPLIT, "router": "join_shortest_queue"}), "dynamo"))
    assert (graph["apiVersion"], graph["kind"]) == ("nvidia.com/v1beta1", "DynamoGraphDeployment")
    frontend, prefill, decode = graph["spec"]["components"]
    assert frontend["podTemplate"]["spec"]["containers"][0]["args"] == ["--router-mode", "least-loaded"]
    for component, role, replicas in ((prefill, "prefill", 2), (decode, "decode", 3)):
        assert (component["type"], component["replicas"]) == (role, replicas)
        words = component["podTemplate"]["spec"]["containers"][0]["args"]
        place = words.index("--disaggregation-mode")
        assert words[place + 1] == role
        own = [*words[:place], *words[place + 2 :]]
        assert ("--kv-transfer-config" in flags_in(own, "vllm")) == (role == "prefill")


def test_ray_serve_config_has_the_arguments_by_name() -> None:
    (config,) = documents(export(Deployment.parse({"pools": SPLIT}), "ray-serve"))
    (application,) = config["applications"]
    assert application["import_path"] == "ray.serve.llm:build_pd_openai_app"
    prefill, decode = (application["args"][f"{role}_config"] for role in ("prefill", "decode"))
    assert prefill["deployment_config"]["num_replicas"] == 2
    assert (prefill["accelerator_type"], decode["accelerator_type"]) == ("H100", "H200")
    for each in (prefill, decode):
        for name, value in each["engine_kwargs"].items():
            flag = flag_list("vllm").find(f"--{name.replace('_', '-')}")
            assert flag is not None, name
            assert isinstance(value, bool) == (flag[0].kind == "toggle")
    (config,) = documents(export(made(clients=3), "ray-serve"))
    assert config["applications"][0]["args"]["llm_configs"][0]["deployment_config"]["num_replicas"] == 3


def test_comments_name_fields_that_there_are() -> None:
    deployment = Deployment.parse({"pools": SPLIT})
    known = json.dumps(resolved(deployment).model_dump(mode="json"))
    for target in TARGETS:
        for text in export(deployment, target).files.values():
            for line in text.splitlines():
                if "  # pools." in line:
                    field = line.rsplit("  # ", 1)[1].split(", ")[0].split(" ")[0]
                    assert f'"{field.rsplit(".", 1)[1]}"' in known, line


# Load


WORKLOAD = Workload.parse(
    {
        "requests": 200,
        "arrivals": {"process": "gamma", "rate_rps": 20, "burstiness_cv": 2},
        "lengths": {"statistics": "azure-2023-conversation"},
        "prefix": {"system_prompts": 3, "tokens": 320},
    }
)


def test_the_data_set_has_the_arrivals_lengths_and_shared_chunks_of_the_workload(tmp_path: Path) -> None:
    found = export_load(made(prefix_cache={}), WORKLOAD)
    requests = build_requests(WORKLOAD)
    rows = [json.loads(line) for line in found.files[DATASET].splitlines()]
    assert len(rows) == len(requests)
    np.testing.assert_allclose([row["timestamp"] / 1e3 for row in rows], requests.arrival_ps / 1e12, atol=1e-10)
    assert [row["input_length"] for row in rows] == requests.prompt_tokens.tolist()
    assert [row["output_length"] for row in rows] == requests.output_tokens.tolist()
    chunk = flag_list("vllm-bench").parse(bench_words(found))["--timed-trace-chunk-hash-size"]
    assert all(len(row["hash_ids"]) == -(-row["input_length"] // chunk) for row in rows)
    # Two prompts share a chunk if and only if the workload says so.
    assert requests.prefixes is not None
    for one, other in ((0, 1), (2, 7), (11, 40)):
        firsts = [int(requests.prefixes.chunks[requests.prefixes.chunk_first[each]]) for each in (one, other)]
        assert (firsts[0] == firsts[1]) == (rows[one]["hash_ids"][0] == rows[other]["hash_ids"][0])
    path = tmp_path / DATASET
    path.write_text(found.files[DATASET])
    again = build_requests(Workload.parse({"trace": {"path": str(path)}}))
    np.testing.assert_allclose(again.arrival_ps, requests.arrival_ps, atol=100)


def bench_words(found: Exported) -> list[str]:
    words = shlex.split(found.files["replay-vllm.sh"], comments=True)
    return words[words.index("arguments=(") + 1 : words.index(")")]


def test_scripts_of_the_load_parse_and_send_every_request() -> None:
    found = export_load(made(), WORKLOAD)
    values = flag_list("vllm-bench").parse(bench_words(found))
    assert (values["--num-prompts"], values["--dataset-name"]) == (200, "timed_trace")
    assert {"--save-result", "--save-detailed", "--ignore-eos"} <= set(values)
    scenario = yaml.safe_load(found.files["guidellm.yaml"])["spec"]
    assert scenario["profile"] == {"kind": "replay", "schedule_turn": "timestamp"}
    assert scenario["data"][0]["source"]["path"] == DATASET


def test_calls_that_follow_others_are_sent_when_the_simulation_says() -> None:
    session = {"turns": 3, "wait_s": 1.0, "prompt_tokens": 50}
    data = {**WORKLOAD.model_dump(mode="json", exclude_unset=True), "requests": 30, "session": session}
    workload = Workload.parse(data)
    deployment = made(clients=2)
    found = export_load(deployment, workload)
    rows = [json.loads(line) for line in found.files[DATASET].splitlines()]
    table = simulate(deployment, build_requests(workload), plan=workload.plan).requests()
    assert len(rows) == 90
    np.testing.assert_allclose([row["timestamp"] / 1e3 for row in rows], np.sort(table["arrival_s"]), atol=1e-9)
    assert any("sessions" in note for note in found.notes)


def test_prompts_have_the_documents_that_were_retrieved() -> None:
    spec = load_study("rag")
    workload = spec.cases[0].workload.model_copy(update={"requests": 20})
    deployment = deployment_of(next(iter(spec.space.space)), spec)
    found = export_load(deployment, workload)
    lengths = [json.loads(line)["input_length"] for line in found.files[DATASET].splitlines()]
    assert lengths == (build_requests(workload).prompt_tokens + 5 * 200).tolist()
    assert any("retrieval" in note for note in found.notes)


def test_the_loop_closes(tmp_path: Path) -> None:
    """Replayed by vLLM's benchmark on an engine that is as simulated, ``dse validate`` finds no error."""
    from dse.measurements.formats import read_all
    from dse.validation.errors import compare

    deployment = made(clients=2)
    found = export_load(deployment, WORKLOAD)
    for name in ("deployment.yaml", DATASET):
        (tmp_path / name).write_text(found.files[name])
    table = simulate(deployment, build_requests(WORKLOAD)).requests()
    rows = [json.loads(line) for line in found.files[DATASET].splitlines()]
    gaps = (table["e2e_s"] - table["ttft_s"]).to_numpy()
    # The fields that vllm bench serve 0.33.0 writes with --save-result --save-detailed.
    result = {
        "backend": "openai", "model_id": "meta-llama/Llama-3.1-70B", "num_prompts": len(rows), "request_rate": "inf",
        "burstiness": 1.0, "max_concurrency": None, "completed": len(rows), "failed": 0,
        "total_input_tokens": sum(row["input_length"] for row in rows),
        "total_output_tokens": sum(row["output_length"] for row in rows),
        "input_lens": [row["input_length"] for row in rows], "output_lens": [row["output_length"] for row in rows],
        "ttfts": table["ttft_s"].tolist(), "itls": [[gap] for gap in gaps.tolist()], "errors": [""] * len(rows),
        "start_times": [7.0 + row["timestamp"] / 1e3 for row in rows],
    }  # fmt: skip
    path = tmp_path / "vllm-bench.json"
    path.write_text(json.dumps(result))
    (run,) = read_all([path])
    np.testing.assert_allclose(run.requests.arrival_ps, build_requests(WORKLOAD).arrival_ps, atol=1e4)
    assert run.requests.prompt_tokens.tolist() == build_requests(WORKLOAD).prompt_tokens.tolist()
    errors = compare([run], jobs=1, noise=False)
    assert len(errors) > 5
    latencies = errors["metric"].str.match("ttft|tpot|e2e")
    assert errors["error_percent"][latencies].abs().max() < 1e-6
    # Requests a second are counted over the benchmark's time, which is longer by the way to the engine.
    assert errors["error_percent"].abs().max() < 0.1


def test_the_written_deployment_is_the_same_system() -> None:
    deployment = made(clients=2, engine="vllm-0.19")
    again = Deployment.parse(yaml.safe_load(export_load(deployment, WORKLOAD).files["deployment.yaml"]))
    assert resolved(again) == resolved(deployment)


# Command


def test_command_writes_a_run_s_design_and_says_what_is_left_out(tmp_path: Path) -> None:
    from dse.output import JOURNAL, claim, save
    from dse.study import run_study

    from .conftest import small

    folder = tmp_path / "run"
    with claim(folder, resume=False, overwrite=False):
        save(run_study(small(budget={"trials": 30}), jobs=1, journal=folder / JOURNAL), folder)
    runner, target = CliRunner(), tmp_path / "deploy"
    ran = runner.invoke(app, ["export", str(folder), "--to", "all", "--load", "--requests", "20", "-o", str(target)])
    assert ran.exit_code == 0, ran.output
    recommended = load_run(folder).recommended
    assert recommended is not None
    deployment = load_run(folder).deployment(recommended)
    for name, text in export(deployment, "vllm").files.items():
        assert (target / "vllm" / name).read_text() == text
        assert (target / "vllm" / name).stat().st_mode & 0o111
    assert len((target / "load" / DATASET).read_text().splitlines()) == 20
    notes = (target / "NOTES.md").read_text()
    assert all(note in notes for note in export(deployment, "dynamo").notes)
    again = runner.invoke(app, ["export", str(folder), "-o", str(target), "--to", "all"])
    assert isinstance(again.exception, SpecError)
    assert "--overwrite" in str(again.exception)
    other = runner.invoke(app, ["export", str(folder), "--design", "3", "-o", str(tmp_path / "third")])
    assert other.exit_code == 0, other.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "vlm"], "vllm"),
        (["--design", "3"], "--design"),
        (["--load"], "no workload"),
        (["--requests", "3"], "--load"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "deployment.yaml"
    path.write_text(made().to_yaml())
    ran = CliRunner().invoke(app, ["export", str(path), "-o", str(tmp_path / "out"), *arguments])
    assert isinstance(ran.exception, SpecError)
    assert said in str(ran.exception)
    assert not (tmp_path / "out").exists()


def test_an_accelerator_that_nobody_sells_is_asked_of_no_cluster() -> None:
    deployment = made(accelerator="h100-sxm(memory_gb=141)")
    assert export(deployment, "vllm").files
    with pytest.raises(SpecError, match=r"pools\.main\.accelerator: h100-sxm\(memory_gb=141\) is hypothetical"):
        export(deployment, "dynamo")
    found = bundle(deployment, "all")
    assert {name.partition("/")[0] for name in found.files} == {"vllm", "sglang", "NOTES.md"}
    assert "no cluster has it" in found.files["NOTES.md"]


def test_unknown_target() -> None:
    with pytest.raises(SpecError, match="kubernetes"):
        export(made(), "kubernets")
