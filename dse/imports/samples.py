"""Prometheus samples: the text that a server exposes, or what Prometheus answers to a range query."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from simulator.errors import SpecError

_LINE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

Series = dict[tuple[str, frozenset[tuple[str, str]]], list[tuple[float, float]]]
"""Values over time, by name and labels."""


@dataclass(frozen=True)
class Samples:
    """What metrics say: increases over a time, or totals since a server's start.

    Attributes
    ----------
    increases
        By name and labels: how much counters (and buckets of histograms) grew.
    seconds
        Over which time; None if the file holds totals.
    steps
        By name: increases of each step of a range query, summed over labels, with the step's seconds.
    """

    increases: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
    seconds: float | None
    steps: Mapping[str, tuple[list[float], float]]

    def total(self, *names: str) -> float | None:
        """Return the sum over labels of the first of these counters that is there; None if none is."""
        for name in names:
            found = [value for (of, _), value in self.increases.items() if of == name]
            if found:
                return math.fsum(found)
        return None

    def buckets(self, name: str) -> list[tuple[float, float]]:
        """Return the upper edges of a histogram and how many are at most that, summed over labels."""
        found: dict[float, float] = {}
        for (of, labels), value in self.increases.items():
            if of == f"{name}_bucket":
                edge = float(dict(labels)["le"])
                found[edge] = found.get(edge, 0.0) + value
        return sorted(found.items())


def read_samples(before_or_all: Path, after: Path | None = None, seconds: float | None = None) -> Samples:
    """Return the samples of a range query (JSON), of one exposition, or the growth between two.

    Parameters
    ----------
    before_or_all
        A file.
    after
        A later exposition; what happened between is counted.
    seconds
        Time between the two.

    Raises
    ------
    SpecError
        If a file cannot be read as either.
    """
    text = _text(before_or_all)
    if text.lstrip().startswith("{"):
        if after is not None:
            raise SpecError(f"{after}: a second file goes with an exposition, not with a range query")
        return _of_query(text, before_or_all)
    first = _of_exposition(text, before_or_all)
    if after is None:
        return Samples(first, None, {})
    later = _of_exposition(_text(after), after)
    grown = {key: value - first.get(key, 0.0) for key, value in later.items()}
    if any(value < -1e-9 for value in grown.values()):
        raise SpecError(
            f"{after}: counters fell since {before_or_all}: the server was started again, or the order is wrong"
        )
    return Samples(grown, seconds, {})


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a UTF-8 text file") from None


def _of_exposition(text: str, path: Path) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        try:
            if match is None:
                raise ValueError
            value = float(match[3])
        except ValueError:
            raise SpecError(f"{path} line {number}: no Prometheus sample: {line[:60]!r}") from None
        if _counts(match[1]):
            found[match[1], frozenset(_LABEL.findall(match[2] or ""))] = value
    return found


def _counts(name: str) -> bool:
    """Return whether a sample only grows: a counter, or a part of a histogram."""
    return name.endswith(("_total", "_count", "_sum", "_bucket"))


def _of_query(text: str, path: Path) -> Samples:
    try:
        data = json.loads(text)
        results = data["data"]["result"] if "data" in data else data["result"]
        series = [(dict(each["metric"]), [(float(t), float(v)) for t, v in each["values"]]) for each in results]
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(
            f"{path}: no answer of /api/v1/query_range (data.result with metric and values): {error}"
        ) from None
    increases: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    by_time: dict[str, dict[float, float]] = {}
    times: set[float] = set()
    for labels, values in series:
        name = labels.pop("__name__", "")
        if not name:
            raise SpecError(f"{path}: a series has no name: query the metrics themselves, not rate(…) or sum(…)")
        values.sort()
        times.update(time for time, _ in values)
        grown = 0.0
        for (_, last), (time, value) in pairwise(values):
            # A counter that falls was reset to 0.
            step = value - last if value >= last else value
            grown += step
            if not name.endswith("_bucket"):
                of_name = by_time.setdefault(name, {})
                of_name[time] = of_name.get(time, 0.0) + step
        key = (name, frozenset((str(label), str(value)) for label, value in labels.items()))
        increases[key] = increases.get(key, 0.0) + grown
    if len(times) < 2:
        raise SpecError(f"{path}: needs at least two times to tell a rate")
    seconds = max(times) - min(times)
    step_s = seconds / (len(times) - 1)
    steps = {name: ([grown for _, grown in sorted(each.items())], step_s) for name, each in by_time.items()}
    return Samples(increases, seconds, steps)
