"""Files of measured runs in any format that is read: the format is told from the content."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from dse.measurements.aiperf import LATENCIES, read_aiperf_csv, read_aiperf_records, read_aiperf_summary
from dse.measurements.guidellm import read_guidellm
from dse.measurements.load import Given
from dse.measurements.measured_run import MeasuredRun
from dse.measurements.table import is_request_table, is_run_table, read_table
from dse.measurements.vllm_benchmark import read_vllm_benchmark
from simulator import Deployment
from simulator.errors import SpecError, unknown_name

FORMATS: Final = {
    "vllm": "vllm bench serve, benchmark_serving.py, SGLang bench_serving: JSON, JSON Lines",
    "aiperf": "AIPerf, GenAI-Perf: JSON or CSV summary, JSON Lines of requests",
    "guidellm": "GuideLLM: JSON",
    "table": "plain CSV: one row a run, or one row a request",
}

_VLLM: Final = {"mean_ttft_ms", "median_ttft_ms", "mean_tpot_ms", "mean_e2el_ms", "ttfts", "total_input_tokens"}


def read_runs(
    path: str | Path,
    deployment: Deployment | None = None,
    *,
    format: str | None = None,
    rate_rps: float | None = None,
    concurrency: int | None = None,
) -> list[MeasuredRun]:
    """Return the measured runs of a file.

    Parameters
    ----------
    path
        The file.
    deployment
        What was served; if None the file ``deployment.yaml`` beside it, or what a table says itself.
    format
        One of :data:`FORMATS`; told from the content if None.
    rate_rps, concurrency
        How requests were sent, where the file does not tell or tells something else.

    Raises
    ------
    SpecError
        Naming the file and field at fault.
    """
    file = Path(path)
    if format is not None and format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError(f"{file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{file}: not a UTF-8 text file") from None
    try:
        return _runs(text, file, Given(deployment, rate_rps, concurrency), format)
    except SpecError as error:
        if str(error).startswith(str(file)):
            raise
        raise SpecError(f"{file}: {error}") from None


def read_all(
    paths: Iterable[str | Path],
    deployment: Deployment | None = None,
    *,
    format: str | None = None,
    rate_rps: float | None = None,
    concurrency: int | None = None,
) -> list[MeasuredRun]:
    """Return the measured runs of several files, names made unique; see :func:`read_runs`."""
    found = [
        (Path(path), run)
        for path in paths
        for run in read_runs(path, deployment, format=format, rate_rps=rate_rps, concurrency=concurrency)
    ]
    names = [run.name for _, run in found]
    taken: set[str] = set()
    runs = []
    for file, run in found:
        name = run.name if names.count(run.name) == 1 else f"{file}: {run.name}"
        number = 2
        while name in taken:
            name, number = f"{name.rsplit(' #', 1)[0]} #{number}", number + 1
        taken.add(name)
        runs.append(run if name == run.name else MeasuredRun(**{**vars(run), "name": name}))
    return runs


def _runs(text: str, file: Path, given: Given, format: str | None) -> list[MeasuredRun]:
    if not text.lstrip().startswith(("{", "[")):
        return _of_csv(text, file, given, format)
    objects = _objects(text, file)
    found = format or _format_of(objects)
    if found == "guidellm":
        return read_guidellm(objects[0], file, given)
    if found == "aiperf":
        if "metadata" in objects[0]:
            return read_aiperf_records(objects, file, given)
        return read_aiperf_summary(objects[0], file, given)
    if found == "vllm":
        return read_vllm_benchmark(objects, file, given)
    raise SpecError(
        f"{file}: not told which tool wrote it; give --format, one of {', '.join(FORMATS)} (it begins with the fields "
        f"{', '.join(list(objects[0])[:6])})"
    )


def _of_csv(text: str, file: Path, given: Given, format: str | None) -> list[MeasuredRun]:
    head = next(csv.reader(io.StringIO(text)), [])
    if format == "aiperf" or (format is None and head[:1] == ["Metric"]):
        return read_aiperf_csv(text, file, given)
    if format in ("vllm", "guidellm"):
        raise SpecError(f"{file}: --format {format}: must be JSON")
    if format is None and not (is_request_table(head) or is_run_table(head)):
        raise SpecError(
            f"{file}: not told which tool wrote it; a table has columns as in docs/validation.md; "
            f"given {', '.join(head[:8]) or 'nothing'}"
        )
    return read_table(text, file, given)


def _objects(text: str, file: Path) -> list[Mapping[str, Any]]:
    """Return the object of a JSON file, those of its list, or those of its lines."""
    try:
        data = json.loads(text)
    except ValueError:
        data = []
        # Not splitlines(), which also cuts at characters that may stand within a text of JSON.
        for number, line in enumerate(text.split("\n"), 1):
            try:
                data += [json.loads(line)] if line.strip() else []
            except ValueError as error:
                raise SpecError(f"{file} line {number}: neither JSON nor JSON Lines: {error}") from None
    objects = data if isinstance(data, list) else [data]
    if not objects or not all(isinstance(each, dict) for each in objects):
        raise SpecError(f"{file}: must hold objects with named fields")
    return objects


def _format_of(objects: list[Mapping[str, Any]]) -> str | None:
    first = objects[0]
    if "benchmarks" in first:
        return "guidellm"
    records = isinstance(first.get("metadata"), dict) and ("metrics" in first or "error" in first)
    if records or "input_config" in first or "experiments" in first:
        return "aiperf"
    if any(isinstance(first.get(name), dict) for name in LATENCIES):
        return "aiperf"
    return "vllm" if _VLLM & set(first) else None
