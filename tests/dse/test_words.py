"""Deployments in words: services around the LLM, several LLM stages, precisions that differ."""

from __future__ import annotations

from typing import Any

from dse import words
from simulator import Deployment

ONE = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "weights": "fp8"}


def served_by(*pools: dict[str, Any], rerank: str = "l4") -> Deployment:
    services = [{"stage": "embed", "device": "l40s"}, {"stage": "rerank", "device": rerank, "max_batch_requests": 4}]
    return Deployment.parse({"pools": list(pools), "services": services})


def test_designs_that_differ_in_services_are_told_apart() -> None:
    one, other = served_by(ONE), served_by(ONE, rerank="h100-sxm")
    said = words.sentence(one)
    assert "1 accelerator of the LLM. " in said
    assert said.endswith(" Services: embed 1 × l40s, batch 32; rerank 1 × l4, batch 4.")
    assert said != words.sentence(other)
    # What is the same in every design is not said of each.
    assert words.details(one, {"rerank"}).endswith(" · KV bf16 · rerank 1 × l4, batch 4")
    assert words.details(one, {"rerank"}) != words.details(other, {"rerank"})
    assert words.details(one) == words.details(other)
    assert "Services" not in words.sentence(one.model_copy(update={"services": ()}))


def test_pools_of_several_stages_say_which_model_they_serve_and_how() -> None:
    small = {**ONE, "name": "small.main", "stage": "small", "weights": "bf16"}
    large = {"model": "llama-3.1-70b", "accelerator": "h200-sxm", "tp": 2, "stage": "large", "weights": "fp8"}
    prefill = {**large, "name": "large.prefill", "role": "prefill"}
    decode = {**large, "name": "large.decode", "role": "decode", "clients": 2, "kv": "fp8"}
    cascade = Deployment.parse({"pools": [small, {**large, "name": "large.main"}]})
    assert words.short(cascade) == "small: 1 × h100-sxm TP1 + large: 1 × h200-sxm TP2 · bf16 (small), fp8 (large)"
    assert " · small: chunked 2048/256 + large: chunked 2048/256 · " in words.row(cascade)
    assert words.details(cascade).endswith(" · KV bf16")
    assert words.sentence(cascade).startswith(
        "Prefill and decode of small (llama-3.1-8b) on 1 client of one h100-sxm, prefill and decode of large "
        "(llama-3.1-70b) on 1 client of 2 h200-sxm (TP 2): 3 accelerators in all. Weights in bf16 (small), fp8 "
        "(large), KV cache in bf16. "
    )
    # An arrow is a hand-over of KV: there is none between models.
    split = Deployment.parse({"pools": [{**small, "weights": "fp8"}, prefill, decode]})
    assert words.short(split) == "small: 1 × h100-sxm TP1 + large: 1 × h200-sxm TP2 → 2 × h200-sxm TP2 · fp8"
    assert words.precision(split, "kv") == "bf16 (small, large), fp8 (large)"


def test_precisions_of_one_stage_are_those_of_every_pool() -> None:
    pools = [{**ONE, "name": role, "role": role} for role in ("prefill", "decode")]
    assert words.short(Deployment.parse({"pools": pools})) == "1 × h100-sxm TP1 → 1 × h100-sxm TP1 · fp8"
    pools[1]["weights"] = "bf16"
    differing = Deployment.parse({"pools": pools})
    assert words.short(differing).endswith(" · fp8 (prefill), bf16 (decode)")
    assert "Weights in fp8 (prefill), bf16 (decode), KV cache in bf16. " in words.sentence(differing)
