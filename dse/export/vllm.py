"""A pool as ``vllm serve``."""

from __future__ import annotations

from typing import Any, Final

from dse.export.command import Command
from dse.export.exported import Account
from dse.export.names import repository_of, served_model
from dse.export.parsers import flag_list
from dse.export.physical import tell_of_pool, tell_of_prefix_cache, tell_of_tier
from simulator import Pool, catalog
from simulator.performance.tiers import resolved_tier
from simulator.spec.kv_cache import Tier

QUANTIZATION: Final = {"fp8": "fp8", "int8": "int8_per_channel_weight_only", "fp4": "nvfp4_per_token"}
"""Quantisations that vLLM makes of 16-bit weights while it loads them, by precision of weights."""

KV_DTYPE: Final = {"bf16": "bfloat16", "fp8": "fp8", "int8": "int8_per_token_head"}
GIB: Final = 2**30
CONNECTOR: Final = "NixlConnector"
OFFLOADING: Final = "OffloadingConnector"
SEVERAL: Final = "MultiConnector"
OFFLOADED_BYTES: Final = "cpu_bytes_to_use"
ROLES: Final = {"prefill": "kv_producer", "decode": "kv_consumer"}
PIPELINE_LAYERS: Final = "VLLM_PP_LAYER_PARTITION"


def vllm_engine() -> str:
    """Return name and version of the engine whose flags are known."""
    return f"vLLM {flag_list('vllm').version}"


def vllm_command(pool: Pool, account: Account) -> Command:
    """Return the command that starts one client of a pool.

    Parameters
    ----------
    pool
        A pool in which the defaults of its engine are written out.
    account
        Where is said what becomes of each field.
    """
    command = Command(account, ("vllm", "serve"), model=(served_model(pool, account),))
    tell_of_pool(pool, account, vllm_engine())
    _parallelism(pool, command)
    _precision(pool, command)
    _batching(pool, command)
    _memory(pool, command)
    _prefixes(pool, command)
    _speculation(pool, command)
    if pool.adapters:
        _adapters(pool, command)
    if pool.role in ROLES:
        command.add("--kv-transfer-config", _handover(pool, account), f"pools.{pool.name}.role")
    account.say(
        "Left to vLLM's defaults, as the design does not determine them: --max-model-len, --attention-backend, "
        "--compilation-config, --distributed-executor-backend, --seed, and everything about HTTP."
    )
    return command


def _parallelism(pool: Pool, command: Command) -> None:
    at, account = f"pools.{pool.name}", command.account
    command.add("--tensor-parallel-size", pool.tp, f"{at}.tp")
    command.add("--pipeline-parallel-size", pool.pp, f"{at}.pp")
    if pool.layers_per_stage:
        command.set(PIPELINE_LAYERS, ",".join(map(str, pool.layers_per_stage)), f"{at}.layers_per_stage")
    if pool.dp > 1:
        command.add("--data-parallel-size", pool.dp, f"{at}.dp")
        if catalog.model(pool.model).moe is None:
            account.say(
                f"{at}.dp: {pool.model} has no experts, so that vLLM's data-parallel ranks are independent copies of "
                "it."
            )
    if pool.ep is None:
        return
    ranks = pool.tp * pool.dp
    if pool.ep == ranks and ranks > 1:
        command.add("--enable-expert-parallel", None, f"{at}.ep")
    elif pool.ep == 1:
        command.account.express(f"{at}.ep")
    else:
        account.say(
            f"{at}.ep: vLLM deals whole experts to all {ranks} ranks or splits every expert; it has no {pool.ep} "
            "groups. Neither is turned on here.",
            f"{at}.ep",
        )


