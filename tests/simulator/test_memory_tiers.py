"""Memories for KV behind the accelerators: the catalogue, what a tier takes from it, and what tiers cost."""

from __future__ import annotations

from typing import Any

import pytest

from simulator import Deployment, SpecError
from simulator.catalog import TierMemory, tier, tier_names
from simulator.performance.price import tiers_usd_per_hour
from simulator.performance.tiers import resolved_tier
from simulator.spec.kv_cache import Tier

NAMES = tier_names()
FIGURES = ("memory_gb", "gb_per_s", "latency_us", "usd_per_gb_hour")


def test_names_are_sorted() -> None:
    assert len(NAMES) >= 6
    assert list(NAMES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_names_its_source(name: str) -> None:
    found = tier(name)
    assert found.name == name
    assert set(found.sources) == set(FIGURES)


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_plausible(name: str) -> None:
    found = tier(name)
    assert 64 <= found.memory_gb <= 1e6
    assert 1 <= found.gb_per_s <= 63  # PCIe 5.0 x16
    assert 1 <= found.latency_us <= 1e5
    # A terabyte for a month: between 5 and 2000 dollars.
    assert 5 < found.usd_per_gb_hour * 1000 * 730 < 2000


def test_farther_memories_answer_later_and_flash_is_cheaper() -> None:
    chain = [tier(name) for name in ("host-dram", "local-nvme", "rack-store", "remote-store")]
    assert [each.latency_us for each in chain] == sorted(each.latency_us for each in chain)
    assert [each.memory_gb for each in chain] == sorted(each.memory_gb for each in chain)
    assert 10 * max(each.usd_per_gb_hour for each in chain[1:]) < chain[0].usd_per_gb_hour


def test_links_are_not_faster_than_their_lanes() -> None:
    """Lanes of PCIe 5.0 (32 GT/s, 128 of 130 bits) or adapters behind each memory, raw."""
    lane = 32 * 128 / 130 / 8
    raw = {
        "host-dram": 16 * lane,
        "cxl-memory": 8 * lane,
        "local-nvme": 8 * lane,
        "node-pool": 50,
        "remote-store": 12.5,
    }
    for name, limit in raw.items():
        assert 0.4 * limit < tier(name).gb_per_s < limit


def test_unknown_and_wrong_memories_are_refused() -> None:
    with pytest.raises(SpecError, match="tier kind: no 'host-ddr'; did you mean host-dram"):
        tier("host-ddr")
    entry = tier("host-dram").model_dump()
    with pytest.raises(SpecError, match="sources: no such field: speed"):
        TierMemory.parse({**entry, "sources": {"speed": "hearsay"}})
    with pytest.raises(SpecError, match="gb_per_s"):
        TierMemory.parse({**entry, "gb_per_s": 0})


# ----------------------------------------------------------------------------------------------------------------------
# Tiers


def tier_of(**fields: Any) -> Tier:
    return Tier.parse({"name": "t"} | fields)


def test_a_tier_takes_what_it_leaves_out_from_its_kind() -> None:
    memory = tier("local-nvme")
    found = resolved_tier(tier_of(kind="local-nvme", clients=8, scope="host", private=True, spills=True))
    assert [getattr(found, name) for name in FIGURES] == [getattr(memory, name) for name in FIGURES]
    assert (found.name, found.clients, found.scope, found.private, found.spills) == ("t", 8, "host", True, True)
    assert isinstance(found, Tier)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("value", [0.0, 7.5])
def test_a_tiers_own_figure_counts(name: str, value: float) -> None:
    """Zero, too, is a figure."""
    if name == "gb_per_s" and not value:
        return
    found, memory = resolved_tier(tier_of(kind="host-dram", **{name: value})), tier("host-dram")
    assert getattr(found, name) == value
    for other in set(FIGURES) - {name}:
        assert getattr(found, other) == getattr(memory, other)


def test_a_tier_without_a_kind() -> None:
    found = resolved_tier(tier_of(memory_gb=100.0, gb_per_s=20.0))
    assert (found.memory_gb, found.gb_per_s, found.latency_us, found.usd_per_gb_hour) == (100, 20, 10, 0)
    assert resolved_tier(found) == found


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "memory_gb, gb_per_s: needed where no kind of memory gives them, tier t"),
        ({"memory_gb": 5.0}, "gb_per_s: needed where no kind"),
        ({"gb_per_s": 5.0}, "memory_gb: needed where no kind"),
        ({"kind": ""}, "kind"),
        ({"kind": "host-dram", "memory_gb": -1.0}, "memory_gb"),
    ],
)
def test_incomplete_tiers_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        tier_of(**fields)


