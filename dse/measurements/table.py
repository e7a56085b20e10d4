"""Measured runs in plain CSV: one row a run, or one row a request.

**One row a run**

=================================================  ===================================================================
``name``                                           of the run; the row's number if absent
``deployment``                                     YAML of what was served, relative to the CSV; or ``model`` and
                                                   ``accelerator`` with any of ``tp``, ``pp``, ``dp``, ``ep``,
                                                   ``clients``, ``weights``, ``kv``, ``engine``,
                                                   ``token_budget_tokens``, ``max_batch_requests``, ``blocks``
``prompt_tokens``, ``output_tokens``               of every request, or the mean
``shortest_share``                                 lengths are uniform from this share of them (1: all alike)
``rate_rps`` and ``burstiness_cv``, ``concurrency``  the load: open loop (1: Poisson, 0: equal gaps), or users
``requests``                                       how many; 10 a user, or 500
``ttft_mean_s``, ``tpot_p99_ms``, ``e2e_p50_s`` …  measured: ``ttft``, ``tpot``, ``e2e`` with ``mean`` or a percentile
``requests_per_s``, ``output_tokens_per_s``, ``power_w``  measured; power is that of one accelerator
=================================================  ===================================================================

Any other column is a label to group by.

**One row a request**: ``arrival_s``, ``prompt_tokens``, ``output_tokens``, and ``ttft_ms`` or ``e2e_ms`` (or in ``_s``)
or both; ``run`` separates several runs.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, Final

import numpy as np

from dse.measurements.load import Given, Load, Records, measured_run, number, read_deployment, whole
from dse.measurements.measured_run import MeasuredRun
from simulator import Deployment
from simulator.errors import SpecError

POOL_TEXTS: Final = ("model", "accelerator", "weights", "kv", "engine")
POOL_COUNTS: Final = ("tp", "pp", "dp", "ep", "clients")
BATCHING_COUNTS: Final = ("token_budget_tokens", "max_batch_requests")
LOAD: Final = (
    "prompt_tokens",
    "output_tokens",
    "shortest_share",
    "rate_rps",
    "burstiness_cv",
    "concurrency",
    "requests",
)
PLAIN_FIGURES: Final = ("requests_per_s", "output_tokens_per_s", "power_w")
REQUESTS: Final = 500
"""Requests of an open loop where nothing is said."""

REQUEST_COLUMNS: Final = ("arrival_s", "prompt_tokens", "output_tokens")

_LATENCY: Final = re.compile(r"(ttft|tpot|e2e)_(mean|p\d+(?:\.\d+)?)_(ms|s)")
_SECONDS: Final = {"ms": 1e-3, "s": 1.0}


def is_request_table(columns: list[str]) -> bool:
    """Whether a CSV with these columns has one row a request."""
    return set(REQUEST_COLUMNS) <= set(columns)


def is_run_table(columns: list[str]) -> bool:
    """Whether a CSV with these columns has one row a run."""
    return any(_LATENCY.fullmatch(column) or column in PLAIN_FIGURES for column in columns)


def read_table(text: str, file: Path, given: Given) -> list[MeasuredRun]:
    """Return the runs of a CSV of either form.

    Raises
    ------
    SpecError
        Naming the row and column at fault.
    """
    reader = csv.DictReader(io.StringIO(text))
    columns = list(reader.fieldnames or ())
    rows = [row for row in reader if any(row.values())]
    if not rows:
        raise SpecError(f"{file}: no row in it")
    if is_request_table(columns):
        return _of_requests(rows, columns, file, given)
    if not is_run_table(columns):
        raise SpecError(
            f"{file}: no measured column; expected {', '.join(REQUEST_COLUMNS)} with ttft_ms, e2e_ms for one row a "
            f"request, or one of ttft_mean_s, tpot_mean_s, e2e_mean_s (mean or p50, p90 …; s or ms), "
            f"{', '.join(PLAIN_FIGURES)} for one row a run"
        )
    return [_of_row(row, index, file, given) for index, row in enumerate(rows)]


def _of_requests(rows: list[dict[str, Any]], columns: list[str], file: Path, given: Given) -> list[MeasuredRun]:
    if not {"ttft_ms", "ttft_s", "e2e_ms", "e2e_s"} & set(columns):
        raise SpecError(f"{file}: no measured column; expected ttft_ms, e2e_ms or both")
    groups: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.get("run") or file.stem, []).append((index, row))
    deployment = given.deployment_of(file)
    runs = []
    for name, group in groups.items():

        def column(wanted: str, group: list[tuple[int, dict[str, Any]]] = group) -> Any:
            return np.array([number(row[wanted], wanted, f"{file} row {index + 1}") for index, row in group])

        def seconds(metric: str, group: list[tuple[int, dict[str, Any]]] = group) -> Any:
            for unit, factor in _SECONDS.items():
                name = f"{metric}_{unit}"
                if name in columns:
                    cells = [(row[name] or "nan", index) for index, row in group]
                    return np.array([factor * number(cell, name, f"{file} row {index + 1}") for cell, index in cells])
            return np.full(len(group), np.nan)

        records = Records(
            start_s=column("arrival_s"),
            prompt_tokens=whole(column("prompt_tokens"), "prompt_tokens", str(file)),
            output_tokens=whole(column("output_tokens"), "output_tokens", str(file)),
            ttft_s=seconds("ttft"),
            e2e_s=seconds("e2e"),
        )
        load = {"load": f"{given.concurrency} users" if given.concurrency else "as recorded"}
        requests = records.requests(given.concurrency)
        runs.append(measured_run(name, deployment, requests, records.figures(), labels=load))
    return runs


def _of_row(row: Mapping[str, Any], index: int, file: Path, given: Given) -> MeasuredRun:
    name = row.get("name") or f"row {index + 1}"
    source = f"{file} row {index + 1} ({name})"
    cells = {key: value.strip() for key, value in row.items() if key and isinstance(value, str) and value.strip()}

    def value(field: str, absent: float | None = None) -> float:
        if field not in cells:
            if absent is None:
                raise SpecError(f"{source}: {field}: missing")
            return absent
        return number(cells[field], field, source)

    deployment, described = _deployment(cells, source, file, given)
    users = int(value("concurrency")) if "concurrency" in cells else given.concurrency
    rate = value("rate_rps", given.rate_rps or inf)
    if users is None and rate == inf:
        raise SpecError(f"{source}: rate_rps or concurrency: one of them is needed")
    load = Load(
        requests=int(value("requests", 10.0 * users if users and rate == inf else REQUESTS)),
        prompt_tokens=value("prompt_tokens"),
        output_tokens=value("output_tokens"),
        rate_rps=rate,
        burstiness_cv=value("burstiness_cv", 1.0),
        concurrency=users,
        shortest_share=value("shortest_share", 1.0),
    )
    found: dict[str, float] = {field: value(field) for field in PLAIN_FIGURES if field in cells}
    labels = {"load": f"{rate:g}/s" if rate < inf else f"{users} users"}
    for field in cells:
        match = _LATENCY.fullmatch(field)
        if match:
            found[f"{match[1]}_{match[2]}_s"] = _SECONDS[match[3]] * value(field)
        elif field not in (*LOAD, *PLAIN_FIGURES, *described, "name", "deployment"):
            labels[field] = cells[field]
    return measured_run(name, deployment, load.build(), found, labels=labels)


def _deployment(cells: Mapping[str, str], source: str, file: Path, given: Given) -> tuple[Deployment, tuple[str, ...]]:
    """Return what a row's run was served by, and the columns that say so."""
    if "deployment" in cells:
        return read_deployment(file.parent / cells["deployment"]), ()
    if not {"model", "accelerator"} <= set(cells) or given.deployment is not None:
        return given.deployment_of(file), ()
    pool: dict[str, Any] = {name: cells[name] for name in POOL_TEXTS if name in cells}
    pool |= {name: int(number(cells[name], name, source)) for name in POOL_COUNTS if name in cells}
    batching = {name: int(number(cells[name], name, source)) for name in BATCHING_COUNTS if name in cells}
    if batching:
        pool["batching"] = batching
    if "blocks" in cells:
        pool["kv_memory"] = {"blocks": int(number(cells["blocks"], "blocks", source))}
    return Deployment.parse({"pools": [pool]}, source=source), (
        *POOL_TEXTS,
        *POOL_COUNTS,
        *BATCHING_COUNTS,
        "blocks",
    )
