"""Random small workloads, and random deployments that serve them: every feature, often several at once.

Memory is scarce and arrivals come in bursts, so that queues form, requests are evicted and some can never be held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from simulator import Deployment, Overload, Result, SpecError, Workload, simulate
from simulator.spec.pipeline_plan import PipelinePlan
from simulator.workload import Requests, build_requests

ROUTERS = (
    "round_robin",
    "join_shortest_queue",
    "least_outstanding_tokens",
    "least_prompt_tokens",
    "least_output_tokens",
    "least_kv_tokens",
    "random",
    "power_of_two",
    "session_affinity",
    "prefix_affinity",
)
ORDERS = ("fcfs", "shortest_first", "least_work_left", "priority", "earliest_deadline")
ENGINES = ("vllm-0.15", "splitwise-2023", "vllm-0.19", "trtllm-0.14", "sglang-0.5")
# Model, accelerator, and what else they need to fit.
HARDWARE: tuple[dict[str, Any], ...] = (
    {"model": "llama-3.1-8b", "accelerator": "h100-sxm"},
    {"model": "llama-3.1-8b", "accelerator": "l40s"},
    {"model": "llama-3.1-8b", "accelerator": "a100-80gb", "tp": 2},
    {"model": "llama-3.1-8b", "accelerator": "b200", "weights": "fp8", "kv": "fp8"},
    {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "pp": 2},
    {"model": "llama-3.1-70b", "accelerator": "h100-sxm", "tp": 4},
    {"model": "llama-3.1-70b", "accelerator": "a100-80gb", "tp": 4, "pp": 2, "weights": "int8"},
    {"model": "llama-3.1-70b", "accelerator": "mi300x", "tp": 2},
    {"model": "llama-2-7b", "accelerator": "a100-80gb"},
    {"model": "gemma-3-12b", "accelerator": "h100-sxm"},
    {"model": "nemotron-h-8b", "accelerator": "h100-sxm"},
    {"model": "mamba2-2.7b", "accelerator": "h100-sxm"},
    {"model": "qwen3-30b-a3b", "accelerator": "h100-sxm", "tp": 2},
    {"model": "qwen3-30b-a3b", "accelerator": "h200-sxm", "dp": 2, "ep": 2},
    {"model": "gpt-oss-20b", "accelerator": "h100-sxm"},
    {"model": "deepseek-v3", "accelerator": "h200-sxm", "weights": "fp8", "kv": "fp8", "dp": 8, "ep": 8},
)
DEVICES = {"cpu": ("epyc-9654", "xeon-gold-6448y"), "any": ("l4", "h100-sxm", "epyc-9654")}
ON_CPU = ("tokenise", "detokenise", "filter", "retrieve", "route")

PIPELINES: tuple[list[Any], ...] = (
    [{"kind": "tokenise"}, "prefill", "decode", {"kind": "detokenise"}],
    [{"kind": "guard", "name": "in"}, "prefill", "decode", {"kind": "guard", "name": "out", "applies_to": "output"}],
    [{"kind": "embed"}, {"kind": "retrieve", "vectors": 10**7}, {"kind": "rerank"}, "prefill", "decode"],
    [{"kind": "filter"}, {"kind": "cascade", "stages": ["small", "large"], "fallback": [0.4]}],
    [
        {
            "kind": "cascade",
            "stages": ["small", "large"],
            "fallback": [0.5],
            "judge": {"kind": "guard", "name": "judge", "applies_to": "output"},
        },
        {"kind": "detokenise"},
    ],
    [{"kind": "route", "by": "prompt_tokens", "to": {"small": 0, "large": 600}}, {"kind": "detokenise"}],
    [{"kind": "route", "by": "chance", "to": {"small": 0.6, "large": 0.4}, "model": "llama-3.2-1b"}],
    [{"kind": "reason", "branches": 4, "join": "majority", "factor": 2, "sigma": 0.5, "summary_tokens": 40}],
    [{"kind": "tokenise"}, {"kind": "reason", "branches": 3, "join": "first"}, {"kind": "detokenise"}],
    [{"kind": "reason", "factor": 3}],
    [{"kind": "encode", "fold": 4}, "prefill", "decode"],
)


PER_WORKLOAD = 20
"""Deployments that are tried for each workload."""


@dataclass(frozen=True)
class Pair:
    """A deployment and what it serves, with the outcome."""

    deployment: Deployment
    requests: Requests
    plan: PipelinePlan
    result: Result


class Draw:
    """Draws from a seeded generator."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def one_of(self, *values: Any) -> Any:
        return values[int(self.random.integers(len(values)))]

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def between(self, least: int, most: int) -> int:
        return int(self.random.integers(least, most + 1))

    def log_between(self, least: float, most: float) -> float:
        return float(np.exp(self.random.uniform(np.log(least), np.log(most))))


