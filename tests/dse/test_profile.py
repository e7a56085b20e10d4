"""Measuring one's own GPU, with a bench that reckons instead of one that measures; and PyTorch if it is there."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.calibration.operators import fit_kernels
from dse.cli.main import main
from dse.measurements.collectives import read_vidur
from dse.measurements.operator_tables import read_operator_tables
from dse.profiling.points import (
    Collective,
    Decode,
    Pass,
    Point,
    Prefill,
    Product,
    collective_sweep,
    shapes,
    sweep,
)
from dse.profiling.runner import Unmeasured, measure
from dse.profiling.table import Measured, check_folder, write_profile
from simulator import SpecError, catalog
from simulator.performance.attention import AttentionShape, decode_seconds, layer_attention, prefill_seconds
from simulator.performance.element_wise import pass_over
from simulator.performance.matrix_product import product
from simulator.performance.roofline import Chip

WITHOUT_TORCH = importlib.util.find_spec("torch") is None


def dse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["dse", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


class Reckoned:
    """A bench whose times are those of the cost model on an H100."""

    def __init__(self) -> None:
        chip = catalog.accelerator("h100-sxm")
        self.kernels = catalog.kernel_profile("h100-sxm")
        self.bandwidth = chip.memory_bandwidth_bytes_per_s
        self.chips = {
            precision: Chip(chip.peak_flops(precision), self.bandwidth, chip.streaming_multiprocessors)
            for precision in ("bf16", "fp8")
        }

    def seconds(self, point: Point) -> list[float]:
        exact = self._exact(point)
        return [0.9 * exact, exact, exact, 1.3 * exact]

    def _exact(self, point: Point) -> float:
        if isinstance(point, Product):
            kernels, one = self.kernels.product(point.precision), 2.0 if point.precision == "bf16" else 1.0
            at = np.array([float(point.m)])
            chip = self.chips[point.precision]
            return float(product(at, point.k, point.n, weight_bytes=one, chip=chip, kernels=kernels).seconds[0])
        if isinstance(point, Pass):
            if point.tokens > 10_000:
                raise Unmeasured("out of memory")
            kernels = getattr(self.kernels, point.kind)
            return float(pass_over(np.array([float(point.elements)]), self.bandwidth, kernels).seconds[0])
        kv_bytes = 2 * 2 * point.kv_heads * point.head_dim
        shape = AttentionShape(point.heads, point.kv_heads, point.head_dim, point.head_dim, kv_bytes)
        times = layer_attention(shape, self.chips["bf16"], self.kernels.attention)
        if isinstance(point, Prefill):
            return float(prefill_seconds(times, np.array(float(point.chunk)), np.array(float(point.before))))
        return float(decode_seconds(times, np.array(float(point.sequences)), np.array(float(point.context))))

    def collectives(self, points: Sequence[Collective]) -> list[Measured]:
        return [Measured(point, (1e-5 + point.message_bytes * 1e-11,)) for point in points]

    def machine(self) -> dict[str, Any]:
        return {"platform": "NVIDIA H100 80GB HBM3", "devices": 4}


def test_shapes_are_those_of_real_models() -> None:
    (llama,) = shapes(quick=True)
    # Q with keys and values; O; gate with up; down; the output head.
    assert llama.products == ((4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096), (4096, 128256))
    eighth = next(shape for shape in shapes(quick=False) if shape.group == "llama-3.1-70b tp8")
    assert (eighth.hidden, eighth.heads, eighth.kv_heads, eighth.inner) == (8192, 8, 1, 3584)


def test_every_point_is_measured_once() -> None:
    for points in (sweep(quick=True), sweep(quick=False, precisions=("bf16", "fp8"))):
        alike = {(type(point), *(value for key, value in vars(point).items() if key != "group")) for point in points}
        assert len(alike) == len(points)
        assert {type(point) for point in points} == {Product, Prefill, Decode, Pass}
    # What FP8 kernels ask: widths of whole 16s; and the head is not quantised.
    eight = [point for point in points if isinstance(point, Product) and point.precision == "fp8"]
    assert eight
    assert all(point.k % 16 == point.n % 16 == 0 and point.n < 100_000 for point in eight)
    assert {point.workers for point in collective_sweep(6, quick=True)} == {2, 4, 6}
    assert collective_sweep(1, quick=True) == []


def test_a_profile_is_what_dse_calibrate_reads(tmp_path: Path) -> None:
    bench = Reckoned()
    points = sweep(quick=True, precisions=("bf16", "fp8"))
    points += [Pass("large", "norm", 20_000, 64, 64, 1)]
    done: list[int] = []
    found, left_out = measure(points, bench, done.append)
    assert left_out == {"out of memory": 1}
    assert done == list(range(1, len(points) + 1))
    found += bench.collectives(collective_sweep(4, quick=True))
    files = write_profile(tmp_path / "h100", found, {**bench.machine(), "left_out": left_out})
    tables = sorted((tmp_path / "h100" / "kernels").glob("*.csv"))
    assert [file.name for file in tables] == ["decodes.csv", "passes.csv", "prefills.csv", "products.csv"]
    assert {*tables, tmp_path / "h100" / "links.csv", tmp_path / "h100" / "machine.json"} == set(files)

    measured = read_operator_tables(tables)
    assert (len(measured.products), len(measured.prefills)) == (4 * 6 + 5 + 4 * 6, 6)
    row = measured.products.query("precision == 'fp8' and m == 256 and k == 14336").iloc[0]
    exact = bench._exact(Product("", "fp8", 256, 14336, 4096))
    assert row["seconds"] == pytest.approx(exact, rel=1e-4)
    assert (measured.decodes["context"] == measured.decodes["sequences"] * 512).sum() == 3

    links = read_vidur(tmp_path / "h100" / "links.csv")
    assert len(links.seconds) == len(collective_sweep(4, quick=True))
    assert set(links.platform) == {"NVIDIA H100 80GB HBM3"}
    at = (links.collective == "all_reduce") & (links.workers == 4) & (links.message_bytes == 1 << 28)
    assert links.seconds[at] == pytest.approx([1e-5 + (1 << 28) * 1e-11], rel=1e-4)
    assert json.loads((tmp_path / "h100" / "machine.json").read_text())["left_out"] == left_out

    # Measured where the kernels are those of the catalogue, the fit finds them again.
    profile = fit_kernels(measured, catalog.accelerator("h100-sxm"))
    assert profile.calibrated == "yes"
    assert max(residual.in_sample_percent for residual in profile.residuals.values()) < 3
    assert profile.product("bf16").memory_share == pytest.approx(bench.kernels.product("bf16").memory_share, rel=0.05)
    assert profile.norm.memory_share == pytest.approx(bench.kernels.norm.memory_share, rel=0.02)

    with pytest.raises(SpecError, match="holds a profile"):
        check_folder(tmp_path / "h100")
    with pytest.raises(SpecError, match="is no folder"):
        check_folder(files[0])
    with pytest.raises(SpecError, match="no folder"):
        check_folder(tmp_path / "not" / "there")


def test_times_are_medians_and_their_spread() -> None:
    one = Measured(Product("", "bf16", 1, 1, 1), (1.0, 5.0, 2.0, 3.0, 4.0))
    assert (one.median_s, one.spread) == (3.0, pytest.approx(2 / 3))
    assert Measured(one.point, (1.0,)).spread == 0


@pytest.mark.skipif(not WITHOUT_TORCH, reason="PyTorch is installed")
def test_without_torch_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dse(monkeypatch, "profile", "--quick") == 2
    assert "pip install torch" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--device", "tpu"), "--device: must be cuda or cpu"), (("--device", "cpu"), "only with --quick")],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dse(monkeypatch, "profile", *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_processor_is_measured_with_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    folder = tmp_path / "try"
    assert dse(monkeypatch, "profile", "--device", "cpu", "--quick", "--out", str(folder)) == 0
    assert "18 measured" in capsys.readouterr().out
    measured = read_operator_tables(sorted((folder / "kernels").glob("*.csv")))
    assert (len(measured.products), len(measured.prefills), len(measured.decodes), len(measured.passes)) == (8, 2, 2, 6)
    assert (measured.products["seconds"] > 0).all()
    machine = json.loads((folder / "machine.json").read_text())
    assert machine["left_out"] == {}
    assert machine["attention"] == "sdpa"
