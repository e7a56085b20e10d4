"""Finite studies solved to their end once: every design, the true front, its hypervolume.

A table is kept beside the compiled kernels, keyed by the study and by everything that decides what comes out.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dse.evaluation import Evaluation, evaluate, precheck
from dse.library import load_study
from dse.pareto import Floats, hypervolume, losses, non_dominated, reference_point
from dse.spec import StudySpec
from search_spaces import Design
from simulator import Requests, build_requests
from simulator.kernel import is_cached, warm_up

FINITE = ("finite-chat", "finite-code", "finite-rag")
"""The shipped studies that are small enough."""
ROOT = Path(__file__).parents[2]
DECIDING = ("simulator", "search_spaces", "dse/evaluation.py", "dse/objectives.py", "dse/pareto.py")
"""Sources a change of which may change a table."""
SEARCHED = {"name", "question", "budget", "sampler", "seed"}
"""Fields of a study that have no influence on what a design is worth."""
PROCESSES = 2
CHUNK = 200
"""Designs in a task."""
CONSTRAINT = "violation of "
"""Before the names of constraints, in columns."""


@dataclass(frozen=True, eq=False)
class Solved:
    """A study all of whose designs are known.

    Attributes
    ----------
    spec
        The study.
    table
        One row a design, in the order of the space: its choices, its objectives, whether it was ``simulated`` and is
        ``feasible``, the ``reason`` if it was not simulated, ``cpu_s``, and a column for every constraint (NaN where a
        design has none of this name).
    """

    spec: StudySpec
    table: pd.DataFrame

    @cached_property
    def designs(self) -> tuple[Design, ...]:
        """All designs, in the order of the rows."""
        return tuple(self.spec.space.space)

    @cached_property
    def row(self) -> dict[Design, int]:
        """The row of every design."""
        return {design: row for row, design in enumerate(self.designs)}

    @cached_property
    def losses(self) -> Floats:
        """Objectives, all to be minimised, shape (designs, objectives)."""
        return losses(self.table[list(self.spec.objectives)].to_numpy(dtype=np.float64), self.spec.objectives)

    @cached_property
    def feasible(self) -> npt.NDArray[np.bool_]:
        """Whether a design keeps every promise and limit, shape (designs,)."""
        return self.table["feasible"].to_numpy(dtype=np.bool_)

    @cached_property
    def simulated(self) -> npt.NDArray[np.bool_]:
        """Whether a design can be simulated at all, shape (designs,)."""
        return self.table["simulated"].to_numpy(dtype=np.bool_)

    @cached_property
    def front(self) -> npt.NDArray[np.intp]:
        """Rows of the true front, by the first objective."""
        rows = np.flatnonzero(self.feasible)
        return rows[non_dominated(self.losses[rows])]

    @cached_property
    def reference(self) -> Floats:
        """The worst values on the true front, and a tenth of its range more."""
        return reference_point(self.losses[self.front])

    @cached_property
    def hypervolume(self) -> float:
        """Volume that the true front dominates."""
        return hypervolume(self.losses[self.front], self.reference)

    def share(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> float:
        """Return the share of the true hypervolume that some designs reach; infeasible ones add nothing."""
        kept = [row for row in rows if self.feasible[row]]
        return hypervolume(self.losses[kept], self.reference) / self.hypervolume if kept else 0.0

    def evaluation(self, design: Design) -> Evaluation:
        """Return what a simulation would say of a design, without its figures."""
        row = self.row[design]
        return Evaluation(
            design=design,
            objectives=tuple(self._objectives[row]),
            constraints=self._constraints[row],
            reason=self._reasons[row],
            cpu_s=float(self._cpu_s[row]),
        )

    @cached_property
    def _objectives(self) -> list[list[float]]:
        values: list[list[float]] = self.table[list(self.spec.objectives)].to_numpy(dtype=np.float64).tolist()
        return values

    @cached_property
    def _constraints(self) -> list[dict[str, float]]:
        columns = [str(name) for name in self.table.columns if str(name).startswith(CONSTRAINT)]
        names = [name.removeprefix(CONSTRAINT) for name in columns]
        rows = self.table[columns].to_numpy(dtype=np.float64).tolist()
        return [{name: value for name, value in zip(names, row, strict=True) if not math.isnan(value)} for row in rows]

    @cached_property
    def _reasons(self) -> list[str]:
        return list(self.table["reason"])

    @cached_property
    def _cpu_s(self) -> Floats:
        return self.table["cpu_s"].to_numpy(dtype=np.float64)


def table_path(spec: StudySpec) -> Path:
    """Return where a study's table is kept, outside the tree."""
    digest = hashlib.sha256(spec.model_dump_json(exclude=SEARCHED, exclude_defaults=True).encode())
    for name in DECIDING:
        place = ROOT / name
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.suffix in {".py", ".yaml", ".json"}:
                digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    versions = " ".join(version(package) for package in ("numpy", "numba"))
    digest.update(f"{platform.python_version()} {platform.machine()} {versions}".encode())
    parent = os.environ.get("DSE_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dse"
    return Path(parent) / "solved" / f"{spec.name}-{digest.hexdigest()[:16]}.parquet"


@cache
def solved(name: str, again: bool = False) -> Solved:
    """Return a shipped finite study with the worth of every design; solve it first if that was not done yet.

    Parameters
    ----------
    name
        Of the study, see ``FINITE``.
    again
        Whether to solve it although its table is there.
    """
    spec = load_study(name)
    path = table_path(spec)
    if again or not path.exists():
        table = solve(spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(f".{os.getpid()}")
        table.to_parquet(written)
        written.replace(path)
    return Solved(spec, pd.read_parquet(path))


def solve(spec: StudySpec) -> pd.DataFrame:
    """Return the worth of every design of a study, evaluated in two processes that give way to others."""
    if not is_cached():
        warm_up()
    size, done, begin = spec.space.space.size, 0, time.perf_counter()
    chunks: dict[int, list[dict[str, Any]]] = {}
    with ProcessPoolExecutor(PROCESSES, initializer=_begin, initargs=(spec,)) as pool:
        tasks = [pool.submit(_rows, first) for first in range(0, size, CHUNK)]
        for task in as_completed(tasks):
            first, rows = task.result()
            chunks[first] = rows
            done += len(rows)
            passed = time.perf_counter() - begin
            print(
                f"\r{spec.name}: {done:,} of {size:,} designs, {passed:.0f} s, "
                f"{passed / done * (size - done):.0f} s to go   ",
                end="\n" if done == size else "",
                file=sys.stderr,
                flush=True,
            )
    table = pd.DataFrame([row for first in sorted(chunks) for row in chunks[first]])
    dimensions = spec.space.space.dimensions
    for dimension in dimensions:
        # What is inactive has no value, which a column of plain numbers cannot say.
        kinds = set(map(type, dimension.values))
        if kinds <= {int} or kinds <= {bool}:
            table[dimension.name] = table[dimension.name].astype("Int64" if int in kinds else "boolean")
    names = [dimension.name for dimension in dimensions]
    return table[names + [column for column in table.columns if column not in names]]


_study: StudySpec
_requests: Requests
_designs: tuple[Design, ...]


def _begin(spec: StudySpec) -> None:
    global _study, _requests, _designs
    if hasattr(os, "nice"):
        os.nice(10)
    _study, _requests, _designs = spec, build_requests(spec.workload), tuple(spec.space.space)


def _rows(first: int) -> tuple[int, list[dict[str, Any]]]:
    return first, list(_evaluated(islice(_designs, first, first + CHUNK)))


def _evaluated(designs: Iterator[Design]) -> Iterator[dict[str, Any]]:
    for design in designs:
        found = precheck(design, _study) or evaluate(design, _study, _requests)
        yield {
            **design,
            **dict(zip(_study.objectives, found.objectives, strict=True)),
            "simulated": found.simulated,
            "feasible": found.feasible,
            "reason": found.reason,
            "cpu_s": found.cpu_s,
            **{CONSTRAINT + name: violation for name, violation in found.constraints.items()},
        }
