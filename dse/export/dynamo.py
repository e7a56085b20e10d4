"""NVIDIA Dynamo: a DynamoGraphDeployment for each LLM stage."""

from __future__ import annotations

from typing import Any, Final

from dse.export.cluster_names import ClusterNames, cluster_names
from dse.export.commented_yaml import From, dump
from dse.export.exported import Account
from dse.export.kubernetes import accelerator_limits, affinity_of, engine_of, engine_of_stage, tell_of_size
from dse.export.names import vendor_of
from dse.export.routers import policy_of
from dse.export.scripts import engine_command, stages_of
from simulator import Pool

VERSION: Final = "1.6.1"
API: Final = "nvidia.com/v1beta1"
IMAGE: Final = "nvcr.io/nvidia/ai-dynamo/{engine}-runtime:" + VERSION
TYPES: Final = {"both": "worker", "prefill": "prefill", "decode": "decode"}
FRONTEND: Final = "Frontend"
#: dynamo.vllm says a worker's role by its own flag; decode workers need no connector.
BOOTSTRAP_PORT: Final = "12345"


def export_dynamo(account: Account) -> dict[str, str]:
    """Return one graph for each LLM stage."""
    files = {}
    names = cluster_names(account.deployment, FRONTEND)
    for stage, pools in stages_of(account).items():
        files[f"dynamo-{names.stages[stage]}.yaml"] = _graph(stage, pools, account, names)
    return files


def _graph(stage: str, pools: list[Pool], account: Account, names: ClusterNames) -> str:
    mode = policy_of(account.deployment.router, "dynamo.frontend", account, "router")
    if any(pool.role != "both" for pool in pools):
        account.say(
            "handover_router: Dynamo's frontend has one router mode; prefill and decode workers are both picked by "
            f"{mode}.",
            "handover_router",
        )
    frontend = {
        "name": FRONTEND,
        "type": "frontend",
        "replicas": 1,
        "podTemplate": {
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": IMAGE.format(engine=engine_of_stage(pools)),
                        "command": ["python3", "-m", "dynamo.frontend"],
                        "args": ["--router-mode", From(mode, "router")],
                    }
                ]
            }
        },
    }
    graph = {
        "apiVersion": API,
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": names.stages[stage]},
        "spec": {"components": [frontend, *(_component(pool, account, names) for pool in pools)]},
    }
    head = f"Stage {stage} for NVIDIA Dynamo {VERSION}."
    return dump(graph, (head, "Behind a value: the field of the design that it comes from."))


def _component(pool: Pool, account: Account, names: ClusterNames) -> dict[str, Any]:
    at, engine = f"pools.{pool.name}", engine_of(pool)
    command = engine_command(pool, account, engine)
    tell_of_size(pool, account)
    account.express(f"{at}.clients")
    if vendor_of(pool.accelerator) != "NVIDIA":
        account.say(f"{at}.accelerator: Dynamo's images are built for NVIDIA, not for {pool.accelerator}.")
    words: list[Any] = ["--model" if engine == "vllm" else "--model-path", From(command.model[-1], f"{at}.model")]
    for each in command.arguments:
        if each.flag == "--kv-transfer-config" and pool.role == "decode":
            # A decode worker's connector is Dynamo's to choose.
            continue
        words += [From(each.flag, *each.fields), *each.values]
    if engine == "vllm" and pool.role != "both":
        words += [From("--disaggregation-mode", f"{at}.role"), pool.role]
    if engine == "sglang" and pool.role != "both":
        words += ["--disaggregation-bootstrap-port", BOOTSTRAP_PORT]
    container: dict[str, Any] = {
        "name": "main",
        "image": IMAGE.format(engine=engine),
        "command": ["python3", "-m", f"dynamo.{engine}"],
        "args": words,
        "envFrom": [{"secretRef": {"name": "hf-token-secret"}}],
        "resources": {"limits": accelerator_limits(pool)},
    }
    if command.environment:
        container["env"] = [
            {"name": name, "value": From(value, source)} for name, (value, source) in command.environment.items()
        ]
    spec: dict[str, Any] = {"containers": [container]}
    if affinity := affinity_of(pool, account):
        spec["affinity"] = affinity
    return {
        "name": names.pools[pool.name],
        "type": From(TYPES[pool.role], f"{at}.role"),
        "replicas": From(pool.clients, f"{at}.clients"),
        "podTemplate": {"spec": spec},
    }
