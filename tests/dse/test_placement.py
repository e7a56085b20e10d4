"""Exact placement: against enumeration of every split and placement, memory by hand, and simulation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dse.cli.plan import plan as command
from dse.explain.fitting import blocks_per_request
from dse.placement import (
    SplitPlan,
    SplitSpec,
    StagesSpec,
    plan_split,
    plan_stages,
    planned_choices,
    with_planned_layers,
)
from dse.placement.capacities import lengths_of, service_capacity
from dse.placement.linear_program import LinearProgram
from dse.placement.split import pipeline_pool
from dse.placement.stage_costs import held_tokens, load_of
from simulator import Deployment, Pool, Requests, SpecError, Workload, catalog, simulate
from simulator.performance.engine import Engine, engine_of
from simulator.performance.explanation import stage_seconds, stages_seconds, steps_seconds
from simulator.performance.memory import DoesNotFit, kv_blocks
from simulator.performance.mixed_pipeline import mean_send
from simulator.performance.pipeline import stages
from simulator.spec.stages import EmbedStage
from simulator.workload import build_requests

THREE_KINDS = [
    {"accelerator": "h100-sxm", "count": 2},
    {"accelerator": "a100-80gb", "count": 2},
    {"accelerator": "l4", "count": 4},
]


def spec(*devices: tuple[str, int], model: str = "llama-3.2-1b", **settings: object) -> SplitSpec:
    listed = [{"accelerator": name, "count": count} for name, count in devices]
    return SplitSpec.parse({"model": model, "devices": listed} | settings)


# -- every split, one by one


def splits(layers: int, stages: int) -> Iterator[tuple[int, ...]]:
    """Every way to cut the depth."""
    for cuts in combinations(range(1, layers), stages - 1):
        yield tuple(int(count) for count in np.diff([0, *cuts, layers]))


def cycle_s(asked: SplitSpec, engine: Engine, work: list[float]) -> float:
    """The objective from the work of stages, by its definition."""
    tokens = load_of(asked).tokens(0)
    micro_batches = min(tokens, engine.pp)
    way = sum(work) / micro_batches
    if engine.pp > 1:
        way += (engine.pp - 1) * float(mean_send(engine, np.array([np.ceil(tokens / micro_batches)])).seconds[0])
    return way if asked.objective == "latency" else max(way, *work)


def fits(asked: SplitSpec, pool: Pool) -> bool:
    try:
        return kv_blocks(pool) * pool.kv_memory.block_tokens >= held_tokens(asked, pool)
    except DoesNotFit:
        return False


def best_by_enumeration(asked: SplitSpec, tp: int = 1) -> float:
    """The least objective over all orders of all devices and all splits, each with the engine of that very split.

    Nothing here knows of a program or of costs that are linear in layers.
    """
    names = [each.accelerator for each in asked.devices for _ in range(each.count // tp)]
    orders = {tuple(names)} if asked.order == "given" else set(permutations(names))
    model, load = catalog.model(asked.model), load_of(asked)
    known: dict[tuple[str, object], float] = {}
    best = float("inf")
    for order in sorted(orders):
        some = [1] * (len(order) - 1) + [model.layers - len(order) + 1]
        own = {name: engine_of(pipeline_pool(asked, [name] * len(order), some, tp)) for name in order}
        for layers in splits(model.layers, len(order)):
            work = []
            for name, stage in zip(order, stages(model, layers), strict=True):
                if (name, stage) not in known:
                    known[name, stage] = stage_seconds(own[name], stage, load)
                work.append(known[name, stage])
            least = sum(work) / min(load.tokens(0), len(work)) if asked.objective == "latency" else max(work)
            if least >= best:
                continue
            pool = pipeline_pool(asked, order, layers, tp)
            if fits(asked, pool):
                best = min(best, cycle_s(asked, engine_of(pool), work))
    return best


CASES = {
    "three kinds": spec(("h100-sxm", 1), ("a10g", 1), ("l4", 1)),
    "four stages": spec(("h100-sxm", 1), ("a10g", 1), ("l4", 2)),
    "given order": spec(("l4", 1), ("h100-sxm", 1), ("a10g", 1), order="given"),
    "prompts": spec(("h100-sxm", 1), ("a10g", 1), ("l4", 1), decodes=16, prompt_tokens=2048),
    "latency": spec(("h100-sxm", 1), ("a10g", 1), ("l4", 1), objective="latency", decodes=1),
    "latency of prompts": spec(("h100-sxm", 1), ("a10g", 1), ("l4", 1), objective="latency", prompt_tokens=4000),
    "fewer tokens than stages": spec(("h100-sxm", 1), ("a10g", 1), ("l4", 2), decodes=2),
    "little memory": spec(("a30", 1), ("l4", 2), kv_tokens=1_450_000),
    "experts after a dense layer": spec(("h100-sxm", 1), ("l40s", 1), ("a100-80gb", 1), model="deepseek-v2-lite"),
    "windows": spec(("h100-sxm", 1), ("l40s", 2), model="gemma-2-9b", decodes=20),
    "recurrent layers": spec(("h100-sxm", 1), ("l40s", 1), ("l4", 1), model="nemotron-h-8b"),
}


@pytest.mark.parametrize("name", CASES)
def test_no_split_is_better_than_the_planned_one(name: str) -> None:
    asked = CASES[name]
    found = plan_split(asked.model_copy(update={"tp": (1,)}))
    expected = best_by_enumeration(asked)
    planned = found.planned
    value = planned.way_s if asked.objective == "latency" else planned.cycle_s
    # A stage with layers of two blocks is the only one whose costs are not linear.
    rel = 1e-9 if "experts" not in name else 1e-3
    assert value == pytest.approx(expected, rel=rel)
    assert found.objective_s == pytest.approx(expected, rel=rel)
    assert found.status == "optimal"
    assert found.gap <= 1e-9
    assert found.bound_s <= found.objective_s * (1 + 1e-9)
    assert fits(asked, planned.pool)


def test_the_case_of_little_memory_is_bound_by_it() -> None:
    asked = CASES["little memory"]
    roomy = plan_split(asked.model_copy(update={"kv_tokens": 2048}))
    tight = plan_split(asked)
    assert tight.objective_s > roomy.objective_s * 1.01


def test_blocks_stay_in_their_order_where_several_stages_share_the_first() -> None:
    # Three dense layers lead DeepSeek-V3.
    devices = (("h200-sxm", 6), ("h100-sxm", 6))
    found = plan_split(spec(*devices, model="deepseek-v3", weights="fp8", tp=[1], decodes=32, kv_tokens=4096))
    engine = engine_of(found.planned.pool)
    assert sum(stage.dense for stage in engine.stages) == 3
    assert found.objective_s == pytest.approx(found.planned.cycle_s, rel=1e-2)


# -- any number of devices, several tp


def test_with_any_number_of_devices_the_best_number_is_found() -> None:
    devices = (("h100-sxm", 2), ("l4", 1))
    free = plan_split(spec(*devices, use="any", tp=[1]))
    values = []
    for h100, l4 in product(range(3), range(2)):
        some = [(name, count) for name, count in (("h100-sxm", h100), ("l4", l4)) if count]
        if some:
            values.append(plan_split(spec(*some, tp=[1])).objective_s)
    assert free.objective_s == pytest.approx(min(values), rel=1e-9)
    assert {each.pp for each in free.alternatives} == {1, 2, 3}


def test_the_best_tp_is_kept_and_the_bound_is_that_of_all() -> None:
    asked = SplitSpec.parse({"model": "llama-3.1-70b", "devices": THREE_KINDS})
    found = plan_split(asked)
    alone = {tp: plan_split(asked.model_copy(update={"tp": (tp,)})) for tp in (1, 2)}
    assert found.objective_s == min(each.objective_s for each in alone.values())
    assert found.planned.pool.tp == 2
    assert [(each.tp, each.status) for each in found.alternatives] == [(2, "optimal"), (1, "no better")]
    assert found.status == "optimal"


# -- what is planned, and what is simulated


@pytest.fixture(scope="module")
def three_kinds() -> SplitPlan:
    # Few requests with short contexts: so little KV that the uniform split has the memory for it, too.
    own = {"tp": [1], "decodes": 24, "context_tokens": 300, "kv_tokens": 24 * 512}
    return plan_split(SplitSpec.parse({"model": "llama-3.1-70b", "devices": THREE_KINDS} | own))


def test_bubbles_are_far_less_than_half_of_those_of_the_uniform_split(three_kinds: SplitPlan) -> None:
    assert three_kinds.uniform.layers == (10,) * 8
    assert three_kinds.uniform.fits
    assert three_kinds.planned.bubbles < three_kinds.uniform.bubbles / 2
    work = stages_seconds(engine_of(three_kinds.planned.pool), load_of(three_kinds.spec))
    assert three_kinds.planned.bubbles == pytest.approx(1 - np.mean(work) / max(work))


def test_a_saturated_client_generates_as_much_faster_as_planned(three_kinds: SplitPlan) -> None:
    # As many requests as planned, all there from the start, with contexts around those of the plan.
    requests = Requests(np.zeros(24, dtype=np.int64), np.full(24, 100), np.full(24, 400))
    rates = []
    for pipeline in (three_kinds.planned, three_kinds.uniform):
        result = simulate(Deployment(pools=(pipeline.pool,)), requests)
        rates.append(float(np.median(result.tpot_s)))
    planned_s, uniform_s = rates
    expected = three_kinds.uniform.step_s / three_kinds.planned.step_s
    assert expected > 4
    assert uniform_s / planned_s == pytest.approx(expected, rel=0.02)


def test_the_simulated_step_is_the_longest_stage_and_what_the_engine_adds(three_kinds: SplitPlan) -> None:
    planned = three_kinds.planned
    step = steps_seconds(engine_of(planned.pool), [load_of(three_kinds.spec)])[0]
    assert step == planned.step_s
    assert planned.cycle_s < step < planned.cycle_s * 1.03


def test_a_device_that_cannot_hold_its_even_share_gets_fewer_layers() -> None:
    asked = spec(("a100-80gb", 2), ("l4", 2), model="llama-3.1-70b", objective="latency")
    found = plan_split(asked.model_copy(update={"tp": (1,)}))
    by_name = {stage.accelerator: stage for stage in found.planned.stages}
    assert by_name["l4"].layers < 20 < by_name["a100-80gb"].layers
    assert not found.uniform.fits
    assert {stage.accelerator for stage in found.uniform.stages if not stage.fits} == {"l4"}
    assert found.planned.fits
    assert found.planned.kv_tokens >= held_tokens(asked, found.planned.pool)


def test_memory_of_a_stage_is_counted_by_hand() -> None:
    asked = spec(("h100-sxm", 1), ("l4", 1), model="llama-3.1-8b", kv_tokens=32_000, tp=[1])
    planned = plan_split(asked).planned
    layer = 4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14336 + 2 * 4096
    table, kv = 128256 * 4096, 2 * 8 * 128
    working = 2048 * 2 * (4 * 4096 + 3 * 14336) + 1.5e9
    for place, stage in enumerate(planned.stages):
        weights = stage.layers * layer + table + (4096 if place else 0)
        assert stage.memory_bytes == pytest.approx(2 * weights + working + 2 * 32_000 * stage.layers * kv)


def test_a_planned_pool_holds_the_requests_it_is_planned_for_as_the_simulator_counts_blocks() -> None:
    for model in ("llama-3.1-8b", "gemma-2-9b", "nemotron-h-8b"):
        asked = spec(("l40s", 1), ("l4", 2), model=model, decodes=48, context_tokens=3000, tp=[1])
        pool = plan_split(asked).planned.pool
        usable = int(kv_blocks(pool) * (1 - pool.kv_memory.watermark))
        assert 48 * blocks_per_request(pool, 3001) <= usable


def test_what_is_short_is_said_where_nothing_fits() -> None:
    with pytest.raises(
        SpecError, match=r"80 layers need room, stages of tp 1 have it for 32, each of 4 x l4 8 \(21.7 GB"
    ):
        plan_split(spec(("l4", 4), model="llama-3.1-70b", tp=[1]))


def test_a_plan_can_be_written_and_read(three_kinds: SplitPlan, tmp_path: Path) -> None:
    target = tmp_path / "deployment.yaml"
    target.write_text(three_kinds.deployment.to_yaml())
    assert Deployment.from_yaml(target) == three_kinds.deployment


@settings(max_examples=12, deadline=None)
@given(
    counts=st.tuples(st.integers(1, 2), st.integers(0, 2), st.integers(1, 2)),
    decodes=st.integers(1, 200),
    context=st.integers(0, 4000),
    prompt=st.integers(0, 3000),
)
def test_a_plan_is_never_worse_than_the_uniform_split(
    counts: tuple[int, int, int], decodes: int, context: int, prompt: int
) -> None:
    devices = [(name, count) for name, count in zip(("h100-sxm", "l40s", "l4"), counts, strict=True) if count]
    step = {"decodes": decodes, "context_tokens": context, "prompt_tokens": prompt}
    asked = spec(*devices, model="llama-3.1-8b", tp=[1], kv_tokens=2048, **step)
    found = plan_split(asked)
    assert found.planned.cycle_s <= found.uniform.cycle_s * (1 + 1e-9)
    assert sum(found.planned.layers) == 32
    assert found.status == "optimal"
    again = plan_split(asked)
    assert again.planned.layers == found.planned.layers


# -- the solver


def test_the_solver_says_what_it_proved() -> None:
    # A knapsack: values 6, 5, 4 of weights 4, 3, 2 into 5: the last two, 9.
    program = LinearProgram()
    chosen = [program.variable(0, 1, integer=True) for _ in range(3)]
    program.at_most(dict(zip(chosen, (4.0, 3.0, 2.0), strict=True)), 5.0)
    program.cost = dict(zip(chosen, (-6.0, -5.0, -4.0), strict=True))
    found = program.minimise(10.0)
    assert (found.status, found.objective, found.bound, found.gap) == ("optimal", -9.0, -9.0, 0.0)
    assert found.values.round().tolist() == [0, 1, 1]
    program.at_least({chosen[0]: 1.0, chosen[1]: 1.0}, 2.0)
    assert program.minimise(10.0).status == "infeasible"


# -- stages over hosts

RAG = {
    "requests": 400,
    "seed": 3,
    "arrivals": {"process": "poisson", "rate_rps": 8},
    "lengths": {
        "prompt": {"distribution": "lognormal", "mean_tokens": 40, "p99_tokens": 200},
        "output": {"distribution": "lognormal", "mean_tokens": 150, "p99_tokens": 600},
    },
    "pipeline": [
        {"kind": "embed", "model": "bge-large-en"},
        {"kind": "rerank", "model": "bge-large-en", "documents": 10, "keep": 5, "tokens_per_document": 200},
        "prefill",
        "decode",
    ],
}
RAG["pipeline"].insert(1, {"kind": "retrieve", "vectors": 10_000_000, "documents": 10, "tokens_per_document": 200})  # type: ignore[attr-defined]
HOSTS = [
    {"device": "h100-sxm", "count": 2},
    {"device": "l4", "count": 2},
    {"device": "xeon-gold-6448y", "count": 1},
]


def stages_spec(**settings: object) -> StagesSpec:
    whole = {"model": "llama-3.1-8b", "hosts": HOSTS, "workload": RAG, "tp": [1]}
    return StagesSpec.parse(whole | settings)


def placements(asked: StagesSpec, *, apart: bool) -> Iterator[tuple[float, float]]:
    """(price, highest use) of every placement on the hosts, one by one."""
    from dse.placement.stages import _capacities, _rate_rps

    requests = build_requests(asked.workload)
    rate, capacities = _rate_rps(requests), _capacities(asked, requests, apart=apart)
    counts = {host.device: host.count for host in asked.hosts}
    each = [[(name, one) for one in found] for name, found in capacities.items()]
    flat = [pair for pairs in each for pair in pairs]
    for clients in product(*[range(counts[one.device] // one.devices + 1) for _, one in flat]):
        used = dict.fromkeys(counts, 0)
        served = dict.fromkeys(capacities, 0.0)
        for count, (name, one) in zip(clients, flat, strict=True):
            used[one.device] += count * one.devices
            served[name] += count * one.requests_per_s
        if all(used[name] <= counts[name] for name in counts) and min(served.values()) > 0:
            price = sum(count * catalog.device(name).price_usd_per_hour for name, count in used.items())
            yield price, max(rate / value for value in served.values())


@pytest.mark.parametrize("layout", ["together", "apart"])
def test_no_placement_is_cheaper_or_less_used(layout: str) -> None:
    asked = stages_spec(layouts=[layout], most_utilisation=0.7)
    every = list(placements(asked, apart=layout == "apart"))
    cheapest = plan_stages(asked)
    assert cheapest.usd_per_hour == pytest.approx(min(price for price, use in every if use <= 0.7))
    assert cheapest.bottleneck.utilisation <= 0.7
    easiest = plan_stages(asked.model_copy(update={"objective": "utilisation"}))
    assert easiest.objective == pytest.approx(min(use for _, use in every))
    assert easiest.bottleneck.utilisation == pytest.approx(easiest.objective)
    assert (cheapest.status, easiest.status) == ("optimal", "optimal")


def test_the_better_layout_is_kept() -> None:
    both = plan_stages(stages_spec())
    alone = {name: plan_stages(stages_spec(layouts=[name])).objective for name in ("together", "apart")}
    assert both.objective == min(alone.values())
    assert both.layout == min(alone, key=lambda name: alone[name])


def test_services_are_as_busy_in_simulation_as_planned() -> None:
    # Near its limit a service has full batches, as the plan takes them.
    asked = stages_spec(hosts=[{"device": "h100-sxm", "count": 2}, {"device": "l4", "count": 2}, HOSTS[2]])
    load = RAG | {"arrivals": {"process": "poisson", "rate_rps": 24}}
    asked = asked.model_copy(update={"workload": Workload.parse(load), "most_utilisation": 0.9})
    found = plan_stages(asked)
    result = simulate(found.deployment, asked.workload)
    assert result.rejected == 0
    # The span ends with the last answer; services work while requests arrive.
    arriving_s = 400 / found.rate_rps
    busy = {use.name: use.busy * result.span_s / arriving_s for use in result.services}
    planned = {each.capacity.stage: each.utilisation for each in found.placed}
    assert planned["rerank"] > 0.5
    assert busy["rerank on l4"] == pytest.approx(planned["rerank"], rel=0.15)


def test_capacity_of_a_service_is_its_best_batch_over_its_time() -> None:
    requests = Requests(np.arange(4), np.array([10, 30, 20, 40]), np.full(4, 5))
    found = service_capacity(EmbedStage(), "l4", "query", lengths_of(requests, 0))
    assert found is not None
    one = service_capacity(EmbedStage(), "h100-sxm", "query", lengths_of(requests, 0))
    assert one is not None
    assert one.requests_per_s > found.requests_per_s
    assert found.usd_per_hour == catalog.accelerator("l4").price_usd_per_hour


def test_mean_lengths_by_hand() -> None:
    requests = Requests(np.arange(2), np.array([100, 300]), np.array([10, 30]))
    found = lengths_of(requests, 50)
    assert (found.prompt_tokens, found.output_tokens) == (250.0, 20.0)
    assert found.context_tokens == pytest.approx((10 * (150 + 5) + 30 * (350 + 15)) / 40)
    assert found.held_tokens == pytest.approx((10 * 160 + 30 * 380) / 40)
    assert found.attention_tokens["query"] == pytest.approx((100**2 + 300**2) / 400)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hosts": HOSTS[:2]}, "none of them has the memory or the kind of processor for retrieve"),
        (
            {"hosts": [HOSTS[0] | {"count": 1}, HOSTS[2]]},
            "too few for a client of each of embed, retrieve, rerank, llm",
        ),
        ({"hosts": [HOSTS[1], HOSTS[1]]}, "each device once, given l4, l4"),
        ({"most_utilisation": 0.01}, "the least use of the busiest stage is"),
    ],
)
def test_what_hosts_lack_is_said(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        plan_stages(stages_spec(**changes))


# -- seeds


def test_choices_are_those_of_a_serving_space() -> None:
    found = planned_choices(stages_spec())
    assert found
    assert all(choices["layout"] in ("colocated", "disaggregated") for choices in found)
    assert len({tuple(sorted(choices.items())) for choices in found}) == len(found)
    for choices in found:
        pools = ("main",) if choices["layout"] == "colocated" else ("prefill", "decode")
        names = {f"{pool}.{field}" for pool in pools for field in ("accelerator", "clients", "tp")}
        assert set(choices) == {"layout", *names}


def test_layers_of_a_pool_are_planned_in_the_order_given() -> None:
    names = ("l4", "h100-sxm", "l4")
    pool = Pool(model="llama-3.1-8b", accelerator="l4", pp=3, stage_accelerators=names)
    planned = with_planned_layers(pool)
    assert planned.stage_accelerators == names
    assert planned.layers_per_stage is not None
    asked = spec(*[(name, 1) for name in names], model="llama-3.1-8b", order="given", tp=[1])
    assert planned.layers_per_stage == plan_split(asked).planned.layers
    even = Pool(model="llama-3.1-8b", accelerator="l4", pp=2)
    assert with_planned_layers(even) is even


# -- the command

app = typer.Typer()
app.command()(command)


def run(*arguments: str) -> tuple[str, BaseException | None]:
    found = CliRunner().invoke(app, list(arguments))
    return found.output, found.exception


def test_the_command_prints_split_and_proof() -> None:
    text, error = run("--model", "llama-3.1-8b", "--devices", "h100-sxm:1,l4:1", "--decodes", "16")
    assert error is None
    for words in ("h100-sxm", "planned", "uniform", "bubbles", "bottleneck", "proved optimal", "gap 0.00%"):
        assert words in text


def test_the_command_takes_hypothetical_devices() -> None:
    chip = "l4(memory_gb=48, memory_bandwidth_gb_per_s=600)"
    text, error = run("--model", "llama-3.1-8b", "--devices", f"h100-sxm:1,{chip}:1", "--decodes", "16")
    assert error is None
    assert chip in text


def test_the_command_gives_figures_and_a_deployment(tmp_path: Path) -> None:
    target = tmp_path / "deployment.yaml"
    text, error = run("--model", "llama-3.1-8b", "--devices", "h100-sxm:1,l4:1", "--json", "-o", str(target))
    assert error is None
    figures = json.loads(text)
    assert figures["status"] == "optimal"
    assert sum(figures["planned"]["layers"]) == 32
    pool = Deployment.from_yaml(target).pools[0]
    assert list(pool.layers_per_stage or ()) == figures["planned"]["layers"]


def test_the_command_reads_files_of_both_kinds(tmp_path: Path) -> None:
    split, placed = tmp_path / "split.yaml", tmp_path / "stages.yaml"
    split.write_text(
        "model: llama-3.1-8b\ndevices:\n- {accelerator: h100-sxm, count: 1}\n- {accelerator: l4, count: 1}\n"
    )
    placed.write_text(stages_spec().to_yaml())
    text, error = run(str(split), "--json", "--objective", "latency")
    assert error is None
    assert json.loads(text)["objective"] == "latency"
    text, error = run(str(placed))
    assert error is None
    assert "proved optimal" in text
    assert "retrieve" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give a file, or --model and --devices"),
        (("--model", "llama-3.1-8b", "--devices", "l4"), "'l4' given; allowed: name:count"),
        (("--model", "llama-3.1-8b", "--devices", "l4:1,l4:2"), "each accelerator once"),
        (("--model", "llama-3.1-8b", "--devices", "l4:1", "--objective", "cost"), "objective"),
        (("--model", "llama-3.1-8b", "--devices", "l4:3", "--tp", "3"), "tp: 3, but stages of 3 devices"),
        (("--model", "llama-3.1-8b", "--devices", "l4:1,mi300x:1"), "of one vendor"),
        (
            ("--model", "llama-3.1-8b", "--devices", "l4:2", "--order", "given", "--use", "any"),
            "order: given with use any",
        ),
        (("--model", "llama-3.1-8b", "--devices", "l4:1,h100-sxm:1", "-o", "nowhere/x.yaml"), "no folder nowhere"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], words: str) -> None:
    _, error = run(*arguments)
    assert isinstance(error, SpecError)
    assert words in str(error)
    assert "\n" not in str(error)
