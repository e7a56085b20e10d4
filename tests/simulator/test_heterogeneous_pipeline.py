"""Pipelines whose stages have different accelerators: against pipelines of equal ones, by hand, and as bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulator import Deployment, Pool, Requests, SpecError, catalog, simulate
from simulator.lowering.tables import engine_tables
from simulator.performance.engine import Engine, engine_of
from simulator.performance.explanation import StepLoad, explain_step, stage_seconds, stages_seconds, steps_seconds
from simulator.performance.kv_transfer import network_bytes_per_s
from simulator.performance.memory import DoesNotFit, context_bytes_per_token, fixed_bytes, kv_blocks
from simulator.performance.mixed_pipeline import mean_send, send
from simulator.performance.price import pool_usd_per_hour
from simulator.performance.provenance import provenance, provenance_of
from simulator.performance.step_cost import StepCost, step_cost

MODEL = "llama-3.1-8b"
LOADS = (
    StepLoad((), 1, 500),
    StepLoad((), 7, 2000),
    StepLoad((), 128, 1500),
    StepLoad(((2048, 0),)),
    StepLoad(((512, 4000),), 64, 900),
)


def mixed(*stages: tuple[str, int], **settings: object) -> Pool:
    """Return a pool with one stage for each (accelerator, layers)."""
    names, layers = zip(*stages, strict=True)
    fields = {
        "model": MODEL,
        "accelerator": names[0],
        "pp": len(stages),
        "stage_accelerators": list(names),
        "layers_per_stage": list(layers),
    }
    return Pool.parse(fields | settings)


def seconds(engine: Engine) -> list[float]:
    return steps_seconds(engine, LOADS)


# -- nothing changes where all are equal


def test_naming_the_same_accelerator_for_every_stage_changes_nothing() -> None:
    plain = Pool(model=MODEL, accelerator="h100-sxm", pp=4)
    named = plain.model_copy(update={"stage_accelerators": ("h100-sxm",) * 4})
    assert np.array_equal(engine_tables(engine_of(plain))[1], engine_tables(engine_of(named))[1])
    assert kv_blocks(plain) == kv_blocks(named)
    requests = Requests(np.arange(40) * 10**11, np.full(40, 700), np.full(40, 60))
    first, second = (simulate(Deployment(pools=(pool,)), requests) for pool in (plain, named))
    assert first.summary() == second.summary()
    assert first.energy_j == second.energy_j


@pytest.mark.parametrize("tp", [1, 2])
def test_the_general_cost_is_that_of_equal_accelerators_with_an_even_split(tp: int) -> None:
    # With equal layers the last stage, which has the head, is the longest: both models then mean the same, but that the
    # older one adds the head to the way through all stages, whose sends here pass while the last stage has its head.
    engine = engine_of(Pool(model=MODEL, accelerator="h100-sxm", pp=4, tp=tp))
    general = replace(engine, stage_accelerators=(engine.accelerator,) * 4)
    for load in (StepLoad((), 4, 100), StepLoad((), 64, 2000), StepLoad((), 300, 700), StepLoad(((2048, 0),), 16, 300)):
        older, newer = (steps_seconds(each, [load])[0] for each in (engine, general))
        each = np.array([np.ceil(load.tokens(0) / 4)])
        sends = 3 * float(mean_send(general, each).seconds[0])
        assert newer == pytest.approx(older - sends, rel=1e-9)


def test_sparing_the_last_stage_shows_in_the_step() -> None:
    # What the older model cannot see: a last stage with fewer layers has time for the head.
    even = mixed(("h100-sxm", 16), ("h200-sxm", 16))
    spared = mixed(("h100-sxm", 17), ("h200-sxm", 15))
    load = StepLoad((), 64, 100)
    work = [stages_seconds(engine_of(pool), load) for pool in (even, spared)]
    assert work[1][0] > work[0][0]
    assert work[1][1] < work[0][1]


# -- against pipelines of equal accelerators


def test_with_one_stage_far_the_slowest_the_step_is_that_of_its_own_pipeline() -> None:
    engine = engine_of(mixed(("h100-sxm", 2), ("l4", 30)))
    slow = engine_of(Pool(model=MODEL, accelerator="l4", pp=2, layers_per_stage=(2, 30)))
    for load in (StepLoad((), 64, 2000), StepLoad(((2048, 0),), 16, 1000)):
        assert steps_seconds(engine, [load]) == pytest.approx(steps_seconds(slow, [load]), rel=1e-9)


def test_work_of_a_stage_is_that_of_the_same_layers_in_its_own_pipeline() -> None:
    pool = mixed(("h100-sxm", 20), ("a100-80gb", 8), ("l4", 4))
    for load in LOADS:
        for place, found in enumerate(stages_seconds(engine_of(pool), load)):
            alone = engine_of(
                Pool(
                    model=MODEL,
                    accelerator=(pool.stage_accelerators or ())[place],
                    pp=3,
                    layers_per_stage=pool.layers_per_stage,
                )
            )
            assert found == pytest.approx(stage_seconds(alone, alone.stages[place], load), rel=1e-12)


def test_attention_of_a_stage_is_counted_by_hand() -> None:
    # A token of context of one layer: keys and values of 8 heads of 128 at 16 bits, at the rate that attention reaches.
    engine = engine_of(mixed(("h100-sxm", 24), ("l4", 8)))
    cost = step_cost(engine, np.array([1.0]), np.array([1.0]))
    expected = []
    for own, stage in zip(engine.stage_engines, engine.stages, strict=True):
        share = own.kernels.inside(own.profile.launch_share, 1.0).attention.decode_memory_share  # type: ignore[union-attr]
        rate = own.accelerator.memory_bandwidth_bytes_per_s * share
        expected.append(stage.layers * 2 * 8 * 128 * 2 / rate)
    assert cost.decode_s == pytest.approx(max(expected))
    assert cost.decode_memory_s == pytest.approx(sum(expected) / 2)


ACCELERATORS = ("l4", "a10g", "l40s", "a100-80gb", "h100-sxm", "h200-sxm")


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.sampled_from(ACCELERATORS), min_size=2, max_size=4),
    data=st.data(),
    decodes=st.integers(0, 300),
    prompt=st.integers(1, 3000),
    context=st.integers(0, 20_000),
)
def test_a_step_lasts_as_long_as_its_longest_stage_and_no_longer_than_all(
    names: list[str], data: st.DataObject, decodes: int, prompt: int, context: int
) -> None:
    assume(len(set(names)) > 1)
    places = st.lists(st.integers(1, 31), min_size=len(names) - 1, max_size=len(names) - 1, unique=True)
    cuts = sorted(data.draw(places))
    layers = np.diff([0, *cuts, 32])
    engine = engine_of(mixed(*[(name, int(count)) for name, count in zip(names, layers, strict=True)]))
    load = StepLoad(((prompt, 0),), decodes, context)
    work, step_s = stages_seconds(engine, load), steps_seconds(engine, [load])[0]
    assert step_s >= max(work)
    tokens = np.array([float(prompt + decodes)])
    each = np.ceil(tokens / min(prompt + decodes, engine.pp))
    sends = float(mean_send(engine, each).seconds[0]) * (engine.pp - 1)
    host_s = 0.01  # an engine's own time for a step is below
    assert step_s <= sum(work) + sends + host_s


@pytest.mark.parametrize(("slower", "faster"), [("l4", "l40s"), ("l40s", "h100-sxm"), ("h100-sxm", "h200-sxm")])
def test_a_faster_accelerator_in_one_stage_never_lengthens_a_step(slower: str, faster: str) -> None:
    pools = [mixed(("a100-80gb", 12), (name, 10), ("a10g", 10)) for name in (slower, faster)]
    before, after = (seconds(engine_of(pool)) for pool in pools)
    assert all(new <= old * (1 + 1e-9) for old, new in zip(before, after, strict=True))


def test_every_coefficient_is_that_of_some_stage() -> None:
    engine = engine_of(mixed(("h100-sxm", 22), ("l4", 10)))
    at = np.array([1.0, 64.0, 2048.0])
    whole = step_cost(engine, at, at)
    for name in ("decode_s", "prefill_pair_s", "prefill_read_s", "decode_sequence_s"):
        homogeneous = [step_cost(own, at, at) for own in engine.stage_engines]
        parts = [
            getattr(cost, name) * stage.layers / 22 for cost, stage in zip(homogeneous, engine.stages, strict=True)
        ]
        assert getattr(whole, name) == pytest.approx(max(parts))
    assert isinstance(whole, StepCost)


def test_sends_between_servers_are_those_of_the_slower_network() -> None:
    engine = engine_of(mixed(("h100-sxm", 16), ("l4", 16)))
    tokens = np.array([512.0])
    there = send(*engine.stage_engines, tokens).seconds
    back = send(*reversed(engine.stage_engines), tokens).seconds
    within = send(engine.stage_engines[0], engine.stage_engines[0], tokens).seconds
    assert there == pytest.approx(back)
    assert there > within
    slow = catalog.accelerator("l4").scale_out_bytes_per_s
    assert slow < catalog.accelerator("h100-sxm").scale_out_bytes_per_s
    assert there >= 512 * 4096 * 2 / slow


# -- memory, price, power, network, provenance


def test_each_stage_has_its_own_memory_and_the_least_room_decides() -> None:
    pool = mixed(("h100-sxm", 24), ("l4", 8))
    engine = engine_of(pool)
    room = []
    for stage, name in zip(engine.stages, ("h100-sxm", "l4"), strict=True):
        free = 0.9 * catalog.accelerator(name).usable_memory_bytes - fixed_bytes(engine, stage, 2048)
        room.append(int(free // (16 * context_bytes_per_token(engine, stage))))
    assert kv_blocks(pool) == min(room)
    assert room[0] != room[1]


def test_the_device_that_is_short_of_memory_is_named() -> None:
    with pytest.raises(DoesNotFit, match=r"1 x h100-sxm \+ 1 x l4 needs .* GB on each l4 for weights"):
        kv_blocks(mixed(("h100-sxm", 10), ("l4", 70), model="llama-3.1-70b"))


def test_price_and_power_are_summed_over_the_devices() -> None:
    pool = mixed(("h100-sxm", 20), ("l4", 6), ("l4", 6), tp=2, clients=3)
    assert pool.accelerator_counts == {"h100-sxm": 6, "l4": 12}
    chips = [(catalog.accelerator(name), count) for name, count in pool.accelerator_counts.items()]
    assert pool_usd_per_hour(pool) == pytest.approx(sum(count * chip.price_usd_per_hour for chip, count in chips))
    result = simulate(Deployment(pools=(pool,)), Requests(np.arange(30) * 10**11, np.full(30, 500), np.full(30, 50)))
    idle = sum(count * chip.idle_w for chip, count in chips) * result.span_s
    most = sum(count * chip.tdp_w for chip, count in chips) * result.span_s
    assert idle < result.energy_j < most
    assert result.usd_per_hour == pytest.approx(pool_usd_per_hour(pool))


def test_kv_leaves_through_the_network_of_the_stage_that_takes_longest() -> None:
    engine = engine_of(mixed(("h100-sxm", 24), ("l4", 8)))
    h100, l4 = (catalog.accelerator(name).scale_out_bytes_per_s for name in ("h100-sxm", "l4"))
    # All bytes over the time of the slower of three quarters over one network and a quarter over the other.
    assert network_bytes_per_s(engine) == pytest.approx(1 / max(0.75 / h100, 0.25 / l4))


def test_provenance_is_that_of_the_worst_stage() -> None:
    pool = mixed(("h100-sxm", 24), ("l4", 8))
    assert provenance(pool).accelerator == "l4"
    assert provenance(pool).calibrated == "transferred"
    assert provenance_of(engine_of(pool)) == provenance(pool)


def test_speculation_drafts_beside_the_output_head() -> None:
    drafting = {"draft_model": "llama-3.2-1b", "draft_tokens": 3, "acceptance": 0.7}
    orders = ((("h100-sxm", 30), ("l4", 2)), (("l4", 2), ("h100-sxm", 30)))
    pools = [mixed(*stages, speculation=drafting) for stages in orders]
    slow, fast = (engine_of(pool).draft for pool in pools)
    assert slow is not None
    assert fast is not None
    assert (slow.accelerator.name, fast.accelerator.name) == ("l4", "h100-sxm")


# -- what is refused


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stage_accelerators": ["h100-sxm"]}, "1 given for pp 2"),
        ({"stage_accelerators": ["l4", "h100-sxm"]}, "begins with l4, but accelerator is h100-sxm"),
        ({"kernels": "mine.yaml"}, "kernels: describes one kind of accelerator"),
        (
            {"topology": {"levels": [{"name": "all", "devices": 8, "gb_per_s": 50, "latency_us": 5}]}},
            "topology: describes one kind of accelerator",
        ),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields: dict[str, object], words: str) -> None:
    whole = {"model": MODEL, "accelerator": "h100-sxm", "pp": 2, "stage_accelerators": ["h100-sxm", "l4"]}
    with pytest.raises(SpecError, match=words):
        Pool.parse(whole | fields)


def test_accelerators_of_different_vendors_make_no_pipeline() -> None:
    with pytest.raises(SpecError, match="h100-sxm of NVIDIA, mi300x of AMD"):
        engine_of(mixed(("h100-sxm", 16), ("mi300x", 16)))


def test_steps_over_several_accelerators_are_not_taken_apart() -> None:
    with pytest.raises(SpecError, match="a pipeline over h100-sxm, l4 are not taken apart"):
        explain_step(engine_of(mixed(("h100-sxm", 24), ("l4", 8))), "decode", LOADS[0])
