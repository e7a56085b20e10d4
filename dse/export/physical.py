"""Fields that describe hardware, text or the simulation, which no engine is told."""

from __future__ import annotations

from collections.abc import Collection

from dse.export.exported import Account
from simulator import Pool
from simulator.spec.engine_profile import EngineProfile
from simulator.spec.kv_cache import Tier


def tell_of_pool(pool: Pool, account: Account, engine: str) -> None:
    """Account for the fields of a pool that are no settings of any engine.

    Parameters
    ----------
    pool
        A pool.
    account
        Where it is said.
    engine
        Name and version of the engine that is exported to.
    """
    at = f"pools.{pool.name}"
    profile = pool.engine.name if isinstance(pool.engine, EngineProfile) else pool.engine
    account.say(
        f"{at}.engine: predicted with the overheads of {profile}, exported for {engine}; validate on the real thing "
        "(docs/export.md).",
        f"{at}.engine",
    )
    account.express(f"{at}.name")
    told = {
        "kernels": "is a measurement of kernels",
        "topology": "describes links that the machines have",
        "expert_skew": "is a property of the text",
        "step_noise_cv": "belongs to the simulation",
    }
    for name, what in told.items():
        if getattr(pool, name) != type(pool).model_fields[name].default:
            account.say(f"{at}.{name} {what}: nothing sets it.", f"{at}.{name}")
    if pool.speculation:
        account.say(
            f"{at}.speculation.acceptance is what draft and text give; compare it with the engine's metrics.",
            f"{at}.speculation.acceptance",
        )
    if pool.adapters and (given := sorted(pool.adapters.model_fields_set & {"memory", "gb_per_s", "latency_us"})):
        at_adapters = f"{at}.adapters"
        account.say(
            f"{at_adapters}: {', '.join(given)} say where adapters without a slot lie and how fast they are read; "
            f"{engine} keeps them in the host's memory.",
            *(f"{at_adapters}.{name}" for name in given),
        )
    if pool.lookup:
        account.say(f"{at}.lookup: {engine} searches no datastore while it decodes; it is left out.", f"{at}.lookup")
    if pool.min_prompt_tokens > 1 or pool.max_prompt_tokens is not None:
        account.say(
            f"{at}.min_prompt_tokens, max_prompt_tokens: takes prompts of {pool.min_prompt_tokens} to "
            f"{pool.max_prompt_tokens or 'any'} tokens in the design; the router written here does not look at "
            "lengths: split the traffic before it.",
            f"{at}.min_prompt_tokens",
            f"{at}.max_prompt_tokens",
        )
    if pool.mixed:
        account.say(
            f"{at}.stage_accelerators: a client spans {', '.join(pool.stage_accelerators or ())}; which stage lies "
            "where is settled by the order of devices, not by an argument.",
            f"{at}.stage_accelerators",
        )
    elif pool.stage_accelerators is not None:
        account.express(f"{at}.stage_accelerators")
    if pool.groups > 1:
        account.say(
            f"{at}.groups: {pool.groups} groups of neighbours; start each group behind a router of its own, or "
            "hand-overs cross them.",
            f"{at}.groups",
        )


def tell_of_prefix_cache(pool: Pool, account: Account, engine: str, writes: Collection[str]) -> None:
    """Account for how a pool's prefix cache fetches, writes and evicts.

    Parameters
    ----------
    pool
        A pool with a prefix cache.
    account
        Where it is said.
    engine
        Name of the engine.
    writes
        Ways in which the engine writes to the tiers behind it.
    """
    at, cache = f"pools.{pool.name}.prefix_cache", pool.prefix_cache
    assert cache is not None
    tiers = account.deployment.tiers
    if tiers and cache.fetch != "always":
        account.say(
            f"{at}.fetch: {engine} fetches whatever a tier holds, also where computing it again takes less time.",
            f"{at}.fetch",
        )
    if tiers and cache.write not in writes:
        account.say(
            f"{at}.write: {engine} writes to its tiers when KV is computed (through), not {cache.write}.", f"{at}.write"
        )
    # Without tiers there is nothing to fetch and to write.
    account.express(f"{at}.fetch", f"{at}.write")
    if cache.eviction_share != type(cache).model_fields["eviction_share"].default:
        account.say(f"{at}.eviction_share: {engine} frees blocks one by one, when needed.", f"{at}.eviction_share")


def tell_of_tier(tier: Tier, account: Account) -> None:
    """Account for the fields of a tier that is set up: its size is, its speed and price are what the memory has."""
    at = f"tiers.{tier.name}"
    account.express(*(f"{at}.{name}" for name in ("name", "kind", "clients", "private", "scope", "memory_gb")))
    given = sorted(tier.model_fields_set & {"gb_per_s", "latency_us", "usd_per_gb_hour", "hit_rate", "spills"})
    if given:
        account.say(
            f"{at}: {', '.join(given)} are what its memory has, or what texts give; nothing sets them.",
            *(f"{at}.{name}" for name in given),
        )


def tell_of_deployment(account: Account, target: str) -> None:
    """Account for what is around the pools: links, services, lending, rules of single stages."""
    deployment = account.deployment
    for service in deployment.services:
        account.say(
            f"services.{service.stage}: {service.clients} on {service.device}, outside of the LLM engine: deploy it "
            f"as it is today; {target} has no part for it.",
            f"services.{service.stage}",
        )
    if deployment.link.model_fields_set & {"gb_per_s", "latency_us", "shared"}:
        account.say(
            "link.gb_per_s, latency_us, shared: a promise about the network between prefill and decode; nothing sets "
            "it.",
            "link.gb_per_s",
            "link.latency_us",
            "link.shared",
        )
    if deployment.link.layer_wise:
        account.say(
            "link.layer_wise: whether KV leaves layer by layer is the connector's own choice; NIXL sends it when the "
            "prompt is done, so expect the TTFT of link.layer_wise false.",
            "link.layer_wise",
        )
    if deployment.handover_scope == "local":
        account.say(
            "handover_scope local: needs a router for each group; the one written here hands over to every decode "
            "client.",
            "handover_scope",
        )
    if deployment.lending:
        account.say(
            f"lending: {target} does not let prefill and decode clients do each other's work; it is left out, so "
            "expect less at bursts.",
            "lending",
        )
    for each in deployment.routers:
        account.say(
            f"routers.{each.stage}: {each.router} for this stage alone; give its router that rule.",
            f"routers.{each.stage}",
        )
