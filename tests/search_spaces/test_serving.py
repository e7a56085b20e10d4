"""Every dimension of serving: when it is active, what it becomes in a deployment, and the way back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from search_spaces import Design, ServingSpace, dimensions_of_pool, pools_of, to_deployment, to_design
from simulator import Deployment, Overload, SpecError, Workload, build_requests, simulate
from simulator.spec.adapters import Adapters
from simulator.spec.deployment import Lending, Link, StageRouter

SMALL: dict[str, Any] = {"accelerators": ["h100-sxm", "l40s"], "clients": [2, 4], "tp": [2]}
HOST = {"name": "host", "kind": "host-dram", "clients": 1, "memory_gb": 512}
RACK = {"name": "rack", "scope": "rack", "memory_gb": 32000, "gb_per_s": 2, "latency_us": 100}
EVERYTHING: dict[str, Any] = {
    "accelerators": ["h100-sxm", "h200-sxm"],
    "clients": [2, 4],
    "tp": [2, 4],
    "weights": ["bf16", "fp8"],
    "kv": ["bf16", "fp8"],
    "policies": ["static", "continuous", "chunked"],
    "token_budgets_tokens": [512, 2048],
    "max_batches_requests": [32, 256],
    "pp": [1, 2],
    "dp": [1, 2],
    "ep": [1, 2],
    "orders": ["fcfs", "shortest_first"],
    "prefix_cache": [False, True],
    "mixed": [False, True],
    "prompt_splits_tokens": [0, 1000],
    "drafts": {
        "none": None,
        "ngram": {"draft_tokens": 3, "acceptance": 0.4},
        "model": {"draft_model": "llama-3.1-8b", "draft_tokens": 4, "acceptance": [0.7, 0.6, 0.5, 0.4]},
    },
    "memory_utilizations": [0.85, 0.9],
    "watermarks": [0, 0.01, 0.05],
    "swaps_gb": [0, 64],
    "adapters": {"rank": 16, "slots": [4, 8], "memories": ["host-dram", "local-nvme"]},
    "routers": ["join_shortest_queue", "prefix_affinity"],
    "prefix_weights": [1, 4],
    "links": {"lan": {"gb_per_s": 12.5, "latency_us": 20}, "fast": {"gb_per_s": 200, "latency_us": 5}},
    "layer_wise": [False, True],
    "handover_scopes": ["global", "local"],
    "groups": [2],
    "lending": {"never": None, "busy": {"prefill_above_tokens": 5000, "decode_above_tokens": 5000}},
    "tiers": {"none": [], "host": [HOST], "host and rack": [HOST, RACK]},
    "prefix_writes": ["through", "back"],
    "services": {
        "embed": {
            "devices": ["l4", "xeon-gold-6448y"],
            "clients": {"low": 1, "high": 3},
            "max_batches_requests": [1, 16],
            "max_waits_ms": [0, 2.5],
        },
        "retrieve": {
            "devices": ["xeon-gold-6448y"],
            "clients": [2],
            "devices_per_client": [1, 2],
            "shards": [1, 4],
            "hop_us": 80,
        },
    },
}
SERVING = ServingSpace.parse(EVERYTHING)
SPACE = SERVING.space
RAG = Workload.parse(
    {
        "requests": 40,
        "seed": 1,
        "arrivals": {"process": "poisson", "rate_rps": 5},
        "lengths": {"statistics": "azure-2023-conversation"},
        "pipeline": [
            {"kind": "embed"},
            {"kind": "retrieve", "vectors": 1_000_000, "documents": 5, "tokens_per_document": 100},
            "prefill",
            "decode",
        ],
    }
)


def drawn(count: int, seed: int, serving: ServingSpace = SERVING) -> list[Design]:
    """Return random designs, rare layouts as likely as others."""
    space = serving.space
    return [space.design_of(row) for row in space.sample(count, np.random.default_rng(seed), by="choices")]


def refusal(deployment: Deployment, workload: Workload) -> str:
    """Simulate a deployment; return why the simulator refused it, nothing if it served requests."""
    try:
        result = simulate(deployment, build_requests(workload), plan=workload.plan)
    except (SpecError, Overload) as error:
        return str(error)
    return "" if result.summary()["requests_per_s"] > 0 else "served nothing"


IMPOSSIBLE = ("ep: ", "dp: ", "tp: ", "pool ")
"""How refusals begin that name an impossible parallelism or a lack of memory."""


def test_every_design_becomes_a_deployment_and_back() -> None:
    for design in drawn(500, seed=3):
        deployment = to_deployment(design, "mixtral-8x7b", serving=SERVING)
        assert to_design(deployment, SPACE, SERVING) == design


def test_deployments_of_the_space_can_be_simulated() -> None:
    """Against the simulator itself: it refuses only what names an impossible parallelism or a lack of memory."""
    found = [refusal(to_deployment(design, "mixtral-8x7b", serving=SERVING), RAG) for design in drawn(60, seed=4)]
    assert all(not reason or reason.startswith(IMPOSSIBLE) for reason in found), found
    assert found.count("") > 30


def active(design: Design) -> set[str]:
    """Return what matters in a design of the space with everything: the rules of docs/search-spaces.md, written out."""
    colocated = design["layout"] == "colocated"
    names = {"layout", "weights", "kv", "order", "memory_utilization", "router"}
    names |= {"adapters.slots", "adapters.memory"}
    names |= {"embed.device", "embed.clients", "embed.max_batch_requests"}
    names |= {"retrieve.device", "retrieve.clients", "retrieve.devices_per_client", "retrieve.shards"}
    hardware = ("accelerator", "clients", "tp", "pp", "dp", "ep")
    if colocated:
        names |= {"mixed", *(f"main.{name}" for name in hardware)}
        names |= {"main.policy", "main.token_budget_tokens", "main.max_batch_requests"}
        if design["mixed"]:
            names |= {"prompt_split_tokens", *(f"extra.{name}" for name in hardware)}
        if design["main.policy"] != "static":
            names |= {"main.prefix_cache", "main.watermark", "main.swap_gb"}
            names |= set() if design["main.prefix_cache"] else {"main.draft"}
    else:
        names |= {f"{pool}.{name}" for pool in ("prefill", "decode") for name in hardware}
        names |= {"prefill.token_budget_tokens", "decode.max_batch_requests", "prefill.prefix_cache"}
        names |= {"decode.draft", "decode.watermark", "decode.swap_gb"}
        names |= {"link", "link.layer_wise", "handover_scope", "lending"}
        names |= {"groups"} if design["handover_scope"] == "local" else set()
    pool = "main" if colocated else "prefill"
    if design.get(f"{pool}.prefix_cache"):
        names |= {f"{pool}.tiers"}
        names |= {f"{pool}.prefix_write"} if design[f"{pool}.tiers"] != "none" else set()
    names |= {"prefix_weight"} if design["router"] == "prefix_affinity" else set()
    names |= {"embed.max_wait_ms"} if design["embed.max_batch_requests"] == 16 else set()
    return names


def test_dimensions_are_active_exactly_where_they_matter() -> None:
    seen = set()
    for design in drawn(500, seed=5):
        assert set(design) == active(design)
        seen |= set(design)
    assert seen == {dimension.name for dimension in SPACE.dimensions}


def test_choices_arrive_where_they_belong() -> None:
    """One design written out by hand, field by field."""
    choices = {dimension.name: dimension.values[-1] for dimension in SPACE.dimensions}
    apart = to_deployment(SPACE.design(choices), "mixtral-8x7b", serving=SERVING)
    assert apart.link == Link(gb_per_s=200, latency_us=5, layer_wise=True)
    assert apart.lending == Lending(prefill_above_tokens=5000, decode_above_tokens=5000)
    assert (apart.handover_scope, apart.router, apart.prefix_weight) == ("local", "prefix_affinity", 4)
    assert [tier.name for tier in apart.tiers] == ["host", "rack"]
    prefill, decode = apart.pools
    assert (prefill.role, prefill.groups, decode.role, decode.groups) == ("prefill", 2, "decode", 2)
    assert (decode.tp, decode.pp, decode.dp, decode.ep) == (4, 2, 2, 2)
    assert prefill.prefix_cache is not None
    assert prefill.prefix_cache.write == "back"
    assert decode.speculation is not None
    assert decode.speculation.draft_model == "llama-3.1-8b"
    assert prefill.speculation is None
    memory = decode.kv_memory
    assert (memory.memory_utilization, memory.watermark, memory.swap_gb) == (0.9, 0.05, 64)
    assert prefill.adapters == decode.adapters == Adapters(rank=16, slots=8, memory="local-nvme")
    embed, retrieve = apart.services
    assert (embed.device, embed.clients, embed.max_batch_requests, embed.max_wait_ms) == ("xeon-gold-6448y", 3, 16, 2.5)
    assert (retrieve.stage, retrieve.clients, retrieve.devices, retrieve.hop_us) == ("retrieve", 2, 2, 80)
    assert (retrieve.shards, embed.shards) == (4, None)
    both = {**choices, "layout": "colocated", "extra.accelerator": "h100-sxm", "extra.clients": 4, "extra.ep": 1}
    together = to_deployment(SPACE.design(both), "mixtral-8x7b", serving=SERVING)
    main, extra = together.pools
    assert (main.name, main.accelerator, main.max_prompt_tokens) == ("main", "h200-sxm", 1000)
    assert (extra.name, extra.accelerator, extra.clients, extra.min_prompt_tokens) == ("extra", "h100-sxm", 4, 1001)
    assert (main.ep, extra.ep) == (2, None)
    assert extra.batching == main.batching
    assert extra.prefix_cache == main.prefix_cache
    assert together.link == Link(gb_per_s=12.5, latency_us=20), "colocated: the first link"


@pytest.mark.parametrize("stages", [{}, {"small": {"weights": ["fp8"]}, "large": {"clients": [4]}}])
def test_a_pool_depends_on_its_dimensions_and_on_all_of_them(stages: dict[str, Any]) -> None:
    """From random designs: to take the pool's dimensions from one and all else from another gives the one's pool.

    And each of the dimensions makes a difference in some design.
    """
    serving = ServingSpace.parse({**EVERYTHING, "tiers": {"host": [HOST]}, "stages": stages})
    space, models = serving.space, dict.fromkeys(stages or ["llm"], "mixtral-8x7b")
    names = [dimension.name for dimension in space.closed]
    assert pools_of(space) == tuple(
        f"{prefix}{kind}"
        for prefix in ([f"{stage}." for stage in stages] or [""])
        for kind in ("main", "extra", "prefill", "decode")
    )

    def pool_of(design: Design, name: str) -> object:
        deployment = to_deployment(design, models, serving=serving)
        return next((pool for pool in deployment.pools if pool.name == name), None)

    for pool in pools_of(space):
        own = [names.index(name) for name in dimensions_of_pool(space, pool)]
        rows = space.sample(600, np.random.default_rng(7), by="choices")
        rows = rows[rows[:, names.index(f"{pool}.accelerator")] >= 0]
        # Conditions of the pool's dimensions: what it exists under.
        mixed = names.index(f"{pool.rpartition('.')[0]}.mixed".removeprefix("."))
        keep = [*own, mixed, names.index("layout"), names.index("handover_scope")]
        mixture = rows[::-1].copy()
        mixture[:, keep] = rows[:, keep]
        mixture = space.mend(mixture, rows)
        assert np.array_equal(mixture[:, own], rows[:, own])
        for one, other in zip(rows[:40], mixture[:40], strict=True):
            assert pool_of(space.design_of(one), pool) == pool_of(space.design_of(other), pool)
        idle = set()
        for column in own:
            usable = rows[rows[:, column] >= 0][:12]
            values = len(space.closed[column].values)
            changed = usable.copy()
            changed[:, column] = (changed[:, column] + 1) % values
            changed = space.mend(changed, usable)
            pairs = zip(usable, changed, strict=True)
            if values > 1 and all(
                pool_of(space.design_of(one), pool) == pool_of(space.design_of(other), pool) for one, other in pairs
            ):
                idle.add(names[column])
        assert not idle


def test_what_is_written_down_reads_back_the_same(tmp_path: Any) -> None:
    path = tmp_path / "space.yaml"
    stages = {"small": {}, "large": {"accelerators": ["h200-sxm"], "clients": {"low": 1, "high": 2}}}
    tiers = {"host": [HOST]}
    for text in (EVERYTHING, {**EVERYTHING, "tiers": tiers, "stages": stages}):
        serving = ServingSpace.parse(text)
        path.write_text(serving.to_yaml())
        again = ServingSpace.from_yaml(path)
        assert again == serving
        assert again.space == serving.space


def test_a_deployment_that_a_person_wrote_is_found_whatever_its_pools_are_called() -> None:
    serving = ServingSpace.parse({**SMALL, "services": EVERYTHING["services"], "max_batches_requests": [256]})
    pools = [
        {
            "name": "answers",
            "role": "decode",
            "accelerator": "l40s",
            "clients": 4,
            "batching": {"policy": "continuous"},
        },
        {"name": "prompts", "role": "prefill", "accelerator": "h100-sxm", "clients": 2},
    ]
    services = [
        {"stage": "retrieve", "device": "xeon-gold-6448y", "clients": 2, "hop_us": 80, "shards": 4},
        {"stage": "detokenise", "device": "l4"},
        {"stage": "embed", "device": "l4", "max_batch_requests": 16},
    ]
    given = Deployment.parse(
        {
            "pools": [{"model": "llama-3.1-8b", "tp": 2, **pool} for pool in pools],
            "handover_router": "join_shortest_queue",
            "services": services,
        }
    )
    design = to_design(given, serving.space, serving)
    assert (design["prefill.accelerator"], design["decode.clients"], design["embed.max_batch_requests"]) == (
        "h100-sxm",
        4,
        16,
    )
    assert design["retrieve.shards"] == 4
    bare = given.services[0].model_copy(update={"shards": None})
    unsaid = given.model_copy(update={"services": (bare, *given.services[1:])})
    with pytest.raises(SpecError, match=r"retrieve\.shards: missing; allowed: 1, 4"):
        to_design(unsaid, serving.space, serving)
    other = given.model_copy(update={"routers": (StageRouter(stage="llm", router="random"),), "seed": 3})
    with pytest.raises(SpecError, match="no design of this space expresses: routers, seed"):
        to_design(other, serving.space, serving)


CASCADE = {
    "requests": 40,
    "seed": 1,
    "arrivals": {"process": "poisson", "rate_rps": 5},
    "lengths": {"statistics": "azure-2023-conversation"},
    "pipeline": [{"kind": "cascade", "stages": ["small", "large"], "fallback": [0.4]}],
}


def test_several_models_have_dimensions_of_their_own() -> None:
    """A cascade: each stage has its layout, its pools and its model, and takes what it does not say from around it."""
    stages = {
        "small": {
            "accelerators": ["l40s"],
            "ep": [1],
            "weights": ["fp8"],
            "policies": ["static", "chunked"],
            "mixed": [True],
        },
        "large": {"clients": [4], "drafts": EVERYTHING["drafts"], "policies": ["chunked"]},
    }
    text = {**EVERYTHING, "tiers": {"host": [HOST]}, "services": {}, "drafts": {}, "stages": stages}
    serving = ServingSpace.parse(text)
    space = serving.space
    assert space["layout"].values == (
        "colocated+colocated",
        "colocated+disaggregated",
        "disaggregated+colocated",
        "disaggregated+disaggregated",
    )
    assert space["small.prefill.accelerator"].values == ("l40s",)
    assert space["large.extra.clients"].values == (4,)
    models = {"small": "llama-3.1-8b", "large": "mixtral-8x7b"}
    workload = Workload.parse(CASCADE)
    refusals: list[str] = []
    for design in drawn(200, seed=6, serving=serving):
        layouts = dict(zip(stages, design.text("layout").split("+"), strict=True))
        assert ("link" in design) == ("disaggregated" in layouts.values())
        for stage, layout in layouts.items():
            assert (f"{stage}.decode.clients" in design) == (layout == "disaggregated")
            assert (f"{stage}.extra.clients" in design) == design.get(f"{stage}.mixed", False)
        assert not any(name.endswith(".draft") for name in design if name.startswith("small."))
        deployment = to_deployment(design, models, serving=serving)
        assert to_design(deployment, space, serving) == design
        assert {pool.stage: pool.model for pool in deployment.pools} == models
        if len(refusals) < 20:
            refusals.append(refusal(deployment, workload))
    assert all(not reason or reason.startswith(IMPOSSIBLE) for reason in refusals), refusals
    assert refusals.count("") >= 10


def test_the_first_service_has_the_first_of_every_choice() -> None:
    embed = SERVING.services["embed"].first("embed")
    assert (embed.stage, embed.device, embed.clients) == ("embed", "l4", 1)
    assert (embed.max_batch_requests, embed.max_wait_ms) == (1, 0.0)


def test_models_must_be_those_of_the_stages() -> None:
    serving = ServingSpace.parse({**SMALL, "stages": {"small": {}, "large": {}}})
    design = drawn(1, seed=0, serving=serving)[0]
    with pytest.raises(SpecError, match="given small, large; models are given for small, big"):
        to_deployment(design, {"small": "llama-3.1-8b", "big": "llama-3.1-70b"}, serving=serving)
    with pytest.raises(SpecError, match="for 1 LLM stages: llm"):
        to_deployment(design, "llama-3.1-8b")


def test_named_alternatives_need_the_space_that_names_them() -> None:
    serving = ServingSpace.parse({**SMALL, "layouts": ["disaggregated"], "links": EVERYTHING["links"]})
    with pytest.raises(SpecError, match="link: given 'lan'; alternatives of this space: none"):
        to_deployment(next(iter(serving.space)), "llama-3.1-8b")


def test_contradictions_are_left_to_the_deployment() -> None:
    """Groups that do not divide the clients: a choice of the space that the deployment refuses by name."""
    serving = ServingSpace.parse({**SMALL, "clients": [1], "handover_scopes": ["local"], "groups": [2]})
    design = serving.space.design({**{d.name: d.values[-1] for d in serving.space.dimensions}})
    with pytest.raises(ValidationError, match="groups: 2 does not divide clients 1"):
        to_deployment(design, "llama-3.1-8b", serving=serving)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tiers": {"host": [HOST]}}, ["tiers", "prefix_cache must have true"]),
        ({"prefix_writes": ["back"]}, ["prefix_writes", "given none"]),
        ({"handover_scopes": ["local"]}, ["handover_scopes", "groups"]),
        ({"groups": [2]}, ["handover_scopes", "groups"]),
        ({"groups": [1]}, ["groups.0", "1"]),
        ({"prompt_splits_tokens": [100]}, ["prompt_splits_tokens", "mixed"]),
        ({"links": {"a": {}, "b": {}}}, ["links", "a and b are the same"]),
        ({"links": {"a": {"layer_wise": True}}, "layer_wise": [False, True]}, ["links", "given in both"]),
        ({"watermarks": [1.5]}, ["watermarks", "1.5"]),
        ({"services": {"embed": {"devices": []}}}, ["services.embed.devices", "services.embed.clients"]),
        ({"stages": {"small": {"routers": ["random"]}}}, ["stages.small.routers", "unknown key"]),
        (
            {
                "prefix_cache": [True],
                "tiers": {"none": [], "host": [HOST]},
                "stages": {"small": {}, "large": {}},
            },
            ["tiers", "with 2 of them at most one alternative"],
        ),
    ],
)
def test_mistakes_are_named(given: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        ServingSpace.parse({**SMALL, **given})
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given",
    [
        {"accelerators": ["gpu"]},
        {"services": {"embed": {"devices": ["gpu"], "clients": [1]}}},
        {"drafts": {"d": {"draft_model": "gpu", "draft_tokens": 2, "acceptance": 0.5}}},
        {"stages": {"llm": {"accelerators": ["gpu"]}}},
        {"adapters": {"rank": 8, "slots": [4], "memories": ["gpu"]}},
    ],
)
def test_what_is_not_catalogued_is_named(given: dict[str, object]) -> None:
    serving = ServingSpace.parse({**SMALL, **given})
    with pytest.raises(SpecError, match="gpu"):
        serving.check_catalogued()
    ServingSpace.parse(SMALL).check_catalogued()
