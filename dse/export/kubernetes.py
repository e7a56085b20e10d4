"""Kubernetes manifests: a Deployment and a Service for each pool, and a router that finds their pods."""

from __future__ import annotations

from typing import Any, Final

from dse.export.cluster_names import ClusterNames, cluster_names
from dse.export.commented_yaml import From, dump
from dse.export.exported import Account
from dse.export.names import device_resource, node_label, vendor_of
from dse.export.parsers import flag_list
from dse.export.routers import needs_router, router_command, router_version, served_pools
from dse.export.safe_names import dns_names
from dse.export.scripts import FIRST_SIDE_PORT, engine_command, engine_name, stages_of
from simulator import Pool
from simulator.errors import SpecError

IMAGES: Final = {"vllm": "vllm/vllm-openai:v", "sglang": "lmsysorg/sglang:v"}
PORT: Final = 8000
ROLE: Final = "dse.role"
POOL: Final = "dse.pool"
STAGE: Final = "dse.stage"
BOOTSTRAP: Final = "sglang.ai/bootstrap-port"
"""By this annotation of a prefill pod SGLang's router knows where its KV is asked for."""


def engine_of(pool: Pool) -> str:
    """Return the engine that a pool was predicted for: SGLang if its profile is one of SGLang's, else vLLM."""
    name = pool.engine if isinstance(pool.engine, str) else pool.engine.name
    return "sglang" if name.startswith("sglang") else "vllm"


def engine_of_stage(pools: list[Pool]) -> str:
    """Return the engine that the router before a stage is made for: that of the first pool that it serves.

    Raises
    ------
    SpecError
        If prefill and decode pools have different engines, which do not read each other's KV.
    """
    first, *others = served_pools(pools)
    engine = engine_of(first)
    for pool in others:
        if pool.role != "both" and engine_of(pool) != engine:
            raise SpecError(
                f"pools.{pool.name}.engine: {engine_of(pool)} hands no KV to {engine}, that of pools.{first.name}, nor "
                "takes any; allowed: one engine for the prefill and decode pools of a stage"
            )
    return engine


def export_kubernetes(account: Account) -> dict[str, str]:
    """Return one file of manifests for each pool, and one for each router."""
    files = {}
    names, stages = cluster_names(account.deployment), stages_of(account)
    routers = dns_names((f"router-{stage}" for stage in stages), names.pools.values())
    for stage, pools in stages.items():
        for pool in pools:
            files[f"{names.pools[pool.name]}.yaml"] = _pool(pool, account, names)
        if needs_router(pools):
            name = routers[f"router-{stage}"]
            files[f"{name}.yaml"] = _router(name, names.stages[stage], pools, account)
        else:
            account.express("router")
    account.say(
        "Secret hf-token with the key HF_TOKEN: create it for models that need one; pods start without it. Weights "
        "are loaded by every pod on its own; mount a volume at /root/.cache/huggingface to share them."
    )
    return files


def accelerator_limits(pool: Pool) -> dict[str, Any]:
    """Return the accelerators that one client asks for."""
    name = f"pools.{pool.name}"
    return {device_resource(pool.accelerator): From(str(pool.accelerators_per_client), f"{name}.tp x pp x dp")}