def test_an_unknown_kind_suggests_close_ones() -> None:
    with pytest.raises(SpecError, match="tier kind: no 'rack-stor'; did you mean rack-store"):
        resolved_tier(tier_of(kind="rack-stor"))


def test_tiers_survive_yaml() -> None:
    once = tier_of(kind="host-dram", clients=2)
    assert Tier.parse(once.model_dump(mode="json")) == once


# ----------------------------------------------------------------------------------------------------------------------
# Price


def deployment_of(*tiers: dict[str, Any], pools: list[dict[str, Any]]) -> Deployment:
    base = {"accelerator": "h100-sxm", "model": "llama-3.1-8b"}
    named = [base | {"name": str(index)} | pool for index, pool in enumerate(pools)]
    return Deployment.parse({"pools": named, "tiers": list(tiers)})


CACHED: dict[str, Any] = {"prefix_cache": {}}


def test_memories_of_two_stages() -> None:
    """Five cached clients of one model, four of another: 5 + 4 hosts, 2 + 1 racks of four, 1 + 1 for all."""
    pools: list[dict[str, Any]] = [
        {"clients": 3, **CACHED},
        {"clients": 7},
        {"clients": 4, "stage": "small", "model": "llama-3.2-1b", **CACHED},
        {"clients": 2, "tp": 2, **CACHED},
    ]
    tiers: list[dict[str, Any]] = [
        {"name": "host", "clients": 1, "memory_gb": 100.0, "gb_per_s": 50.0, "usd_per_gb_hour": 0.01},
        {"name": "rack", "clients": 4, "memory_gb": 1000.0, "gb_per_s": 2.0, "usd_per_gb_hour": 0.001},
        {"name": "store", "memory_gb": 50_000.0, "gb_per_s": 2.0, "usd_per_gb_hour": 0.0001},
    ]
    alone = [tiers_usd_per_hour(deployment_of(each, pools=pools)) for each in tiers]
    assert alone == pytest.approx([9 * 1.0, 3 * 1.0, 2 * 5.0])
    assert tiers_usd_per_hour(deployment_of(*tiers, pools=pools)) == pytest.approx(sum(alone))
    shared = [each | {"private": True} for each in tiers[:2]]  # parts of the same memory
    assert tiers_usd_per_hour(deployment_of(*shared, pools=pools)) == pytest.approx(12.0)


def test_prefill_clients_have_tiers_and_decode_clients_none() -> None:
    pools = [{"clients": 2, "role": "prefill", **CACHED}, {"clients": 6, "role": "decode"}]
    host = {"name": "host", "clients": 1, "kind": "host-dram", "memory_gb": 1000.0}
    expected = 2 * 1000 * tier("host-dram").usd_per_gb_hour
    assert tiers_usd_per_hour(deployment_of(host, pools=pools)) == pytest.approx(expected)


def test_without_tiers_or_price_nothing_is_paid() -> None:
    assert tiers_usd_per_hour(deployment_of(pools=[CACHED])) == 0
    free = {"name": "host", "memory_gb": 1000.0, "gb_per_s": 50.0}
    assert tiers_usd_per_hour(deployment_of(free, pools=[CACHED])) == 0
