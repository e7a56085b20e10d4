"""The pool that ``vllm serve`` with some arguments is."""

from __future__ import annotations

from typing import Any, Final

from dse.export.parsers import flag_list
from dse.export.vllm import GIB, OFFLOADED_BYTES, OFFLOADING, PIPELINE_LAYERS, ROLES
from dse.imports.arguments import Arguments
from dse.imports.models import model_of, precision_of
from dse.imports.settings import Settings
from simulator import catalog

READ: Final = frozenset(
    {
        "--tensor-parallel-size",
        "--pipeline-parallel-size",
        "--data-parallel-size",
        "--enable-expert-parallel",
        "--dtype",
        "--quantization",
        "--kv-cache-dtype",
        "--max-num-seqs",
        "--max-num-batched-tokens",
        "--enable-chunked-prefill",
        "--scheduling-policy",
        "--async-scheduling",
        "--gpu-memory-utilization",
        "--block-size",
        "--num-gpu-blocks-override",
        "--watermark",
        "--enable-prefix-caching",
        "--kv-offloading-size",
        "--kv-offloading-backend",
        "--speculative-config",
        "--enable-lora",
        "--max-lora-rank",
        "--max-loras",
        "--kv-transfer-config",
    }
)
"""Flags that say something about a pool."""


def vllm_defaults(accelerator: str) -> tuple[int, int]:
    """Return ``max_num_seqs`` and ``max_num_batched_tokens`` of vLLM 0.33.0's server where nothing is said.

    By memory of the accelerator, from ``EngineArgs.get_batch_defaults``: 160 GiB and more, 70 GiB but no A100, less.
    """
    found = catalog.accelerator(accelerator)
    mib = found.memory_reported_mib or found.memory_gb * 1e9 / 2**20
    if mib >= 160 * 1024:
        return 1024, 16384
    return (1024, 8192) if mib >= 70 * 1024 and not accelerator.startswith("a100") else (256, 2048)


def pool_of_vllm(arguments: Arguments, settings: Settings) -> dict[str, Any]:
    """Return the pool of a command, as plain data.

    Parameters
    ----------
    arguments
        What vLLM was started with.
    settings
        What the command does not say, and where notes go.
    """
    settings.refuse_variables(arguments, READ)
    given, say = arguments.values, settings.say
    tp, dp = given.get("--tensor-parallel-size", 1), given.get("--data-parallel-size", 1)
    pool: dict[str, Any] = {
        "model": settings.model or model_of(arguments.model),
        "accelerator": settings.accelerator,
        "tp": tp,
        "pp": given.get("--pipeline-parallel-size", 1),
        "dp": dp,
        "weights": _weights(arguments, settings),
        "kv": _kv(given.get("--kv-cache-dtype", "auto"), settings),
        "batching": _batching(arguments, settings, dp),
    }
    if given.get("--enable-expert-parallel") and tp * dp > 1:
        pool["ep"] = tp * dp
    if PIPELINE_LAYERS in arguments.environment:
        pool["layers_per_stage"] = settings.layers(arguments.environment[PIPELINE_LAYERS])
    memory = {
        field: given[flag]
        for flag, field in (
            ("--gpu-memory-utilization", "memory_utilization"),
            ("--block-size", "block_tokens"),
            ("--watermark", "watermark"),
        )
        if flag in given
    }
    if "--num-gpu-blocks-override" in given:
        memory["blocks"] = given["--num-gpu-blocks-override"] * dp
    if memory:
        pool["kv_memory"] = memory
    missing = [flag for flag in ("--gpu-memory-utilization", "--block-size") if flag not in given]
    if missing:
        say(f"{', '.join(missing)}: not given; the simulated engine's defaults hold (dse list engines).")
    transfer = given.get("--kv-transfer-config") or {}
    role = {value: name for name, value in ROLES.items()}.get(transfer.get("kv_role", ""))
    if role:
        pool["role"] = role
    elif transfer and transfer.get("kv_connector") != OFFLOADING:
        say(f"--kv-transfer-config: {transfer.get('kv_connector')} as {transfer.get('kv_role')} is not simulated.")
    _speculation(given, pool, settings)
    caching = given.get("--enable-prefix-caching")
    settings.prefix_cache(pool, True if caching is None else caching, said=caching is not None, engine="vLLM")
    if "--kv-offloading-size" in given:
        # Of every data-parallel rank, for all its tensor-parallel and pipeline ranks together.
        settings.tier(given["--kv-offloading-size"] * dp * GIB / 1e9)
    elif offloaded := _offloaded_bytes(transfer):
        settings.tier(offloaded * dp / 1e9)
    if given.get("--enable-lora"):
        pool["adapters"] = {"rank": given.get("--max-lora-rank", 16), "slots": given.get("--max-loras", 1)}
    settings.left_out(arguments, READ, f"vLLM {flag_list('vllm').version}")
    return pool


