"""Exported files: what engines and clusters accept, where each argument comes from, and that no field is dropped."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dse.cli.main import app
from dse.client.study import RemoteTrial
from dse.evaluation import deployment_of
from dse.export import TARGETS, Exported, export
from dse.export.bundle import Bundle, bundle, write_bundle
from dse.export.command import Command
from dse.export.exported import Account, settings_of
from dse.export.load import DATASET, export_load
from dse.export.names import repository_of
from dse.export.parsers import COMMANDS, describe, flag_list
from dse.export.routers import router_version
from dse.export.safe_names import dns_names, file_names
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
        "stage": draw(st.sampled_from(["llm", "draft"])),
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


def test_a_pool_of_another_stage_is_called_by_its_own_name() -> None:
    found = export(made(stage="draft"), "vllm")
    assert not unaccounted(made(stage="draft"), found)
    assert not [note for note in found.notes if "pools.draft" in note]


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


def test_sizes_that_ranks_take_are_their_parts_of_a_client_s() -> None:
    memory = {"block_tokens": 16, "blocks": 8000}
    deployment = Deployment.parse(
        {
            "pools": [
                {**ONE, "model": "deepseek-v3", "tp": 2, "dp": 4, "pp": 2, "kv_memory": memory, "prefix_cache": {}}
            ],
            "tiers": [{"name": "host", "kind": "host-dram", "clients": 1, "memory_gb": 1024}],
        }
    )
    vllm, sglang = parsed(deployment, "vllm"), parsed(deployment, "sglang")
    # vLLM has an engine for each of 4 ranks, whose 4 workers share the memory that is asked for.
    assert vllm["--num-gpu-blocks-override"] == 2000
    assert vllm["--kv-offloading-size"] * 2**30 == pytest.approx(1024e9 / 4)
    # Of SGLang's 16 processes each takes the host memory, and each rank of 4 has a pool of tokens.
    assert sglang["--max-total-tokens"] == 2000 * 16
    assert sglang["--hicache-size"] == 1024 / 16


def test_a_host_cache_too_small_for_its_ranks_is_named() -> None:
    tier = {"name": "host", "kind": "host-dram", "clients": 1, "memory_gb": 1}
    found = export(Deployment.parse({"pools": [{**ONE, "prefix_cache": {}}], "tiers": [tier]}), "sglang")
    assert any("tiers.host: 1 GB is too little for 4 ranks" in note for note in found.notes)
    assert "--hicache-size" not in found.files["sglang-main.sh"]


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
    # --kv-offloading-size would make vLLM forget the connector that hands over.
    assert "--kv-offloading-size" not in prefill
    assert prefill["--kv-transfer-config"]["kv_connector"] == "MultiConnector"
    assert prefill["--kv-transfer-config"]["kv_role"] == "kv_producer"
    handing, keeping = prefill["--kv-transfer-config"]["kv_connector_extra_config"]["connectors"]
    assert handing == {"kv_connector": "NixlConnector", "kv_role": "kv_producer"}
    assert keeping["kv_connector"] == "OffloadingConnector"
    assert keeping["kv_connector_extra_config"] == {"cpu_bytes_to_use": 100 * 2**30}
    assert decode["--kv-transfer-config"] == {"kv_connector": "NixlConnector", "kv_role": "kv_consumer"}
    assert decode["--speculative-config"] == {"method": "ngram", "num_speculative_tokens": 3}
    prefill, decode = (flag_list("sglang").parse(each.words()) for each in commands_of(deployment, "sglang"))
    assert (prefill["--disaggregation-mode"], decode["--disaggregation-mode"]) == ("prefill", "decode")
    assert prefill["--hicache-size"] * 4 == pytest.approx(107.37, abs=2)
    # SGLang's number has the model's own token.
    assert decode["--speculative-num-draft-tokens"] == 4


def started(script: str, folder: Path, client: int = 1) -> tuple[list[str], dict[str, str]]:
    """What a script starts, as Bash itself reads it: words after the program, and variables of vLLM."""
    for name in ("vllm", "python", "vllm-router"):
        said = "[sys.argv[1:], {name: each for name, each in os.environ.items() if 'VLLM' in name}]"
        (folder / name).write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps({said}))\n")
        (folder / name).chmod(0o755)
    ran = subprocess.run(
        ["bash", "-s", str(client)],
        input=script,
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    words, variables = json.loads(ran.stdout)
    return words, variables


def test_scripts_run_the_command_with_their_arguments(tmp_path: Path) -> None:
    deployment = Deployment.parse({"pools": SPLIT, "router": "round_robin"})
    for engine in ("vllm", "sglang"):
        found = export(deployment, engine)
        for name, text in found.files.items():
            words, _ = started(text, tmp_path)
            if "router" in name:
                start = 0 if engine == "vllm" else 2
                routed = flag_list(f"{engine}-router").parse(words[start:])
                addresses = [each for each in routed["--prefill"] if each.startswith("http")]
                assert (len(addresses), len(routed["--decode"])) == (2, 3)
                assert (routed["--prefill-policy"], routed["--decode-policy"]) == ("round_robin", "power_of_two")
            else:
                values = flag_list(engine).parse(words[2:])
                first = {"vllm": 8000, "sglang": 30000}[engine] + (2 if "decode" in name else 0)
                assert values["--port"] == first + 1


TWO_PREFILLS = [SPLIT[0], {**SPLIT[0], "name": "more", "clients": 1}, SPLIT[1]]


def test_clients_that_hand_over_have_ports_of_their_own_which_the_router_knows(tmp_path: Path) -> None:
    deployment = Deployment.parse({"pools": TWO_PREFILLS})
    files = export(deployment, "sglang").files
    listening = {}
    for pool, clients in (("prefill", 2), ("more", 1)):
        for client in range(clients):
            values = flag_list("sglang").parse(started(files[f"sglang-{pool}.sh"], tmp_path, client)[0][2:])
            listening[f"http://HOST:{values['--port']}"] = str(values["--disaggregation-bootstrap-port"])
    assert list(listening.values()) == ["9001", "9002", "9003"]
    words, _ = started(files["sglang-router.sh"], tmp_path)
    told = {words[place + 1]: words[place + 2] for place, word in enumerate(words) if word == "--prefill"}
    assert told == listening
    # vLLM's side channel takes a port for each rank.
    files, taken = export(deployment, "vllm").files, set()
    for pool, clients, ranks in (("prefill", 2, 4), ("more", 1, 4), ("decode", 3, 2)):
        for client in range(clients):
            first = int(started(files[f"vllm-{pool}.sh"], tmp_path, client)[1]["VLLM_NIXL_SIDE_CHANNEL_PORT"])
            assert not taken & set(range(first, first + ranks))
            taken |= set(range(first, first + ranks))


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


def test_a_cluster_tells_the_router_of_sglang_where_prefill_pods_hand_over() -> None:
    pools = [{**pool, "engine": "sglang-0.5"} for pool in SPLIT]
    found = list(documents(export(Deployment.parse({"pools": pools}), "kubernetes")))
    pods = {each["metadata"]["name"]: each["spec"]["template"] for each in found if each["kind"] == "Deployment"}
    words = pods["prefill"]["spec"]["containers"][0]["args"]
    port = words[words.index("--disaggregation-bootstrap-port") + 1]
    assert pods["prefill"]["metadata"]["annotations"] == {"sglang.ai/bootstrap-port": port}
    assert "annotations" not in pods["decode"]["metadata"]


@pytest.mark.parametrize("target", ["vllm", "sglang", "kubernetes"])
def test_a_pool_that_a_router_does_not_serve_is_named(target: str) -> None:
    found = export(Deployment.parse({"pools": [*SPLIT, {**ONE, "name": "whole"}]}), target)
    assert any(note.startswith("pools.whole: ") and "sends nothing to it" in note for note in found.notes)
    router = next(text for name, text in found.files.items() if "router" in name)
    assert "The router before prefill, decode:" in router


def test_a_router_of_another_engine_is_named_and_of_pools_that_hand_over_refused() -> None:
    pools = [ONE, {**ONE, "name": "other", "engine": "sglang-0.5"}]
    found = export(Deployment.parse({"pools": pools}), "kubernetes")
    assert any(note.startswith("pools.other.engine: SGLang") and "vllm-router" in note for note in found.notes)
    split = Deployment.parse({"pools": [SPLIT[0], {**SPLIT[1], "engine": "sglang-0.5"}]})
    for target in ("kubernetes", "dynamo"):
        with pytest.raises(SpecError, match=r"pools\.decode\.engine: sglang .* vllm.*pools\.prefill"):
            export(split, target)
    # The router is that of the pools that it serves, not of the first.
    whole = {**ONE, "name": "whole", "engine": "sglang-0.5"}
    found = export(Deployment.parse({"pools": [whole, *SPLIT]}), "kubernetes")
    assert router_version("vllm") in found.files["router-llm.yaml"]


@pytest.mark.parametrize("target", ["kubernetes", "llm-d", "dynamo", "ray-serve"])
def test_clients_of_several_kinds_of_accelerators_are_asked_of_no_cluster(target: str) -> None:
    deployment = made(pp=2, stage_accelerators=["h100-sxm", "h200-sxm"])
    with pytest.raises(SpecError, match=r"pools\.main\.stage_accelerators: h100-sxm, h200-sxm: .*allowed: the same"):
        export(deployment, target)
    assert any("stage_accelerators" in note for note in export(deployment, "vllm").notes)
    assert export(made(pp=2, stage_accelerators=["h100-sxm", "h100-sxm"]), target).files


# Names that are any text


def test_names_for_clusters_are_all_different_and_fit_a_service() -> None:
    long = "a" * 49
    found = dns_names(
        ["a.b", "a_b", "8b", "小", "大", f"{long}.prefill", f"{long}.decode", "router-llm"], ["router-llm"]
    )
    assert list(found.values()) == [
        "a-b", "a-b-2", "x-8b", "unnamed", "unnamed-2", long, f"{long[:48]}-2", "router-llm-2",
    ]  # fmt: skip
    assert file_names(["llm.prefill", "A", "a", ".."]) == {
        "llm.prefill": "llm.prefill",
        "A": "A",
        "a": "a-2",
        "..": "unnamed",
    }


def test_pools_whose_names_look_alike_are_all_exported() -> None:
    names = ["a.b", "a_b", "8b", "小", "大", "router-llm", "router", "frontend"]
    deployment = Deployment.parse({"pools": [{**ONE, "name": name} for name in names]})
    services = [each for each in documents(export(deployment, "kubernetes")) if each["kind"] == "Service"]
    assert len({each["metadata"]["name"] for each in services}) == len(names) + 1
    for target in ("vllm", "sglang"):
        assert len(export(deployment, target).files) == len(names) + 1
    assert len(export(deployment, "llm-d").files) == len(names)
    (graph,) = documents(export(deployment, "dynamo"))
    assert len({each["name"].lower() for each in graph["spec"]["components"]}) == len(names) + 1


ANY_NAME = st.text(min_size=1, max_size=70) | st.text("ab/.\\\n\r\x0b\x85\u2028\0#$`'\"{}[]<>: -%", min_size=1)
SAFE_PATH = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*")
SERVICE_NAME = re.compile(r"[a-z](?:[a-z0-9-]{,61}[a-z0-9])?")


def called(pools: list[str], stages: list[str]) -> Deployment:
    """A deployment of two stages with these names, past what the specification refuses; a tier has the first."""
    small = {**ONE, "name": "small", "stage": "small", "clients": 2}
    tier = {"name": "host", "kind": "host-dram", "clients": 1, "memory_gb": 64}
    deployment = Deployment.parse({"pools": [{**SPLIT[0], "prefix_cache": {}}, SPLIT[1], small], "tiers": [tier]})
    wanted = zip(deployment.pools, pools, [stages[0], stages[0], stages[1]], strict=True)
    kept = tuple(pool.model_copy(update={"name": name, "stage": stage}) for pool, name, stage in wanted)
    tiers = (deployment.tiers[0].model_copy(update={"name": pools[0]}),)
    return deployment.model_copy(update={"pools": kept, "tiers": tiers})


def without_comments(script: str) -> list[str]:
    return [line.split("  # ")[0].rstrip() for line in script.split("\n") if not line.startswith("#")]


def shape(data: Any) -> Any:
    """What a document holds, whatever texts stand in it."""
    if isinstance(data, dict):
        return {key: shape(each) for key, each in data.items()}
    return [shape(each) for each in data] if isinstance(data, list) else type(data)


def check_named(found: Bundle, plain: Bundle) -> None:
    """Check that names change comments, and nothing that is executed or read."""
    assert len(found.files) == len(plain.files)
    for (name, text), expected in zip(found.files.items(), plain.files.values(), strict=True):
        assert SAFE_PATH.fullmatch(name), name
        if name.endswith(".sh"):
            ran = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
            assert ran.returncode == 0, ran.stderr
            assert without_comments(text) == without_comments(expected)
        elif name.endswith(".yaml"):
            read = list(yaml.safe_load_all(text))
            assert shape(read) == shape(list(yaml.safe_load_all(expected)))
            for each in read:
                assert SERVICE_NAME.fullmatch(each.get("metadata", {}).get("name", "a"))
        else:
            assert name == "NOTES.md"
            assert all(line[:2] in ("", "# ", "##", "- ") for line in text.split("\n"))


@settings(max_examples=25, deadline=None)
@given(st.lists(ANY_NAME, min_size=3, max_size=3, unique=True), st.lists(ANY_NAME, min_size=2, max_size=2, unique=True))
def test_any_names_change_comments_alone(pools: list[str], stages: list[str]) -> None:
    deployment, plain = called(pools, stages), called(["prefill", "decode", "small"], ["large", "little"])
    for target in TARGETS:
        check_named(bundle(deployment, target), bundle(plain, target))


def test_names_with_line_breaks_are_refused_where_they_are_read() -> None:
    broken = "x\ntouch pwned\n#"
    for wrong in ({"name": broken}, {"stage": broken}):
        with pytest.raises(SpecError, match=r"pools\.0\..*control character U\+000A; allowed: text on one line"):
            made(**wrong)
    for pipeline in (
        {"kind": "cascade", "stages": ["a", broken], "fallback": [0.1]},
        {"kind": "route", "to": {"a": 1, broken: 1}},
    ):
        with pytest.raises(SpecError, match="control character"):
            Workload.parse({**WORKLOAD.model_dump(mode="json", exclude_unset=True), "pipeline": [pipeline]})


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "a/../../x", "a//x", "./x", "C:x", "C:/x", "..\\x", "a\nb", "a/", "", "a\0"]
)
def test_no_file_is_written_outside_of_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no path within a folder"):
        write_bundle({"first.sh": "", name: "text"}, tmp_path / "deploy")
    # Nor for a service, whatever it sends.
    study = SimpleNamespace(deployable=lambda *_, **__: SimpleNamespace(files={"first.sh": "", name: "text"}))
    trial = RemoteTrial(study, SimpleNamespace(number=1))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="no path within a folder"):
        trial.export("vllm", tmp_path / "deploy")
    assert not list(tmp_path.iterdir())


def test_names_are_no_markup_in_the_page_of_notes() -> None:
    page = bundle(made(name="<img src=x> \\<b> [here](http://elsewhere)"), "vllm").files["NOTES.md"]
    assert "pools.\\<img src=x> \\\\\\<b> \\[here](http://elsewhere).engine: predicted" in page


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


def same_figures(deployment: Deployment, text: str) -> None:
    """Check that a written deployment is served the workload as the deployment that it was written of."""
    requests = build_requests(WORKLOAD)
    again = Deployment.parse(yaml.safe_load(text))
    try:
        expected = simulate(deployment, requests).requests()
    except SpecError as error:
        with pytest.raises(type(error)):
            simulate(again, requests)
    else:
        np.testing.assert_array_equal(simulate(again, requests).requests(), expected)


def test_the_written_deployment_keeps_the_rule_of_its_stage() -> None:
    own = {"routers": [{"stage": "llm", "router": "random"}], "router": "round_robin"}
    deployment = Deployment.parse({"pools": [{**ONE, "clients": 3}], **own})
    text = export_load(deployment, WORKLOAD).files["deployment.yaml"]
    assert yaml.safe_load(text)["router"] == "random"
    same_figures(deployment, text)


CASCADE = {"kind": "cascade", "stages": ["..", "../../../../elsewhere/x"], "fallback": [0.5]}


def test_the_written_deployments_of_several_stages_can_be_simulated(tmp_path: Path) -> None:
    """Each is one LLM stage; what others have, as lending, is not in it. Their folders lie within the one given."""
    data = {**WORKLOAD.model_dump(mode="json", exclude_unset=True), "requests": 40, "pipeline": [CASCADE]}
    first, second = CASCADE["stages"]
    deployment = Deployment.parse(
        {
            "pools": [
                {**ONE, "stage": first, "clients": 2},
                *({**pool, "stage": second} for pool in SPLIT),
            ],
            "lending": {"prefill_above_tokens": 1000},
            "routers": [{"stage": first, "router": "random"}, {"stage": second, "router": "round_robin"}],
        }
    )
    found = export_load(deployment, Workload.parse(data))
    folders = {name.partition("/")[0] for name in found.files}
    assert folders == {"unnamed", "elsewhere-x"}
    write_bundle(found.files, tmp_path / "deploy" / "load")
    assert [each.name for each in tmp_path.iterdir()] == ["deploy"]
    for folder, rule, lends in (("unnamed", "random", False), ("elsewhere-x", "round_robin", True)):
        again = Deployment.from_yaml(tmp_path / "deploy/load" / folder / "deployment.yaml")
        assert (again.router, again.lending is not None) == (rule, lends)
        trace = Workload.parse({"trace": {"path": str(tmp_path / "deploy/load" / folder / DATASET)}})
        assert simulate(again, build_requests(trace)).requests()["served"].all()


@settings(max_examples=20, deadline=None)
@given(st.one_of(shipped_designs(), any_pools()))
def test_every_written_deployment_is_served_as_the_one_it_is_of(deployment: Deployment) -> None:
    if len({pool.stage for pool in deployment.pools}) > 1:
        return
    pools = tuple(pool.model_copy(update={"stage": "llm"}) for pool in deployment.pools)
    alone = deployment.model_copy(update={"pools": pools, "services": ()})
    same_figures(alone, export_load(alone, WORKLOAD).files["deployment.yaml"])


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
