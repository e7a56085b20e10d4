"""The pool that ``python -m sglang.launch_server`` with some arguments is."""

from __future__ import annotations

from typing import Any, Final

from dse.export.parsers import flag_list
from dse.imports.arguments import Arguments
from dse.imports.models import model_of, precision_of
from dse.imports.settings import Settings

READ: Final = frozenset(
    {
        "--tp-size",
        "--pp-size",
        "--attn-dp-size",
        "--ep-size",
        "--dtype",
        "--quantization",
        "--kv-cache-dtype",
        "--max-running-requests",
        "--chunked-prefill-size",
        "--enable-mixed-chunk",
        "--max-prefill-tokens",
        "--schedule-policy",
        "--enable-priority-scheduling",
        "--schedule-low-priority-values-first",
        "--disable-overlap-schedule",
        "--mem-fraction-static",
        "--page-size",
        "--max-total-tokens",
        "--disable-radix-cache",
        "--enable-hierarchical-cache",
        "--hicache-size",
        "--hicache-write-policy",
        "--speculative-algorithm",
        "--speculative-draft-model-path",
        "--speculative-num-steps",
        "--speculative-num-draft-tokens",
        "--speculative-eagle-topk",
        "--enable-lora",
        "--max-lora-rank",
        "--max-loras-per-batch",
        "--disaggregation-mode",
        "--disaggregation-transfer-backend",
    }
)
"""Flags that say something about a pool."""

DEFAULT_CHUNK: Final = 8192
DEFAULT_PREFILL: Final = 16384
"""``--chunked-prefill-size`` on servers with much memory, and ``--max-prefill-tokens``, where nothing is said."""


def pool_of_sglang(arguments: Arguments, settings: Settings) -> dict[str, Any]:
    """Return the pool of a command, as plain data; arguments as of :func:`~dse.imports.vllm.pool_of_vllm`."""
    settings.refuse_variables(arguments, READ)
    given, say = arguments.values, settings.say
    dp = given.get("--attn-dp-size", 1)
    all_ranks = given.get("--tp-size", 1)
    if all_ranks % dp:
        say(f"--attn-dp-size {dp} does not divide --tp-size {all_ranks}; taken as 1.")
        dp = 1
    pool: dict[str, Any] = {
        "model": settings.model or model_of(arguments.model),
        "accelerator": settings.accelerator,
        "tp": all_ranks // dp,
        "pp": given.get("--pp-size", 1),
        "dp": dp,
        "engine": "sglang-0.5",
        "weights": settings.weights
        or precision_of(str(given.get("--quantization") or ""))
        or precision_of(arguments.model)
        or "bf16",
        "kv": "fp8" if str(given.get("--kv-cache-dtype", "auto")).startswith("fp8") else "bf16",
        "batching": _batching(given, settings),
    }
    if given.get("--ep-size", 1) > 1:
        pool["ep"] = given["--ep-size"]
    if "SGLANG_PP_LAYER_PARTITION" in arguments.environment:
        pool["layers_per_stage"] = settings.layers(arguments.environment["SGLANG_PP_LAYER_PARTITION"])
    memory: dict[str, Any] = {"block_tokens": given.get("--page-size", 1)}
    if "--mem-fraction-static" in given:
        memory["memory_utilization"] = given["--mem-fraction-static"]
        say("--mem-fraction-static: of weights and KV; taken as the share of memory that the engine may use.")
    if "--max-total-tokens" in given:
        # Every data-parallel rank has a pool of its own of this size.
        memory["blocks"] = max(given["--max-total-tokens"] // memory["block_tokens"], 1) * dp
    pool["kv_memory"] = memory
    mode = given.get("--disaggregation-mode")
    if mode in ("prefill", "decode"):
        pool["role"] = mode
    _speculation(given, pool, settings)
    off = given.get("--disable-radix-cache", False)
    settings.prefix_cache(pool, not off, said=off, engine="SGLang")
    if given.get("--enable-hierarchical-cache"):
        if given.get("--hicache-size"):
            # Every rank keeps that much, also those of pipeline stages.
            settings.tier(float(given["--hicache-size"] * all_ranks * pool["pp"]))
        else:
            say("--enable-hierarchical-cache: without --hicache-size its size is not known; add it under tiers.")
        if pool.get("prefix_cache") is not None and given.get("--hicache-write-policy") == "write_back":
            pool["prefix_cache"]["write"] = "back"
    if given.get("--enable-lora"):
        pool["adapters"] = {
            "rank": given.get("--max-lora-rank", 16),
            "slots": given.get("--max-loras-per-batch", 8),
        }
    settings.left_out(arguments, READ, f"SGLang {flag_list('sglang').version}")
    return pool


def _batching(given: dict[str, Any], settings: Settings) -> dict[str, Any]:
    chunk = given.get("--chunked-prefill-size", DEFAULT_CHUNK)
    mixed = bool(given.get("--enable-mixed-chunk"))
    found: dict[str, Any] = {}
    if chunk > 0 and mixed:
        found |= {"policy": "chunked", "token_budget_tokens": chunk}
    else:
        found |= {"policy": "continuous", "token_budget_tokens": given.get("--max-prefill-tokens", DEFAULT_PREFILL)}
        if chunk > 0:
            found["token_budget_tokens"] = chunk
            settings.say(
                f"--chunked-prefill-size {chunk} without --enable-mixed-chunk: chunks stand in steps of their own; "
                "simulated as continuous batching."
            )
    if "--max-running-requests" in given:
        found["max_batch_requests"] = given["--max-running-requests"]
    else:
        settings.say("--max-running-requests: not given; SGLang derives it from memory, 256 are simulated.")
        found["max_batch_requests"] = 256
    if found["policy"] == "chunked":
        found["max_batch_requests"] = min(found["max_batch_requests"], found["token_budget_tokens"])
    if given.get("--enable-priority-scheduling"):
        found["order"] = "priority"
    elif given.get("--schedule-policy", "fcfs") != "fcfs":
        settings.say(f"--schedule-policy {given['--schedule-policy']}: simulated as fcfs.")
    found["schedule_ahead"] = not given.get("--disable-overlap-schedule", False)
    return found


def _speculation(given: dict[str, Any], pool: dict[str, Any], settings: Settings) -> None:
    algorithm = given.get("--speculative-algorithm")
    if not algorithm:
        return
    tokens = given.get("--speculative-num-draft-tokens", 2) - 1
    draft: dict[str, Any] = {"draft_tokens": max(tokens, 1)}
    if algorithm == "STANDALONE":
        draft["draft_model"] = model_of(str(given.get("--speculative-draft-model-path", "")))
    elif algorithm != "NGRAM":
        settings.say(f"--speculative-algorithm {algorithm} is simulated as a draft that costs nothing.")
    pool["speculation"] = {**draft, "acceptance": settings.accepted("--speculative-algorithm")}