def random_workload(seed: int) -> tuple[Requests, PipelinePlan]:
    """Return a random workload; the same for the same seed."""
    draw = Draw(seed)
    data: dict[str, Any] = {
        "requests": draw.one_of(1, 12, 40, 80),
        "seed": seed,
        "arrivals": draw.one_of(
            {"process": "poisson", "rate_rps": draw.log_between(0.2, 300)},
            {"process": "gamma", "rate_rps": draw.log_between(0.2, 300), "burstiness_cv": 4},
        ),
        "lengths": draw.one_of(
            {"statistics": "azure-2023-conversation", "max_prompt_tokens": 3000, "max_output_tokens": 400},
            {"statistics": "azure-2023-code"},
            {
                "prompt": {"distribution": "lognormal", "mean_tokens": draw.one_of(250, 700), "p99_tokens": 3000},
                "output": {"distribution": "geometric", "mean_tokens": draw.one_of(2, 20, 150)},
            },
        ),
    }
    if draw.chance(0.5):
        data["pipeline"] = pipeline = draw.one_of(*PIPELINES)
        if any(isinstance(stage, dict) and stage["kind"] == "encode" for stage in pipeline):
            data["media"] = {"images": {"distribution": "poisson", "mean": 1.5}}
    if draw.chance(0.35):
        data["session"] = {
            "turns": {"distribution": "geometric", "mean": 3},
            "wait_s": {"distribution": "exponential", "mean_s": draw.one_of(0.01, 2)},
            "prompt_tokens": draw.one_of(20, 200),
            "keep": draw.one_of("keep", "drop", "offload"),
            "max_context_tokens": 6000,
        }
        data["requests"] = min(data["requests"], 20)
    if draw.chance(0.4):
        data["prefix"] = {
            "system_prompts": draw.one_of(1, 3),
            "tokens": draw.one_of(100, {"distribution": "uniform", "low_tokens": 100, "high_tokens": 1500}),
        }
        data["chunk_tokens"] = draw.one_of(16, 64, 256)
    if draw.chance(0.2):
        data["adapters"] = {"count": 5}
    if draw.chance(0.2):
        data["deadline_s"] = 5.0
    if draw.chance(0.2) and "pipeline" not in data:
        data["classes"] = [
            {"name": "one", "share": 2, "priority": 1},
            {"name": "two", "share": 1, "pipeline": [{"kind": "tokenise"}, {"kind": "llm", "name": "other"}]},
        ]
    workload = Workload.parse(data)
    return build_requests(workload), workload.plan


@dataclass(frozen=True)
class Hardware:
    """What the deployments of a workload are made of: computing what other hardware costs takes most of the time.

    Attributes
    ----------
    accelerators, engines
        For each LLM stage some hardware for one model, and engines.
    devices
        For each service stage the device that it runs on.
    """

    accelerators: dict[str, tuple[dict[str, Any], ...]]
    engines: tuple[str, ...]
    devices: dict[str, str]


def random_hardware(draw: Draw, plan: PipelinePlan) -> Hardware:
    """Return random hardware for a plan."""
    accelerators = {}
    for stage in plan.llm_stages:
        first = draw.one_of(*HARDWARE)
        alike = [each for each in HARDWARE if each["model"] == first["model"]]
        accelerators[stage] = (first, draw.one_of(*alike))
    devices = {}
    for each in plan.services:
        on_cpu = each.kind in ON_CPU and not getattr(each, "model", None)
        devices[each.name] = draw.one_of(*DEVICES["cpu" if on_cpu else "any"])
    return Hardware(accelerators, (draw.one_of(*ENGINES), "vllm-0.15"), devices)


def random_pool(
    draw: Draw,
    hardware: dict[str, Any],
    engine: str,
    longest_tokens: int,
    *,
    adapters: bool,
    cached: bool,
    static: bool,
) -> dict[str, Any]:
    """Return a random pool as plain data, without name, stage and role."""
    policy = draw.one_of("chunked", "continuous", "chunked", "continuous", *(["static"] if static else []))
    batch = draw.one_of(1, 2, 3, 8, 32, 256)
    memory: dict[str, Any] = {"block_tokens": draw.one_of(1, 8, 16, 16)}
    if draw.chance(0.7):
        # From too little for the longest request to plenty.
        memory["blocks"] = 1 + int(longest_tokens * draw.log_between(0.85, 8)) // memory["block_tokens"]
    if draw.chance(0.2):
        memory["swap_gb"] = draw.one_of(0.05, 4)
    if draw.chance(0.2):
        memory["watermark"] = 0.1
    pool = hardware | {
        "clients": draw.one_of(1, 1, 2, 3),
        "engine": engine,
        "batching": {
            "policy": policy,
            "max_batch_requests": batch,
            "token_budget_tokens": max(batch, draw.one_of(8, 64, 300, 512, 2048, 8192)),
            "order": draw.one_of("fcfs", *ORDERS),
            "schedule_ahead": policy != "static" and draw.chance(0.3),
        },
        "kv_memory": memory,
    }
    if adapters:
        pool["adapters"] = {"rank": 16, "slots": draw.one_of(1, 3, 8)}
    if cached and policy != "static":
        pool["prefix_cache"] = {
            "fetch": draw.one_of("if_faster", "always"),
            "write": draw.one_of("through", "back", "none"),
            "eviction_share": draw.one_of(0.0, 0.02, 0.3),
        }
    elif policy != "static" and draw.chance(0.2) and hardware["model"].startswith("llama-3.1"):
        pool["speculation"] = draw.one_of(
            {"draft_tokens": draw.between(1, 5), "acceptance": draw.one_of(0.0, 0.4, 0.9, 1.0)},
            {"draft_model": "llama-3.2-1b", "draft_tokens": 3, "acceptance": [0.9, 0.7, 0.5]},
        )
    if draw.chance(0.15):
        pool["step_noise_cv"] = draw.one_of(0.02, 0.3, 1.0)
    if draw.chance(0.1):
        pool["lookup"] = {"us_per_step": 300, "us_per_sequence": 50, "every_tokens": 8}
    if draw.chance(0.15):
        pool |= draw.one_of({"max_prompt_tokens": 700}, {"min_prompt_tokens": 200}, {"min_prompt_tokens": 2})
    return pool


