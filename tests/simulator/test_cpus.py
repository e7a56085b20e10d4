"""Server processors: figures against arithmetic, sources, and errors a person can act on."""

from __future__ import annotations

import pytest

from simulator.catalog import Accelerator, Cpu, accelerator_names, cpu, cpu_names, device
from simulator.errors import SpecError

NAMES = cpu_names()

# Channels and mega-transfers per second of each socket; 8 bytes a transfer.
CHANNELS = {
    "epyc-7763": (8, 3200),
    "epyc-9654": (12, 4800),
    "graviton4": (12, 5600),
    "xeon-gold-6448y": (8, 4800),
    "xeon-platinum-8380": (8, 3200),
    "xeon-platinum-8480": (8, 4800),
}


def test_there_are_enough_and_they_are_sorted() -> None:
    assert len(NAMES) >= 6
    assert list(NAMES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_names_its_source(name: str) -> None:
    found = cpu(name)
    assert set(found.sources) == set(Cpu.model_fields) - {"name", "vendor", "sources"}
    assert found.name == name


@pytest.mark.parametrize("name", CHANNELS)
def test_bandwidth_is_that_of_the_channels(name: str) -> None:
    channels, transfers = CHANNELS[name]
    assert cpu(name).memory_bandwidth_bytes_per_s == pytest.approx(channels * transfers * 1e6 * 8)


@pytest.mark.parametrize(
    ("name", "precision", "flops"),
    [
        ("xeon-gold-6448y", "fp32", 32 * 2.1e9 * 64),
        ("xeon-gold-6448y", "bf16", 32 * 2.1e9 * 2048),
        ("xeon-platinum-8480", "int8", 56 * 2.0e9 * 4096),
        ("xeon-platinum-8380", "fp32", 40 * 2.3e9 * 64),
        ("epyc-9654", "bf16", 96 * 2.4e9 * 64),
        ("graviton4", "fp32", 96 * 2.8e9 * 32),
    ],
)
def test_peaks_are_cores_times_clock_times_operations(name: str, precision: str, flops: float) -> None:
    assert cpu(name).peak_flops(precision) == pytest.approx(flops, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_plausible(name: str) -> None:
    found = cpu(name)
    assert 16 <= found.cores <= 256
    assert 2 <= found.memory_bandwidth_gb_per_s / found.cores <= 12
    assert 0 < found.idle_w < found.tdp_w <= 500
    assert 0.01 <= found.price_usd_per_hour / found.cores <= 0.1
    assert found.usable_memory_bytes == found.memory_gb * 1e9


def test_a_precision_without_instructions_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"xeon-platinum-8380: no 'bf16'; allowed: fp32, int8"):
        cpu("xeon-platinum-8380").peak_flops("bf16")


def test_an_unknown_name_suggests_close_ones() -> None:
    with pytest.raises(SpecError, match="cpu: no 'epyc-9664'; did you mean epyc-9654"):
        cpu("epyc-9664")
    with pytest.raises(SpecError, match="device: no 'h100-smx'; did you mean h100-sxm"):
        device("h100-smx")


def test_a_device_is_either() -> None:
    assert isinstance(device("grace"), Cpu)
    assert isinstance(device("l4"), Accelerator)
    assert not set(cpu_names()) & set(accelerator_names())
    assert hash(cpu("grace")) == hash(device("grace"))


def test_wrong_entries_are_refused() -> None:
    entry = cpu("grace").model_dump()
    with pytest.raises(SpecError, match=r"idle_w 900.0 is above tdp_w 250"):
        Cpu.parse({**entry, "idle_w": 900.0})
    with pytest.raises(SpecError, match="sources: no such field: speed"):
        Cpu.parse({**entry, "sources": {"speed": "hearsay"}})
    with pytest.raises(SpecError, match="threads: unknown key"):
        Cpu.parse({**entry, "threads": 144})
