"""A pool as ``python -m sglang.launch_server``."""

from __future__ import annotations

from typing import Final

from dse.export.command import Command
from dse.export.exported import Account
from dse.export.names import repository_of, served_model
from dse.export.parsers import flag_list
from dse.export.physical import tell_of_pool, tell_of_prefix_cache, tell_of_tier
from dse.export.vllm import own_memory_gb
from simulator import Pool

QUANTIZATION: Final = {"fp8": "fp8", "int8": "w8a8_int8", "fp4": "nvfp4_online"}
"""Quantisations by precision of weights."""

KV_DTYPE: Final = {"bf16": "bf16", "fp8": "fp8_e4m3"}
WRITE: Final = {"through": "write_through", "back": "write_back"}


def sglang_engine() -> str:
    """Return name and version of the engine whose flags are known."""
    return f"SGLang {flag_list('sglang').version}"


def sglang_command(pool: Pool, account: Account) -> Command:
    """Return the command that starts one client of a pool.

    Parameters
    ----------
    pool
        A pool in which the defaults of its engine are written out.
    account
        Where is said what becomes of each field.
    """
    model = served_model(pool, account)
    command = Command(account, ("python", "-m", "sglang.launch_server"), model=("--model-path", model))
    tell_of_pool(pool, account, sglang_engine())
    _parallelism(pool, command)
    _precision(pool, command)
    _batching(pool, command)
    _memory(pool, command)
    _prefixes(pool, command)
    _speculation(pool, command)
    if pool.adapters:
        at = f"pools.{pool.name}.adapters"
        command.add("--enable-lora", None, at)
        command.add("--max-lora-rank", pool.adapters.rank, f"{at}.rank")
        command.add("--max-loras-per-batch", pool.adapters.slots, f"{at}.slots")
        account.say(f"{at}: which adapters there are is not part of the design; add --lora-paths NAME=PATH for each.")
    if pool.role != "both":
        command.add("--disaggregation-mode", pool.role, f"pools.{pool.name}.role")
        command.add("--disaggregation-transfer-backend", "nixl", f"pools.{pool.name}.role")
    account.say(
        "Left to SGLang's defaults, as the design does not determine them: --context-length, --attention-backend, "
        "--schedule-conservativeness, --random-seed, and everything about HTTP."
    )
    return command


def _parallelism(pool: Pool, command: Command) -> None:
    at = f"pools.{pool.name}"
    # SGLang counts the data-parallel ranks of attention within the tensor-parallel group.
    command.add("--tp-size", pool.tp * pool.dp, f"{at}.tp", f"{at}.dp")
    command.add("--pp-size", pool.pp, f"{at}.pp")
    if pool.dp > 1:
        command.add("--attn-dp-size", pool.dp, f"{at}.dp")
    if pool.ep is not None:
        command.add("--ep-size", pool.ep, f"{at}.ep")
    if pool.layers_per_stage:
        command.set("SGLANG_PP_LAYER_PARTITION", ",".join(map(str, pool.layers_per_stage)), f"{at}.layers_per_stage")


def _precision(pool: Pool, command: Command) -> None:
    at, account = f"pools.{pool.name}", command.account
    command.add("--dtype", "bfloat16", f"{at}.weights")
    if pool.weights in QUANTIZATION:
        command.add("--quantization", QUANTIZATION[pool.weights], f"{at}.weights")
        if pool.weights == "int8":
            account.say(f"{at}.weights: SGLang makes no int8 weights; serve a checkpoint that is quantised to W8A8.")
        else:
            account.say(
                f"{at}.weights: {pool.weights} is made of the 16-bit checkpoint while it is loaded; with a checkpoint "
                "that is quantised already leave --quantization out."
            )
    if pool.kv in KV_DTYPE:
        command.add("--kv-cache-dtype", KV_DTYPE[pool.kv], f"{at}.kv")
    else:
        account.say(f"{at}.kv: SGLang keeps no {pool.kv} KV cache; that of the model's precision holds.", f"{at}.kv")


