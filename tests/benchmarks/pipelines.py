"""What stages around the LLM, several models and a prefix cache cost, beside one LLM with the same requests.

The trace does not say what prompts share. Where a prefix cache is to have hits, one of ten system prompts of 512 tokens
is put before each prompt, and the LLM alone is measured with the same longer prompts, without a prefix cache.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulator import Deployment, Workload, build_requests
from tests.benchmarks.measure import Case, say, times
from tests.benchmarks.one_llm import POOL, azure

SYSTEM_PROMPTS = {"prefix": {"system_prompts": 10, "tokens": 512}}
LLM = ["prefill", "decode"]
TOKENISE, DETOKENISE = {"kind": "tokenise"}, {"kind": "detokenise"}
CPU = {"device": "xeon-gold-6448y"}


def case(pipeline: Sequence[object], deployment: dict[str, object], **traits: object) -> Case:
    """Return the trace's requests, each of which passes a pipeline."""
    workload = Workload.parse({**azure()[1], **traits, "pipeline": [*pipeline]})
    return Case(Deployment.parse({"router": "round_robin", **deployment}), build_requests(workload), workload.plan)


def routed() -> Case:
    """Return tokenise, route, prefill and decode on one of two models with a prefix cache, detokenise."""
    route = {"kind": "route", "by": "prompt_tokens", "to": {"small": 0, "large": 1000}}
    own = {**POOL, "clients": 2, "prefix_cache": {}}
    small = {**own, "name": "small", "stage": "small", "model": "llama-2-13b", "tp": 1}
    large = {**own, "name": "large", "stage": "large"}
    services = [{"stage": stage, **CPU} for stage in ("tokenise", "route", "detokenise")]
    return case([TOKENISE, route, DETOKENISE], {"pools": [small, large], "services": services}, **SYSTEM_PROMPTS)


def apart() -> Case:
    """Return tokenise, prefill with a prefix cache and decode on other clients, detokenise."""
    prefill = {**POOL, "name": "prefill", "role": "prefill", "clients": 2, "prefix_cache": {}}
    decode = {**POOL, "name": "decode", "role": "decode", "clients": 2}
    services = [{"stage": stage, **CPU} for stage in ("tokenise", "detokenise")]
    return case([TOKENISE, *LLM, DETOKENISE], {"pools": [prefill, decode], "services": services}, **SYSTEM_PROMPTS)


def cached() -> Case:
    """Return the LLM alone with a prefix cache."""
    return case(LLM, {"pools": [{**POOL, "prefix_cache": {}}]}, **SYSTEM_PROMPTS)


def rag() -> Case:
    """Return embed, retrieve, rerank and the LLM."""
    services = [
        {"stage": "embed", "device": "l4"},
        {"stage": "retrieve", **CPU, "clients": 2, "max_batch_requests": 16},
        {"stage": "rerank", "device": "l4", "clients": 4, "max_batch_requests": 4},
    ]
    return case(
        [{"kind": "embed"}, {"kind": "retrieve"}, {"kind": "rerank"}, *LLM], {"pools": [POOL], "services": services}
    )


def pipelines() -> None:
    """Measure each pipeline beside the LLM alone with the same requests."""
    alone, prompted = case(LLM, {"pools": [POOL]}), case(LLM, {"pools": [POOL]}, **SYSTEM_PROMPTS)
    plain, base, routing, handing, caching, searching = times(alone, prompted, routed(), apart(), cached(), rag())
    say("**pipelines**: that trace through the LLM alone, the rows here taking turns", f"{plain}")
    say("the same behind system prompts, without a prefix cache", f"{base}")
    for what, found in (
        ("the same, and a prefix cache", caching),
        ("the same, tokenise → route → prefill → decode (small or large model) → detokenise", routing),
        ("the same, tokenise → prefill → decode on other clients → detokenise", handing),
    ):
        say(what, f"{found}: {found.over(base)}")
    say("without system prompts, embed → retrieve → rerank → LLM", f"{searching}: {searching.over(plain)}")