def random_deployment(draw: Draw, requests: Requests, plan: PipelinePlan, hardware: Hardware) -> dict[str, Any]:
    """Return a random deployment for a workload as plain data; not every one is possible."""
    shares = requests.prefixes is not None
    expected = shares and draw.chance(0.2)
    longest = int((requests.prompt_tokens + requests.output_tokens).max()) + max(plan.added_prompt_tokens)
    pools = []
    for stage in plan.llm_stages:
        roles = draw.one_of(
            ["both"],
            ["both"],
            ["both", "both"],
            ["prefill", "decode"],
            ["prefill", "decode", "both"],
            ["prefill", "prefill", "decode", "decode"],
        )
        groups = draw.one_of(1, 2)
        for number, role in enumerate(roles):
            pool = random_pool(
                draw,
                draw.one_of(*hardware.accelerators[stage]),
                draw.one_of(*hardware.engines),
                longest,
                adapters=requests.adapter is not None,
                cached=role != "decode" and shares and draw.chance(0.7),
                static=not expected,
            )
            if role != "both" and groups == 2:
                pool |= {"clients": draw.one_of(2, 4), "groups": 2}
            pools.append(pool | {"name": f"{stage} {number}", "stage": stage, "role": role})
    data: dict[str, Any] = {
        "pools": pools,
        "router": draw.one_of(*ROUTERS),
        "handover_router": draw.one_of(*ROUTERS),
        "seed": draw.between(0, 2**32 - 1),
        "link": {"shared": draw.chance(0.3), "layer_wise": draw.chance(0.3)},
    }
    if draw.chance(0.4):
        data["link"] |= {"gb_per_s": draw.log_between(0.5, 400), "latency_us": draw.one_of(0, 10, 5000)}
    if any(pool["role"] != "both" for pool in pools):
        if draw.chance(0.4):
            data["handover_scope"] = "local"
        if draw.chance(0.4):
            limits = (None, 0, 300, 3000)
            data["lending"] = {
                "prefill_above_tokens": draw.one_of(*limits),
                "decode_above_tokens": draw.one_of(*limits),
            }
    if any("prefix_cache" in pool for pool in pools) and (expected or draw.chance(0.5)):
        data["tiers"] = [
            {"name": "near", "clients": 1, "memory_gb": draw.log_between(0.01, 20), "gb_per_s": draw.one_of(1, 50)},
            {"name": "far", "memory_gb": 100, "gb_per_s": 2, "latency_us": 200},
        ]
        for tier in data["tiers"]:
            tier["spills"] = draw.chance(0.5)
            if expected:
                tier["hit_rate"] = draw.one_of(0.0, 0.5, 1.0)
    data["services"] = [
        {
            "stage": stage.name,
            "device": hardware.devices[stage.name],
            "clients": draw.one_of(1, 2),
            "max_batch_requests": draw.one_of(1, 4, 32),
            "max_wait_ms": draw.one_of(0, 0, 5),
            "hop_us": draw.one_of(0, 50, 2000),
        }
        for stage in plan.services
        for _ in range(draw.one_of(1, 1, 2))
    ]
    return data


def random_pairs(seed: int, per_workload: int = PER_WORKLOAD) -> Iterator[Pair]:
    """Yield pairs of a random workload and random deployments that can serve it, each simulated."""
    while True:
        requests, plan = random_workload(seed)
        draw = Draw(seed + 2**40)
        hardware = random_hardware(draw, plan)
        for _ in range(per_workload):
            try:
                deployment = Deployment.parse(random_deployment(draw, requests, plan, hardware))
                yield Pair(deployment, requests, plan, simulate(deployment, requests, plan=plan))
            except (SpecError, ValidationError, Overload):
                # What was drawn does not fit together, or not into memory.
                continue
        seed += 1
