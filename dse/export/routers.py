"""Routing rules of a design as policies of routers that exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dse.export.command import Command
from dse.export.exported import Account
from dse.export.parsers import flag_list
from simulator import Pool

POLICIES: Final[Mapping[str, Mapping[str, str]]] = {
    "vllm-router": {
        "round_robin": "round_robin",
        "random": "random",
        "power_of_two": "power_of_two",
        "prefix_affinity": "cache_aware",
        "session_affinity": "consistent_hash",
    },
    "sglang-router": {
        "round_robin": "round_robin",
        "random": "random",
        "power_of_two": "power_of_two",
        "prefix_affinity": "cache_aware",
    },
    "dynamo.frontend": {
        "round_robin": "round-robin",
        "random": "random",
        "power_of_two": "power-of-two",
        "join_shortest_queue": "least-loaded",
        "prefix_affinity": "kv",
    },
}
"""Policies by router and rule of the design."""

NEAREST: Final[Mapping[str, str]] = {
    "vllm-router": "power_of_two",
    "sglang-router": "power_of_two",
    "dynamo.frontend": "least-loaded",
}
"""What stands for a rule that a router does not have: a client with few requests."""


def policy_of(rule: str, router: str, account: Account, name: str) -> str:
    """Return the policy of a router for a rule of the design, and note where it is another.

    Parameters
    ----------
    rule
        A rule of the design, e.g. ``join_shortest_queue``.
    router
        A key of :data:`POLICIES`.
    account
        Where is said what becomes of the field.
    name
        The field, ``router`` or ``handover_router``.
    """
    account.express(name)
    found = POLICIES[router].get(rule)
    if found is None:
        account.say(f"{name}: {router} has no {rule}; {NEAREST[router]} stands in its place.")
        return NEAREST[router]
    if rule == "prefix_affinity":
        account.say(
            f"{name}: {router}'s {found} weighs cached text against load in its own way; prefix_weight is not passed "
            "on.",
            "prefix_weight",
        )
    return found


def needs_router(pools: list[Pool]) -> bool:
    """Return whether pools are more than one client."""
    return len(pools) > 1 or pools[0].clients > 1


def served_pools(pools: list[Pool]) -> list[Pool]:
    """Return the pools of a stage that one router sends to: prefill and decode pools if there are any, else all."""
    return [pool for pool in pools if pool.role != "both"] or pools


def router_command(
    pools: list[Pool], account: Account, *, engine: str, clients: Mapping[str, list[list[str]]]
) -> Command:
    """Return the command of the router before the pools of a stage.

    Parameters
    ----------
    pools
        Pools of one LLM stage.
    account
        Where is said what becomes of fields.
    engine
        ``vllm`` or ``sglang``.
    clients
        By the name of each pool, what its clients are told to the router by: an address, and behind it for prefill
        clients of SGLang the port where their KV is asked for. Empty if pods are to be discovered.
    """
    router = f"{engine}-router"
    program = ("vllm-router",) if engine == "vllm" else ("python", "-m", "sglang_router.launch_router")
    command = Command(account, program)
    deployment = account.deployment
    policy = policy_of(deployment.router, router, account, "router")
    split = any(pool.role != "both" for pool in pools)
    if not split:
        command.add("--policy", policy, "router")
        if clients:
            each = [word for pool in pools for words in clients[pool.name] for word in words]
            command.add("--worker-urls", each, *(f"pools.{pool.name}.clients" for pool in pools))
        return command
    command.add("--vllm-pd-disaggregation" if engine == "vllm" else "--pd-disaggregation", None)
    command.add("--prefill-policy", policy, "router")
    decoding = policy_of(deployment.handover_router, router, account, "handover_router")
    command.add("--decode-policy", decoding, "handover_router")
    for pool in pools:
        if pool.role == "both":
            account.say(
                f"pools.{pool.name}: serves both roles beside split pools; {router} cannot mix them and sends nothing "
                "to it."
            )
    for pool in served_pools(pools):
        for words in clients.get(pool.name, ()):
            command.add(f"--{pool.role}", words, f"pools.{pool.name}.clients")
    return command


def router_version(engine: str) -> str:
    """Return the package of a router with its version."""
    found = flag_list(f"{engine}-router")
    return f"{found.package}=={found.version}"
