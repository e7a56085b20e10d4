"""Collectives against NCCL: the catalogued links, fitted again, and by measurements that were left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dse.calibration.collectives import LEAST_BYTES, fit_links
from dse.measurements.collectives import Collectives, read_apex, read_vidur
from simulator import SpecError
from simulator.catalog import LinkProfile, link_profile, link_profile_names
from simulator.performance.coefficients import BY_HAND, Coefficients
from simulator.performance.collectives import (
    all_gather,
    all_reduce,
    all_to_all,
    reduce_scatter,
    ring_all_reduce,
    send_recv,
)
from simulator.performance.roofline import Floats, Work
from simulator.performance.topology import Group, Hop

FUNCTIONS: dict[str, Callable[[Floats, Group, Coefficients], Work]] = {
    "all_reduce": ring_all_reduce,
    "all_gather": all_gather,
    "reduce_scatter": reduce_scatter,
    "all_to_all": all_to_all,
    "send_recv": send_recv,
}

# What was fitted: link, raw GB/s, machine, inside a server, and the fit's rails, protocols and launches.
FITS = {
    "nvlink-h100": (450.0, "H100-SXM-80GB", True, {"switch": True}),
    "nvlink-h200": (450.0, "H200-SXM-141GB", True, {}),
    "nvlink-a100": (300.0, "a100_dgx", True, {"launch_us": 60.0}),
    "nvlink-bridge": (300.0, "h100_pairwise_nvlink 2", True, {"launch_us": 28.0, "protocols": 1}),
    "pcie-pairs": (63.0, "h100_pairwise_nvlink 4", True, {"launch_us": 28.0, "protocols": 1}),
    "pcie-host": (15.75, "V100-PCIE-16GB", True, {"protocols": 1}),
    "rdma-400g": (50.0, "h100_dgx", False, {"protocols": 1}),
    "rdma-100g": (12.5, "a100_dgx to 4", False, {"protocols": 1, "rails": 4}),
    "ethernet-10g": (1.25, "V100-PCIE-16GB", False, {"protocols": 1, "rails": 1}),
}
MEDIANS = {"rdma-100g": 0.21, "ethernet-10g": 0.20}
"""Links on which NCCL was not steady; elsewhere 15 % holds."""

# Measurements that the link was not fitted to: link, raw GB/s, machine, inside a server, rails, and the largest error
# over all rows and for one collective and group.
HELD_OUT = {
    "h100 of vidur": ("nvlink-h100", 450.0, "h100_dgx", True, 8, 0.11, 0.14),
    "h200 by h100": ("nvlink-h100", 450.0, "H200-SXM-141GB", True, 8, 0.11, 0.23),
    "h100 by h200": ("nvlink-h200", 450.0, "H100-SXM-80GB", True, 8, 0.11, 0.18),
    "a100 bridges": ("nvlink-bridge", 300.0, "a100_pairwise_nvlink 2", True, 8, 0.08, 0.08),
    "a100 pairs": ("pcie-pairs", 31.5, "a100_pairwise_nvlink 4", True, 8, 0.08, 0.08),
    "a100 servers of 8": ("rdma-100g", 12.5, "a100_dgx of 8", False, 4, 0.37, 0.37),
}


@pytest.fixture(scope="module")
def measured(reference: Path) -> dict[str, Collectives]:
    operators = reference / "operators"
    rows = read_vidur(operators / "vidur_collectives.csv")
    found = {name: rows.where(rows.platform == name) for name in np.unique(rows.platform).tolist()}
    for name in ("a100_pairwise_nvlink", "h100_pairwise_nvlink"):
        pairs = found.pop(name)
        found |= {f"{name} {count}": pairs.where(pairs.workers == count) for count in (2, 4)}
    dgx = found["a100_dgx"]
    found["a100_dgx to 4"] = dgx.where(dgx.per_node <= 4)
    found["a100_dgx of 8"] = dgx.where(dgx.per_node == 8)
    return found | {folder.name: read_apex(folder) for folder in sorted((operators / "apex_nccl").iterdir())}


def rows_of(measured: dict[str, Collectives], machine: str, inside: bool) -> Collectives:
    rows = measured[machine]
    rows = rows.where((rows.workers == rows.per_node) == inside)
    return rows.where(rows.message_bytes >= LEAST_BYTES)


def medians(
    profile: LinkProfile, raw_gb_per_s: float, rows: Collectives, rails: int = 8
) -> tuple[float, dict[tuple[str, int, int], float]]:
    """Return the median error over all rows, and for each collective, group and workers of a server.

    Between servers the links inside count as infinitely fast.
    """
    each, everything = {}, []
    for (_, name, workers, per_node), part in rows.groups():
        if workers == per_node:
            hops = (Hop(workers, 0.0, raw_gb_per_s * 1e9, profile),)
        else:
            shared = max(1.0, per_node / rails)
            inner = (Hop(per_node, 0.0, 1e15),) if per_node > 1 else ()
            hops = (*inner, Hop(workers // per_node, 0.0, raw_gb_per_s * 1e9 / shared, profile))
        seconds = FUNCTIONS[name](part.message_bytes, Group(hops), BY_HAND).seconds
        error = np.abs(seconds / part.seconds - 1)
        each[name, workers, per_node] = float(np.median(error))
        everything.append(error)
    return float(np.median(np.concatenate(everything))), each


@pytest.mark.parametrize("name", FITS)
def test_catalogued_links_against_what_they_were_fitted_to(name: str, measured: dict[str, Collectives]) -> None:
    """Above 64 KB. NCCL inside a server: the median of every collective and group within 17 %."""
    raw, machine, inside, how = FITS[name]
    overall, each = medians(link_profile(name), raw, rows_of(measured, machine, inside), int(how.get("rails", 8)))
    assert overall <= MEDIANS.get(name, 0.15)
    if inside:
        assert max(each.values()) <= 0.17


@pytest.mark.parametrize("name", FITS)
def test_the_catalogue_holds_the_fit(name: str, measured: dict[str, Collectives]) -> None:
    """The minimum may be flat, so times are compared: 3 % in the median."""
    raw, machine, inside, how = FITS[name]
    fitted = fit_links(rows_of(measured, machine, inside), raw, name=name, **how)  # type: ignore[arg-type]
    sizes = np.geomspace(1e5, 1e8, 20)
    for function in FUNCTIONS.values():
        old, new = (
            function(sizes, Group((Hop(2, 0.0, raw * 1e9, profile),)), BY_HAND).seconds
            for profile in (link_profile(name), fitted)
        )
        assert np.median(np.abs(new / old - 1)) <= 0.03


@pytest.mark.parametrize("name", HELD_OUT)
def test_links_predict_what_they_were_not_fitted_to(name: str, measured: dict[str, Collectives]) -> None:
    link, raw, machine, inside, rails, median, most = HELD_OUT[name]
    overall, each = medians(link_profile(link), raw, rows_of(measured, machine, inside), rails)
    assert overall <= median
    assert max(each.values()) <= most


@pytest.mark.parametrize("left_out", [2, 4, 8])
@pytest.mark.parametrize("name", ["nvlink-h100", "nvlink-h200", "nvlink-a100"])
def test_a_group_size_from_the_others(name: str, left_out: int, measured: dict[str, Collectives]) -> None:
    raw, machine, inside, how = FITS[name]
    rows = rows_of(measured, machine, inside)
    fitted = fit_links(rows.where(rows.workers != left_out), raw, name=name, **how)  # type: ignore[arg-type]
    overall, each = medians(fitted, raw, rows.where(rows.workers == left_out))
    # Sends are measured between 2 alone: without these their bandwidth is that of a ring.
    assert overall <= (0.20 if (name, left_out) == ("nvlink-a100", 2) else 0.15)
    assert max(each.values()) <= 0.20


def test_the_median_over_everything(measured: dict[str, Collectives]) -> None:
    """Each machine, collective and group counts once: the median of their medians."""
    found = []
    for name, (raw, machine, inside, how) in FITS.items():
        rows = rows_of(measured, machine, inside)
        found += medians(link_profile(name), raw, rows, int(how.get("rails", 8)))[1].values()
    assert np.median(found) <= 0.15


def test_rings_between_servers_are_flat(measured: dict[str, Collectives]) -> None:
    """4 GPUs of 2 A100 servers take, at 64 MB, ¾ of the time of 2 as flat rings say; reducing inside first, half."""
    rows = rows_of(measured, "a100_dgx", False)
    largest = rows.where((rows.message_bytes == 2**26) & (rows.collective == "all_reduce"))
    two, four = (float(largest.seconds[largest.workers == count][0]) for count in (2, 4))
    assert four / two == pytest.approx(1.5 / 2, rel=0.05)


@pytest.mark.parametrize("name", link_profile_names())
def test_the_custom_kernel_serves_small_messages_only(name: str) -> None:
    """It is the faster one up to 128 KB; NCCL takes over at 8 MB at the latest."""
    kernel = link_profile(name).custom_all_reduce
    if kernel is None:
        return
    raw = {"nvlink-a100": 300e9, "nvlink-b200": 900e9}.get(name, 450e9)
    sizes = 2.0 ** np.arange(9, 28)
    for members in (2, 4, 8):
        group = Group((Hop(members, 0.0, raw, link_profile(name)),))
        library = ring_all_reduce(sizes, group, BY_HAND).seconds
        engine = all_reduce(sizes, group, BY_HAND).seconds
        assert (engine <= library).all()
        assert (engine[sizes <= 2**17] < library[sizes <= 2**17]).all()
        assert (engine[sizes >= 2**24] == library[sizes >= 2**24]).all()
        assert (np.diff(engine) > 0).all()


def test_tables_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no \.csv"):
        read_apex(tmp_path)
    (tmp_path / "bad.csv").write_text("gpu\nh100\n")
    with pytest.raises(SpecError, match="bad"):
        read_vidur(tmp_path / "bad.csv")
    with pytest.raises(SpecError, match="absent"):
        read_vidur(tmp_path / "absent.csv")
