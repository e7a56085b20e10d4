"""Accelerators with changed figures: what changes, what stays, and what is refused."""

from __future__ import annotations

import pytest

from simulator import Deployment, Pool, SpecError, Workload, catalog, simulate
from simulator.performance.engine import engine_of
from simulator.performance.explanation import StepLoad, request_seconds, steps_seconds
from simulator.performance.memory import kv_blocks
from simulator.performance.provenance import provenance

LOADS = (StepLoad(((2048, 0),)), StepLoad((), 16, 4000))


def pool(accelerator: str, engine: str = "vllm-0.15") -> Pool:
    return Pool(model="llama-3.1-70b", accelerator=accelerator, tp=4, engine=engine)


def test_named_figures_change_and_no_others() -> None:
    base = catalog.accelerator("b200")
    chip = catalog.accelerator("b200(peak_tflops=4500, scale_up.gb_per_s=1800, price_usd_per_hour=9)")
    assert chip.peak_tflops == {precision: 2 * tflops for precision, tflops in base.peak_tflops.items()}
    assert (chip.scale_up.gb_per_s, chip.scale_up.devices) == (1800, base.scale_up.devices)
    assert chip.price_usd_per_hour == 9
    assert chip.memory_bandwidth_gb_per_s == base.memory_bandwidth_gb_per_s
    assert chip.usable_memory_bytes == base.usable_memory_bytes
    assert chip.source("peak_tflops") == "assumed: stands in the name of a hypothetical accelerator"
    assert chip.source("memory_bandwidth_gb_per_s") == base.source("memory_bandwidth_gb_per_s")


def test_memory_that_is_named_is_what_software_sees() -> None:
    assert catalog.accelerator("h100-sxm").usable_memory_bytes > 80e9
    assert catalog.accelerator("h100-sxm(memory_gb=160)").usable_memory_bytes == 160e9
    assert kv_blocks(pool("h100-sxm(memory_gb=160)")) > 2 * kv_blocks(pool("h100-sxm"))


@pytest.mark.parametrize("engine", catalog.engine_names())
def test_steps_are_those_of_the_accelerator_that_it_is_like(engine: str) -> None:
    plain, changed = engine_of(pool("h100-sxm", engine)), engine_of(pool("h100-sxm(memory_gb=500)", engine))
    assert steps_seconds(changed, LOADS) == steps_seconds(plain, LOADS)
    assert request_seconds(changed) == request_seconds(plain)


def test_twice_the_bandwidth_quickens_decodes_and_twice_the_peak_prompts() -> None:
    prompt_s, decode_s = steps_seconds(engine_of(pool("h100-sxm")), LOADS)
    wide = steps_seconds(engine_of(pool("h100-sxm(memory_bandwidth_gb_per_s=6700)")), LOADS)
    fast = steps_seconds(engine_of(pool("h100-sxm(peak_tflops=1978.8)")), LOADS)
    assert wide[1] < 0.75 * decode_s
    assert fast[0] < 0.75 * prompt_s
    assert wide[0] > 0.9 * prompt_s
    assert fast[1] > 0.9 * decode_s


def test_kernels_are_said_to_be_transferred() -> None:
    assert provenance(pool("b200")).kernels == "yes"
    found = provenance(pool("b200(memory_gb=288)"))
    assert (found.kernels, found.kernels_from) == ("transferred", "b200")
    assert provenance(pool("gaudi3(memory_gb=288)")).kernels == "datasheet"


def test_it_is_simulated_and_paid_for() -> None:
    workload = Workload.parse(
        {
            "requests": 50,
            "arrivals": {"process": "poisson", "rate_rps": 2},
            "lengths": {"statistics": "azure-2023-conversation"},
        }
    )
    usd = {
        name: simulate(Deployment(pools=(pool(name),)), workload).usd_per_hour
        for name in ("b200", "b200(price_usd_per_hour=10)")
    }
    assert usd == {"b200": pytest.approx(4 * 5.98), "b200(price_usd_per_hour=10)": pytest.approx(40)}


def test_names_are_made_and_kept() -> None:
    name = catalog.hypothetical_name("b200(memory_gb=288)", {"memory_bandwidth_gb_per_s": 16000, "memory_gb": 300})
    assert name == "b200(memory_gb=300, memory_bandwidth_gb_per_s=16000)"
    assert catalog.base_name(name) == "b200"
    assert catalog.accelerator(name).memory_gb == 300
    assert catalog.device(name) == catalog.accelerator(name)
    assert catalog.hypothetical_name("b200", {}) == "b200"


def test_one_accelerator_has_one_canonical_name() -> None:
    spellings = ("b200(scale_up.gb_per_s=450, memory_gb=288)", "b200 (memory_gb=288.0,scale_up.gb_per_s=4.5e2 )")
    assert {catalog.canonical_name(name) for name in spellings} == {"b200(memory_gb=288, scale_up.gb_per_s=450)"}
    assert catalog.canonical_name("xeon-8380") == "xeon-8380"
    assert catalog.split_names(f"l4:2,{spellings[0]}:1, t4") == ["l4:2", f"{spellings[0]}:1", " t4"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("b201(memory_gb=288)", "did you mean b200"),
        ("b200(memory=288)", "'memory=288'; allowed: NAME(FIELD=NUMBER, ...) with the fields peak_tflops"),
        ("b200(memory_gb=much)", "'memory_gb=much'; allowed"),
        ("b200(memory_gb=nan)", "'memory_gb=nan'; allowed"),
        ("b200(memory_gb=288, memory_gb=300)", "each at most once"),
        ("b200(memory_gb=288", "no name; allowed"),
        ("b200()", "''; allowed"),
        ("b200(memory_gb=-1)", "memory_gb: Input should be greater than 0"),
        ("b200(scale_up.devices=8.5)", "a whole number of devices"),
        ("b200(idle_w=2000)", "idle_w 2000.0 is above tdp_w 1000.0"),
        ("xeon-8380(memory_gb=100)", "accelerator: no 'xeon-8380'"),
        (f"b200({'x' * 400}=1)", "no name; allowed"),
    ],
)
def test_what_is_no_such_accelerator_is_refused(name: str, words: str) -> None:
    with pytest.raises(SpecError) as error:
        catalog.accelerator(name)
    assert words in str(error.value)
    assert len(str(error.value)) < 700