def affinity_of(pool: Pool, account: Account) -> dict[str, Any]:
    """Return the affinity to nodes with a pool's accelerator; empty if their label is not known."""
    name = f"pools.{pool.name}.accelerator"
    label = node_label(pool.accelerator)
    account.express(name)
    if label is None:
        account.say(f"{name}: no node label is known for {pool.accelerator}; pods go to any node with such a resource.")
        return {}
    term = {"matchExpressions": [{"key": label[0], "operator": "In", "values": From(label[1], name)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def tell_of_size(pool: Pool, account: Account) -> None:
    """Note where a client is larger than the servers in which its accelerator is sold."""
    from simulator import catalog

    largest = catalog.accelerator(pool.accelerator).scale_up.devices
    if pool.accelerators_per_client > largest:
        account.say(
            f"pools.{pool.name}: one client has {pool.accelerators_per_client} accelerators, a server up to "
            f"{largest}: a pod cannot span servers; use a LeaderWorkerSet with the same arguments and --nnodes."
        )


def _metadata(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "labels": labels}


def _pool(pool: Pool, account: Account, names: ClusterNames) -> str:
    engine, at = engine_of(pool), f"pools.{pool.name}"
    command = engine_command(pool, account, engine)
    account.express(f"{at}.clients")
    tell_of_size(pool, account)
    version = flag_list(engine).version
    image = f"{IMAGES[engine]}{version}"
    if vendor_of(pool.accelerator) != "NVIDIA":
        account.say(f"{at}.accelerator: {image} is built for NVIDIA; take the engine's image for {pool.accelerator}.")
    name = names.pools[pool.name]
    labels = {"app": "llm", STAGE: names.stages[pool.stage], POOL: name, ROLE: pool.role}
    arguments: list[Any] = [From(word, *command_fields) for word, command_fields in _words(command)]
    environment: list[dict[str, Any]] = [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf-token", "key": "HF_TOKEN", "optional": True}}}
    ]
    environment += [{"name": key, "value": From(value, source)} for key, (value, source) in command.environment.items()]
    if engine == "vllm" and pool.role != "both":
        environment.append(
            {"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        )
    pods: dict[str, Any] = {"labels": labels}
    if engine == "sglang" and pool.role == "prefill":
        port = str(FIRST_SIDE_PORT["sglang"])
        arguments += ["--disaggregation-bootstrap-port", port]
        pods["annotations"] = {BOOTSTRAP: port}
    health = {"httpGet": {"path": "/health", "port": "http"}}
    container = {
        "name": "engine",
        "image": image,
        "command": [*command.program, *(From(word, f"{at}.model") for word in command.model)],
        "args": [*arguments, "--host", "0.0.0.0", "--port", str(PORT)],
        "env": environment,
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"limits": accelerator_limits(pool)},
        "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
        # Two hours to load weights, then a pod that does not answer for a minute is taken out, for five restarted.
        "startupProbe": {**health, "periodSeconds": 10, "failureThreshold": 720},
        "readinessProbe": {**health, "periodSeconds": 10, "failureThreshold": 6},
        "livenessProbe": {**health, "periodSeconds": 30, "failureThreshold": 10},
    }
    template: dict[str, Any] = {
        "containers": [container],
        "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}],
    }
    if affinity := affinity_of(pool, account):
        template["affinity"] = affinity
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(name, labels),
        "spec": {
            "replicas": From(pool.clients, f"{at}.clients"),
            "selector": {"matchLabels": {POOL: name}},
            "template": {"metadata": pods, "spec": template},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name, labels),
        "spec": {"selector": {POOL: name}, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]},
    }
    head = (
        f"Pool {pool.name}: {pool.clients} x {pool.model} on {pool.accelerators_per_client} x {pool.accelerator}, for "
        f"{engine_name(engine)}.",
        "Behind a value: the field of the design that it comes from.",
    )
    return dump(deployment, head) + "---\n" + dump(service)


def _words(command: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Return the words of arguments; the fields stand behind the flag."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for each in command.arguments:
        found.append((each.flag, each.fields))
        found += [(value, ()) for value in each.values]
    return found


def _router(name: str, stage: str, pools: list[Pool], account: Account) -> str:
    engine = engine_of_stage(pools)
    command = router_command(pools, account, engine=engine, clients={})
    for pool in served_pools(pools):
        if engine_of(pool) != engine:
            account.say(
                f"pools.{pool.name}.engine: {engine_name(engine_of(pool))} behind {router_version(engine)}, which is "
                "made for the other engine: give this pool a router of its own."
            )
    found: list[str] = ["--service-discovery", "--service-discovery-port", str(PORT)]
    if any(pool.role != "both" for pool in pools):
        found += ["--prefill-selector", f"{STAGE}={stage}", f"{ROLE}=prefill"]
        found += ["--decode-selector", f"{STAGE}={stage}", f"{ROLE}=decode"]
    else:
        found += ["--selector", f"{STAGE}={stage}"]
    words: list[Any] = [From(word, *fields) for word, fields in _words(command)]
    labels = {"app": name}
    install = f'pip install --no-cache-dir {router_version(engine)} && exec {" ".join(command.program)} "$@"'
    found += ["--service-discovery-namespace", "$(POD_NAMESPACE)", "--host", "0.0.0.0", "--port", str(PORT)]
    container = {
        "name": "router",
        "image": "python:3.12-slim",
        "command": ["sh", "-c", install, "router"],
        "args": [*words, *found],
        "env": [{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 10},
    }
    template = {"serviceAccountName": name, "containers": [container]}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    parts: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(name, labels)},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": _metadata(name, labels),
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": _metadata(name, labels),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name}],
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _metadata(name, labels),
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": template},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(name, labels),
            "spec": {"selector": labels, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]},
        },
    ]
    names = ", ".join(pool.name for pool in served_pools(pools))
    head = f"The router before {names}: {router_version(engine)} finds their pods by label."
    return "---\n".join(dump(part, [head] if number == 0 else ()) for number, part in enumerate(parts))