def _batching(pool: Pool, command: Command) -> None:
    at, account, batching = f"pools.{pool.name}.batching", command.account, pool.batching
    command.add("--max-running-requests", batching.max_batch_requests, f"{at}.max_batch_requests")
    if batching.policy == "chunked":
        command.add("--chunked-prefill-size", batching.token_budget_tokens, f"{at}.token_budget_tokens", f"{at}.policy")
        command.add("--enable-mixed-chunk", None, f"{at}.policy")
    else:
        command.add("--chunked-prefill-size", -1, f"{at}.policy")
        command.add("--max-prefill-tokens", batching.token_budget_tokens, f"{at}.token_budget_tokens")
    if batching.policy == "static":
        account.say(f"{at}.policy: SGLang has no static batches; it batches continuously.", f"{at}.policy")
    if batching.order == "priority":
        command.add("--enable-priority-scheduling", None, f"{at}.order")
        command.add("--schedule-low-priority-values-first", None, f"{at}.order")
    elif batching.order == "fcfs":
        command.add("--schedule-policy", "fcfs", f"{at}.order")
    else:
        account.say(
            f"{at}.order: SGLang admits by arrival, priority or shared prefix, not {batching.order}; arrival holds.",
            f"{at}.order",
        )
    if batching.policy != "static":
        if batching.schedule_ahead:
            account.express(f"{at}.schedule_ahead")
        else:
            command.add("--disable-overlap-schedule", None, f"{at}.schedule_ahead")


def _memory(pool: Pool, command: Command) -> None:
    at, account, memory = f"pools.{pool.name}.kv_memory", command.account, pool.kv_memory
    command.add("--mem-fraction-static", memory.memory_utilization, f"{at}.memory_utilization")
    account.say(
        f"{at}.memory_utilization: SGLang's fraction is of weights and KV alone; lower it if activations run out of "
        "memory."
    )
    command.add("--page-size", memory.block_tokens, f"{at}.block_tokens")
    if memory.blocks is not None:
        # Every data-parallel rank has a pool of its own of this size.
        blocks = -(-memory.blocks // pool.dp)
        command.add("--max-total-tokens", blocks * memory.block_tokens, f"{at}.blocks")
    if memory.watermark != type(memory).model_fields["watermark"].default:
        account.say(
            f"{at}.watermark: SGLang has none; --schedule-conservativeness guards against retraction in its own way.",
            f"{at}.watermark",
        )
    if memory.swap_gb:
        account.say(
            f"{at}.swap_gb: SGLang swaps no preempted requests to the host; it computes them again.", f"{at}.swap_gb"
        )
    if memory.swap_gb_per_s != type(memory).model_fields["swap_gb_per_s"].default:
        account.say(f"{at}.swap_gb_per_s describes the host's link: nothing sets it.", f"{at}.swap_gb_per_s")


def _prefixes(pool: Pool, command: Command) -> None:
    at, account, cache = f"pools.{pool.name}.prefix_cache", command.account, pool.prefix_cache
    if cache is None:
        command.add("--disable-radix-cache", None, at)
        return
    account.express(at)
    tell_of_prefix_cache(pool, account, "SGLang", WRITE)
    for number, tier in enumerate(account.deployment.tiers):
        memory_gb = own_memory_gb(tier)
        # The size is that of each rank, also of those of pipeline stages.
        rank_gb = None if memory_gb is None else round(memory_gb / pool.accelerators_per_client)
        if number == 0 and rank_gb == 0:
            account.say(
                f"tiers.{tier.name}: {memory_gb:g} GB is too little for {pool.accelerators_per_client} ranks, of which "
                "each takes whole GB in SGLang; left out.",
                f"tiers.{tier.name}",
            )
        elif number == 0 and rank_gb is not None:
            command.add("--enable-hierarchical-cache", None, f"tiers.{tier.name}")
            command.add("--hicache-size", rank_gb, f"tiers.{tier.name}")
            command.add("--hicache-write-policy", WRITE.get(cache.write, "write_through"), f"{at}.write")
            tell_of_tier(tier, account)
        else:
            account.say(
                f"tiers.{tier.name}: SGLang's host cache is each client's own; a store behind it "
                "(--hicache-storage-backend) has addresses and sizes that the design does not hold.",
                f"tiers.{tier.name}",
            )


def _speculation(pool: Pool, command: Command) -> None:
    at, account, draft = f"pools.{pool.name}.speculation", command.account, pool.speculation
    if draft is None:
        return
    if draft.draft_model is None:
        command.add("--speculative-algorithm", "NGRAM", at)
    else:
        repository = repository_of(draft.draft_model)
        if repository is None:
            account.say(f"{at}.draft_model: put the name of {draft.draft_model} in the place of DRAFT_MODEL_ID.")
        command.add("--speculative-algorithm", "STANDALONE", at)
        command.add("--speculative-draft-model-path", repository or "DRAFT_MODEL_ID", f"{at}.draft_model")
        command.add("--speculative-num-steps", draft.draft_tokens, f"{at}.draft_tokens")
        command.add("--speculative-eagle-topk", 1, f"{at}.draft_tokens")
    # SGLang counts the token that the model itself adds.
    command.add("--speculative-num-draft-tokens", draft.draft_tokens + 1, f"{at}.draft_tokens")