def _offloaded_bytes(transfer: dict[str, Any]) -> float:
    """Return what the connectors of a client keep in the host's memory, of every data-parallel rank."""

    def more(connector: dict[str, Any]) -> dict[str, Any]:
        return connector.get("kv_connector_extra_config") or {}

    several = more(transfer).get("connectors", [transfer])
    kept: list[float] = [
        more(each).get(OFFLOADED_BYTES, 0) for each in several if each.get("kv_connector") == OFFLOADING
    ]
    return sum(kept)


def _weights(arguments: Arguments, settings: Settings) -> str:
    method = str(arguments.values.get("--quantization") or "")
    told = precision_of(method) or precision_of(arguments.model)
    if method and told is None:
        settings.say(f"--quantization {method}: taken for 16-bit weights; say --weights if that is wrong.")
    elif told and not method:
        settings.say(f"weights: {told}, as the name {arguments.model} says.")
    if arguments.values.get("--dtype") in ("float16", "half", "float32", "float"):
        settings.say(f"--dtype {arguments.values['--dtype']}: simulated as bfloat16.")
    return settings.weights or told or "bf16"


def _kv(dtype: str, settings: Settings) -> str:
    if dtype in ("auto", "bfloat16", "float16"):
        return "bf16"
    for precision in ("fp8", "int8"):
        if dtype.startswith(precision):
            return precision
    settings.say(f"--kv-cache-dtype {dtype}: simulated as fp8.")
    return "fp8"


def _batching(arguments: Arguments, settings: Settings, dp: int) -> dict[str, Any]:
    given = arguments.values
    requests, tokens = vllm_defaults(settings.accelerator)
    for flag, value in (("--max-num-seqs", requests), ("--max-num-batched-tokens", tokens)):
        if flag not in given:
            settings.say(f"{flag}: not given; {value}, the default of vLLM {flag_list('vllm').version} here.")
    budget = given.get("--max-num-batched-tokens", tokens)
    found: dict[str, Any] = {
        "max_batch_requests": min(given.get("--max-num-seqs", requests), budget) * dp,
        "token_budget_tokens": budget * dp,
        "policy": "continuous" if given.get("--enable-chunked-prefill") is False else "chunked",
    }
    if given.get("--scheduling-policy") == "priority":
        found["order"] = "priority"
    if "--async-scheduling" in given:
        found["schedule_ahead"] = given["--async-scheduling"]
    return found


def _speculation(given: dict[str, Any], pool: dict[str, Any], settings: Settings) -> None:
    config = given.get("--speculative-config")
    if not config:
        return
    method = config.get("method") or ("draft_model" if config.get("model") else "")
    draft: dict[str, Any] = {"draft_tokens": config.get("num_speculative_tokens", 1)}
    if method == "draft_model":
        draft["draft_model"] = model_of(str(config.get("model", "")))
    elif method != "ngram":
        settings.say(f"--speculative-config: {method or 'the method'} is simulated as a draft that costs nothing.")
    pool["speculation"] = {**draft, "acceptance": settings.accepted("--speculative-config")}
