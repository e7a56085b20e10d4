"""The folder of a profile: what was measured, in the tables that ``dse calibrate`` reads.

=================  =============================================================================================
``kernels/*.csv``  products, prefills, decodes, passes (:mod:`dse.measurements.operator_tables`)
``links.csv``      collectives among several accelerators (:func:`dse.measurements.collectives.read_vidur`)
``machine.json``   accelerator, clocks, driver, versions, what was left out
=================  =============================================================================================
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from dse.output import write_whole
from dse.profiling.points import Collective, Decode, Pass, Point, Prefill, Product
from simulator.errors import SpecError

KERNELS, LINKS, MACHINE = "kernels", "links.csv", "machine.json"

TABLES: Final[dict[type[Point], tuple[str, tuple[str, ...]]]] = {
    Product: ("products", ("group", "precision", "m", "k", "n")),
    Prefill: ("prefills", ("group", "heads", "kv_heads", "head_dim", "chunk", "before")),
    Decode: ("decodes", ("group", "heads", "kv_heads", "head_dim", "sequences", "context")),
    Pass: ("passes", ("group", "kind", "elements", "tokens", "width")),
}
"""File and columns of every kind of point; ``time_us``, ``spread`` and ``repeats`` follow."""

LINK_COLUMNS: Final = ("platform", "collective", "size_bytes", "num_workers", "devices_per_node", "median_ms")


@dataclass(frozen=True)
class Measured:
    """Times of one point, seconds of each repeat."""

    point: Point | Collective
    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The median."""
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """The distance of the quartiles over the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / self.median_s


def check_folder(folder: Path) -> None:
    """Check before hours of measuring that a profile can be written, and that none is overwritten.

    Raises
    ------
    SpecError
        Naming the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise SpecError(f"--out: {folder} is no folder; a profile is a folder of tables")
    if (folder / MACHINE).exists():
        raise SpecError(f"--out: {folder} holds a profile; remove it or choose another folder")
    if not folder.parent.is_dir():
        raise SpecError(f"--out: {folder}: cannot write there: no folder {folder.parent}")


def write_profile(folder: Path, measured: Sequence[Measured], machine: dict[str, Any]) -> list[Path]:
    """Write what was measured; return the files.

    Parameters
    ----------
    folder
        Made if it is not there.
    measured
        Points with their times.
    machine
        What is known of the accelerator and the software; ``platform`` names it.
    """
    (folder / KERNELS).mkdir(parents=True, exist_ok=True)
    files = []
    for kind, (name, columns) in TABLES.items():
        rows = [each for each in measured if isinstance(each.point, kind)]
        if rows:
            files.append(folder / KERNELS / f"{name}.csv")
            lines = [_kernel_row(each, columns) for each in rows]
            _write_csv(files[-1], (*columns, "time_us", "spread", "repeats"), lines)
    links = [each for each in measured if isinstance(each.point, Collective)]
    if links:
        files.append(folder / LINKS)
        _write_csv(files[-1], LINK_COLUMNS, [_link_row(each, str(machine["platform"])) for each in links])
    files.append(folder / MACHINE)
    text = json.dumps(machine, indent=2)
    write_whole(files[-1], lambda path: path.write_text(text + "\n", encoding="utf-8"))
    return files


def _kernel_row(each: Measured, columns: Sequence[str]) -> list[object]:
    figures = [f"{each.median_s * 1e6:.6g}", f"{each.spread:.3g}", len(each.seconds)]
    return [*(getattr(each.point, column) for column in columns), *figures]


def _link_row(each: Measured, platform: str) -> list[object]:
    point = each.point
    assert isinstance(point, Collective)
    what = asdict(point)
    workers = what["workers"]
    return [platform, what["collective"], what["message_bytes"], workers, workers, f"{each.median_s * 1e3:.6g}"]


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    def write(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as lines:
            table = csv.writer(lines, lineterminator="\n")
            table.writerow(columns)
            table.writerows(rows)

    write_whole(path, write)
