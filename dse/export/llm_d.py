"""Values for the Helm chart llm-d-modelservice, which runs vLLM with prefill and decode pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dse.export.cluster_names import cluster_names
from dse.export.commented_yaml import From, dump
from dse.export.exported import Account
from dse.export.kubernetes import accelerator_limits, tell_of_size
from dse.export.names import PLACEHOLDER, llm_d_type, node_label
from dse.export.parsers import flag_list
from dse.export.safe_names import dns_names
from dse.export.scripts import stages_of
from dse.export.vllm import vllm_command
from simulator import Pool

CHART: Final = "llm-d-modelservice v0.4.0"
#: The chart writes these itself, from ``parallelism``.
CHART_FLAGS: Final = ("--tensor-parallel-size", "--data-parallel-size")
SCORERS: Final = {
    "join_shortest_queue": "queue-scorer",
    "least_kv_tokens": "kv-cache-utilization-scorer",
    "prefix_affinity": "prefix-cache-scorer",
    "random": "random-picker",
}


def export_llm_d(account: Account) -> dict[str, str]:
    """Return a file of values for each pair of prefill and decode pools, and for each pool that does both."""
    files = {}
    names = cluster_names(account.deployment).pools
    models = dns_names(dict.fromkeys(pool.model for pool in account.deployment.pools))
    for pools in stages_of(account).values():
        prefills = [pool for pool in pools if pool.role == "prefill"]
        decodes = [pool for pool in pools if pool.role == "decode"]
        releases: list[tuple[Pool | None, Pool]] = [(None, pool) for pool in pools if pool.role == "both"]
        releases += [
            (prefills[number] if number < len(prefills) else None, decode) for number, decode in enumerate(decodes)
        ]
        for alone in prefills[len(decodes) :]:
            account.say(f"pools.{alone.name}: one release has one prefill pool; install it by a release of its own.")
            files[f"values-{names[alone.name]}.yaml"] = _values(alone, None, account, models)
        for prefill, decode in releases:
            files[f"values-{names[decode.name]}.yaml"] = _values(prefill, decode, account, models)
    split = any(pool.role != "both" for pool in account.deployment.pools)
    for name in ("router", "handover_router") if split else ("router",):
        rule = getattr(account.deployment, name)
        scorer = f": {SCORERS[rule]}" if rule in SCORERS else ", which has no such plugin"
        account.say(
            f"{name}: {rule} is settled by the endpoint picker that is installed with the InferencePool{scorer}.", name
        )
    if account.deployment.router == "prefix_affinity":
        account.say("prefix_weight is settled by the endpoint picker.", "prefix_weight")
    return files


def _values(prefill: Pool | None, decode: Pool | None, account: Account, labels: Mapping[str, str]) -> str:
    main = decode or prefill
    assert main is not None
    split = main.role != "both"
    model = "MODEL"
    parts: dict[str, Any] = {}
    for role, pool in (("decode", decode), ("prefill", prefill)):
        if pool is None:
            parts[role] = {"create": False}
        else:
            parts[role], model = _part(pool, account)
    at = f"pools.{main.name}"
    proxy = {"enabled": From(split, f"{at}.role"), "targetPort": 8200} | ({"connector": "nixlv2"} if split else {})
    values = {
        "modelArtifacts": {
            "name": From(model, f"{at}.model"),
            "uri": From(f"hf://{model}", f"{at}.model"),
            "labels": {"llm-d.ai/inferenceServing": "true", "llm-d.ai/model": labels[main.model]},
        },
        "accelerator": {"type": From(llm_d_type(main.accelerator), f"{at}.accelerator")},
        "routing": {"servicePort": 8000, "proxy": proxy},
        **parts,
    }
    if prefill and decode and llm_d_type(prefill.accelerator) != llm_d_type(decode.accelerator):
        account.say(
            "pools: prefill and decode on accelerators of different vendors: the chart takes one kind a release."
        )
    pools = " and ".join(f"pools.{pool.name}" for pool in (prefill, decode) if pool)
    if model == PLACEHOLDER:
        account.say(f"{at}.model: the chart downloads hf://{PLACEHOLDER}; pvc://… takes weights from a volume.")
    head = f"Values of {CHART} for {pools}."
    return dump(values, (head, "Behind a value: the field of the design that it comes from."))


def _part(pool: Pool, account: Account) -> tuple[dict[str, Any], str]:
    """Return the chart's values of a role, and the model."""
    at = f"pools.{pool.name}"
    command = vllm_command(pool, account)
    tell_of_size(pool, account)
    account.express(f"{at}.clients", f"{at}.accelerator")
    if pool.dp > 1 and "--data-parallel-size" not in command.words():
        account.express(f"{at}.dp")
    words: list[Any] = []
    for each in command.arguments:
        if each.flag not in CHART_FLAGS:
            words += [From(each.flag, *each.fields), *each.values]
    container: dict[str, Any] = {
        "name": "vllm",
        "image": f"vllm/vllm-openai:v{flag_list('vllm').version}",
        "modelCommand": "vllmServe",
        "args": words,
        "mountModelVolume": True,
        "resources": {"limits": accelerator_limits(pool)},
    }
    if command.environment:
        container["env"] = [
            {"name": name, "value": From(value, source)} for name, (value, source) in command.environment.items()
        ]
    part: dict[str, Any] = {
        "create": True,
        "replicas": From(pool.clients, f"{at}.clients"),
        "parallelism": {"tensor": From(pool.tp, f"{at}.tp"), "data": From(pool.dp, f"{at}.dp")},
        "containers": [container],
    }
    label = node_label(pool.accelerator)
    if label:
        part["acceleratorTypes"] = {"labelKey": label[0], "labelValues": From(label[1], f"{at}.accelerator")}
    else:
        account.say(f"{at}.accelerator: no node label is known for {pool.accelerator}.")
    return part, command.model[0]