def _precision(pool: Pool, command: Command) -> None:
    at, account = f"pools.{pool.name}", command.account
    command.add("--dtype", "bfloat16", f"{at}.weights")
    if pool.weights in QUANTIZATION:
        command.add("--quantization", QUANTIZATION[pool.weights], f"{at}.weights")
        account.say(
            f"{at}.weights: {pool.weights} is made of the 16-bit checkpoint while it is loaded; with a checkpoint "
            "that is quantised already leave --quantization out."
        )
    if pool.weights == "int8":
        account.say(
            f"{at}.weights: vLLM makes int8 weights but multiplies in 16 bits; the design computes in 8 where the "
            "chip can. For that take a checkpoint quantised to W8A8."
        )
    command.add("--kv-cache-dtype", KV_DTYPE[pool.kv], f"{at}.kv")


def _batching(pool: Pool, command: Command) -> None:
    at, account, batching = f"pools.{pool.name}.batching", command.account, pool.batching
    ranks = pool.dp
    if ranks > 1 and (batching.max_batch_requests % ranks or batching.token_budget_tokens % ranks):
        account.say(
            f"{at}: {batching.max_batch_requests} requests and {batching.token_budget_tokens} tokens are not divided "
            f"by the {ranks} data-parallel ranks, each with a scheduler of its own; both are rounded up."
        )
    command.add("--max-num-seqs", -(-batching.max_batch_requests // ranks), f"{at}.max_batch_requests")
    command.add("--max-num-batched-tokens", -(-batching.token_budget_tokens // ranks), f"{at}.token_budget_tokens")
    if batching.policy == "chunked":
        command.add("--enable-chunked-prefill", None, f"{at}.policy")
    elif batching.policy == "continuous":
        command.add("--no-enable-chunked-prefill", None, f"{at}.policy")
        longest = catalog.model(pool.model).max_context_tokens
        if batching.token_budget_tokens < longest:
            account.say(
                f"{at}.policy: without chunks vLLM starts only if --max-model-len (by default {longest}, the model's) "
                f"is at most --max-num-batched-tokens ({-(-batching.token_budget_tokens // ranks)}): add "
                "--max-model-len with your longest prompt and answer, and raise --max-num-batched-tokens to it if "
                "that is more."
            )
    else:
        account.say(f"{at}.policy: vLLM has no static batches; it batches continuously, in chunks.", f"{at}.policy")
    if batching.order in ("fcfs", "priority"):
        command.add("--scheduling-policy", batching.order, f"{at}.order")
    else:
        account.say(
            f"{at}.order: vLLM admits by arrival or priority, not {batching.order}; arrival holds.", f"{at}.order"
        )
    if batching.policy != "static":
        flag = "--async-scheduling" if batching.schedule_ahead else "--no-async-scheduling"
        command.add(flag, None, f"{at}.schedule_ahead")


def _memory(pool: Pool, command: Command) -> None:
    at, account, memory = f"pools.{pool.name}.kv_memory", command.account, pool.kv_memory
    command.add("--gpu-memory-utilization", memory.memory_utilization, f"{at}.memory_utilization")
    command.add("--block-size", memory.block_tokens, f"{at}.block_tokens")
    if memory.block_tokens % 16:
        account.say(f"{at}.block_tokens: {memory.block_tokens} is no multiple of 16, which vLLM's kernels ask for.")
    if memory.blocks is not None:
        blocks = -(-memory.blocks // pool.dp)
        command.add("--num-gpu-blocks-override", blocks, f"{at}.blocks")
    command.add("--watermark", memory.watermark, f"{at}.watermark")
    if memory.swap_gb:
        account.say(
            f"{at}.swap_gb: {vllm_engine()} swaps no preempted requests to the host; it computes them again.",
            f"{at}.swap_gb",
        )
    if memory.swap_gb_per_s != type(memory).model_fields["swap_gb_per_s"].default:
        account.say(f"{at}.swap_gb_per_s describes the host's link: nothing sets it.", f"{at}.swap_gb_per_s")


def _prefixes(pool: Pool, command: Command) -> None:
    at, account, cache = f"pools.{pool.name}.prefix_cache", command.account, pool.prefix_cache
    command.add("--enable-prefix-caching" if cache else "--no-enable-prefix-caching", None, at)
    if cache is None:
        return
    tell_of_prefix_cache(pool, account, "vLLM", ("through",))
    for number, tier in enumerate(account.deployment.tiers):
        offloaded = _offloaded_bytes(pool, tier)
        if number == 0 and offloaded is not None:
            if pool.role in ROLES:
                account.express(f"tiers.{tier.name}")
            else:
                command.add("--kv-offloading-size", offloaded / GIB, f"tiers.{tier.name}")
                command.add("--kv-offloading-backend", "native", f"tiers.{tier.name}")
            tell_of_tier(tier, account)
        else:
            account.say(
                f"tiers.{tier.name}: vLLM itself offloads to one memory, each client to its own. Serve this tier by "
                "LMCache (LMCacheConnectorV1) or Mooncake Store (MooncakeStoreConnector) in --kv-transfer-config.",
                f"tiers.{tier.name}",
            )


def _offloaded_bytes(pool: Pool, tier: Tier) -> float | None:
    """Return what a data-parallel rank has of a tier, for all its tensor-parallel and pipeline ranks together."""
    memory_gb = own_memory_gb(tier)
    return None if memory_gb is None else memory_gb / pool.dp * 1e9


def _handover(pool: Pool, account: Account) -> dict[str, Any]:
    """Return the connector that hands KV over; beside it the one that keeps KV in the first tier.

    ``--kv-offloading-size`` would put its own connector in the place of this one.
    """
    role = ROLES[pool.role]
    handover = {"kv_connector": CONNECTOR, "kv_role": role}
    tier = account.deployment.tiers[0] if pool.prefix_cache and account.deployment.tiers else None
    offloaded = _offloaded_bytes(pool, tier) if tier else None
    if offloaded is None:
        return handover
    keeping = {
        "kv_connector": OFFLOADING,
        "kv_role": "kv_both",
        "kv_connector_extra_config": {OFFLOADED_BYTES: round(offloaded)},
    }
    both = {"connectors": [handover, keeping]}
    return {"kv_connector": SEVERAL, "kv_role": role, "kv_connector_extra_config": both}


def own_memory_gb(tier: Tier) -> float | None:
    """Return what a client has of a tier to itself, 1e9 bytes; None if others see it too."""
    if tier.clients is None or (tier.clients > 1 and not tier.private):
        return None
    memory_gb = resolved_tier(tier).memory_gb
    return None if memory_gb is None else memory_gb / tier.clients


def _speculation(pool: Pool, command: Command) -> None:
    at, account, draft = f"pools.{pool.name}.speculation", command.account, pool.speculation
    if draft is None:
        return
    config: dict[str, Any] = {"method": "ngram", "num_speculative_tokens": draft.draft_tokens}
    if draft.draft_model is not None:
        repository = repository_of(draft.draft_model)
        if repository is None:
            account.say(
                f"{at}.draft_model: {draft.draft_model} names no Hugging Face repository; put its name in the place "
                "of DRAFT_MODEL_ID."
            )
        config |= {"method": "draft_model", "model": repository or "DRAFT_MODEL_ID"}
    command.add("--speculative-config", config, f"{at}.draft_tokens", f"{at}.draft_model")


def _adapters(pool: Pool, command: Command) -> None:
    at, account, adapters = f"pools.{pool.name}.adapters", command.account, pool.adapters
    assert adapters is not None
    allowed = sorted(int(each) for each in flag_list("vllm").flags["--max-lora-rank"].choices)
    rank = next((each for each in allowed if each >= adapters.rank), None)
    if rank is None:
        account.say(f"{at}.rank: vLLM serves adapters up to rank {allowed[-1]}, not {adapters.rank}; left out.", at)
        return
    if rank != adapters.rank:
        account.say(f"{at}.rank: vLLM keeps room for rank {rank}, the next that it allows above {adapters.rank}.")
    command.add("--enable-lora", None, at)
    command.add("--max-lora-rank", rank, f"{at}.rank")
    command.add("--max-loras", adapters.slots, f"{at}.slots")
    account.say(f"{at}: which adapters there are is not part of the design; add --lora-modules NAME=PATH for each.")
