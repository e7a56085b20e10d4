"""Ray Serve LLM: a Serve config file for each LLM stage."""

from __future__ import annotations

from typing import Any, Final

from dse.export.cluster_names import ClusterNames, cluster_names
from dse.export.commented_yaml import From, dump
from dse.export.exported import Account
from dse.export.names import ray_name
from dse.export.scripts import stages_of
from dse.export.vllm import vllm_command
from simulator import Pool

VERSION: Final = "2.60.0"
PREFIX_ROUTER: Final = "ray.serve.llm.request_router.PrefixCacheAffinityRouter"


def export_ray_serve(account: Account) -> dict[str, str]:
    """Return one Serve config for each LLM stage, to be started by ``serve run FILE``."""
    files = {}
    names = cluster_names(account.deployment)
    for stage, pools in stages_of(account).items():
        files[f"ray-serve-{names.stages[stage]}.yaml"] = _config(stage, pools, account, names)
    rule = account.deployment.router
    if rule == "power_of_two":
        account.express("router")
    elif rule == "prefix_affinity":
        account.express("router")
        account.say("prefix_weight: Ray's prefix router weighs cached text in its own way.", "prefix_weight")
    else:
        account.say(f"router: Ray Serve picks the emptier of two replicas (power_of_two), not {rule}.", "router")
    if any(pool.role != "both" for pool in account.deployment.pools):
        account.say("handover_router: Ray Serve picks the emptier of two prefill replicas.", "handover_router")
    return files


def _config(stage: str, pools: list[Pool], account: Account, names: ClusterNames) -> str:
    if all(pool.role == "both" for pool in pools):
        name = "build_dp_openai_app" if any(pool.dp > 1 for pool in pools) else "build_openai_app"
        configs = [_llm(pool, account, f"-{names.pools[pool.name]}" if len(pools) > 1 else "") for pool in pools]
        if name == "build_dp_openai_app":
            arguments: dict[str, Any] = {"llm_config": configs[0]}
            for pool in pools[1:]:
                account.say(f"pools.{pool.name}: an application with data parallelism has one pool; start it beside.")
        else:
            arguments = {"llm_configs": configs}
        if len(pools) > 1:
            account.say(
                f"pools: Ray Serve takes a model once: {', '.join(pool.name for pool in pools)} have model ids of "
                "their own, and the sender picks; the design mixes them behind one router."
            )
    else:
        name, arguments = "build_pd_openai_app", {}
        for role in ("prefill", "decode"):
            of_role = [pool for pool in pools if pool.role == role]
            arguments[f"{role}_config"] = _llm(of_role[0], account)
            for pool in of_role[1:]:
                account.say(f"pools.{pool.name}: Ray Serve takes one {role} pool; left out.", f"pools.{pool.name}")
        for pool in pools:
            if pool.role == "both":
                account.say(
                    f"pools.{pool.name}: Ray Serve has no pool of both roles beside split ones; left out.",
                    f"pools.{pool.name}",
                )
    application = {
        "name": names.stages[stage],
        "route_prefix": "/",
        "import_path": f"ray.serve.llm:{name}",
        "args": arguments,
    }
    head = (f"Stage {stage} for Ray Serve {VERSION}: serve run FILE.", "Behind a value: the field of the design.")
    return dump({"applications": [application]}, head)


def _llm(pool: Pool, account: Account, ending: str = "") -> dict[str, Any]:
    at = f"pools.{pool.name}"
    command = vllm_command(pool, account)
    account.express(f"{at}.clients", f"{at}.accelerator")
    model = command.model[0]
    fields = {
        each.flag.removeprefix("--").removeprefix("no-").replace("-", "_"): each.fields for each in command.arguments
    }
    options: dict[str, Any] = {"num_replicas": From(pool.clients, f"{at}.clients")}
    if account.deployment.router == "prefix_affinity":
        options["request_router_config"] = {"request_router_class": From(PREFIX_ROUTER, "router")}
    config: dict[str, Any] = {
        "model_loading_config": {
            "model_id": f"{model}{ending}",
            "model_source": From(model, f"{at}.model"),
        },
        "deployment_config": options,
        "engine_kwargs": {name: From(value, *fields.get(name, ())) for name, value in command.keywords().items()},
    }
    if called := ray_name(pool.accelerator):
        config["accelerator_type"] = From(called, f"{at}.accelerator")
    else:
        account.say(f"{at}.accelerator: Ray has no name for {pool.accelerator}; replicas go to any accelerator.")
    if command.environment:
        variables = {name: From(value, source) for name, (value, source) in command.environment.items()}
        config["runtime_env"] = {"env_vars": variables}
    return config
