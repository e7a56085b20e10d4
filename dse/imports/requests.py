"""A trace from a log of requests: CSV or JSON lines, as gateways and engines write them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from simulator.errors import SpecError

TIMES: Final = (
    "arrival_s", "arrival_time", "arrived_at", "timestamp", "TIMESTAMP", "time", "ts", "@timestamp", "start_time",
    "request_start_time", "startTime", "created_at", "created", "received_at", "datetime", "date",
)  # fmt: skip
PROMPTS: Final = (
    "prompt_tokens", "usage.prompt_tokens", "response.usage.prompt_tokens", "input_tokens", "usage.input_tokens",
    "num_prompt_tokens", "prompt_len", "input_length", "input_len", "ContextTokens", "prompt_token_count",
    "Request tokens",
)  # fmt: skip
OUTPUTS: Final = (
    "completion_tokens", "usage.completion_tokens", "response.usage.completion_tokens", "output_tokens",
    "usage.output_tokens", "num_generation_tokens", "generation_tokens", "output_length", "output_len",
    "GeneratedTokens", "completion_token_count", "Response tokens",
)  # fmt: skip
SECONDS_OF: Final = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))
"""Numbers from which a time since 1970 is in nanoseconds, microseconds, milliseconds; below in seconds."""


@dataclass(frozen=True)
class RequestLog:
    """A trace as the simulator reads it, and what became of the rows.

    Attributes
    ----------
    csv
        ``arrival_s,prompt_tokens,output_tokens``, by arrival, the first at 0.
    requests
        Rows in it.
    notes
        Columns that were read, and rows that were left out.
    """

    csv: str
    requests: int
    notes: tuple[str, ...]


def import_requests(
    path: str | Path, *, time: str | None = None, prompt: str | None = None, output: str | None = None
) -> RequestLog:
    """Return the trace of a log.

    Parameters
    ----------
    path
        CSV with a header, JSON lines, or a JSON list of objects; keys within objects are joined by dots.
    time, prompt, output
        Columns with the arrival, the prompt's tokens and the output's; found by usual names if absent. Times are dates,
        or numbers since any origin; large ones are told to be milli-, micro- or nanoseconds by their size.

    Raises
    ------
    SpecError
        If the file cannot be read, a column is not found, or no row is left.
    """
    rows = list(_rows(Path(path)))
    if not rows:
        raise SpecError(f"{path}: holds no request")
    columns = {
        "--time": _column(rows, time, TIMES, "--time", path),
        "--prompt": _column(rows, prompt, PROMPTS, "--prompt", path),
        "--output": _column(rows, output, OUTPUTS, "--output", path),
    }
    found: list[tuple[float, int, int]] = []
    left_out = 0
    for number, row in enumerate(rows, 1):
        tokens = [_tokens(row.get(columns[option])) for option in ("--prompt", "--output")]
        given = row.get(columns["--time"])
        if given in (None, "") or min(tokens) < 1:
            left_out += 1
            continue
        found.append((_seconds(given, f"{path}: request {number}, {columns['--time']}"), tokens[0], tokens[1]))
    if not found:
        raise SpecError(f"{path}: no request has a time, a prompt and an output of at least one token")
    found.sort(key=lambda each: each[0])
    start = found[0][0]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arrival_s", "prompt_tokens", "output_tokens"])
    writer.writerows((f"{at - start:.9g}" if at - start < 1e3 else f"{at - start:.6f}", p, o) for at, p, o in found)
    notes = [f"read the columns {', '.join(columns.values())}."]
    if left_out:
        notes.append(
            f"{left_out:,} of {len(rows):,} requests have no time or no tokens (failed, or cut off); left out."
        )
    return RequestLog(text.getvalue(), len(found), tuple(notes))


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a UTF-8 text file") from None
    start = text.lstrip()[:1]
    if start == "[":
        try:
            objects = json.loads(text)
        except ValueError as error:
            raise SpecError(f"{path}: not valid JSON: {error}") from None
        yield from (_flat(each, f"{path}: request {number}") for number, each in enumerate(objects, 1))
    elif start == "{":
        # Not splitlines(), which also cuts at characters that may stand within a text of JSON.
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    yield _flat(json.loads(line), f"{path} line {number}")
                except ValueError as error:
                    raise SpecError(f"{path} line {number}: not a JSON object: {error}") from None
    else:
        yield from _table(text)


def _table(text: str) -> list[Mapping[str, Any]]:
    # A logged prompt may be longer than the limit, which holds for all that is read in this process.
    usual = csv.field_size_limit()
    csv.field_size_limit(max(usual, len(text)))
    try:
        return list(csv.DictReader(io.StringIO(text)))
    finally:
        csv.field_size_limit(usual)


def _flat(value: Any, called: str, prefix: str = "") -> dict[str, Any]:
    """Return an object with the keys of objects within it joined by dots."""
    if not isinstance(value, dict):
        raise SpecError(f"{called}: must be an object with named fields")
    found: dict[str, Any] = {}
    for key, each in value.items():
        if isinstance(each, dict):
            found |= _flat(each, called, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = each
    return found


def _column(
    rows: Sequence[Mapping[str, Any]], given: str | None, usual: Sequence[str], option: str, path: object
) -> str:
    known = {name for row in rows[:100] for name in row}
    if given is not None:
        if given not in known:
            raise SpecError(f"{option}: no column {given!r} in {path}; there are: {', '.join(sorted(map(str, known)))}")
        return given
    for name in usual:
        if name in known:
            return name
    raise SpecError(f"{path}: which column is it? give {option}; there are: {', '.join(sorted(map(str, known))[:20])}")


def _tokens(value: Any) -> int:
    """Return a number of tokens, 0 for what is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0
    return int(number) if math.isfinite(number) else 0


def _seconds(value: Any, called: str) -> float:
    """Return a time in seconds since its origin."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        pass
    else:
        if not math.isfinite(number):
            raise SpecError(f"{called}: must be a time, given {value!r}")
        return number * next((factor for least, factor in SECONDS_OF if abs(number) >= least), 1.0)
    try:
        # Python reads up to six digits of a second.
        moment = datetime.fromisoformat(str(value).strip().replace("Z", "+00:00"))
    except ValueError:
        raise SpecError(f"{called}: must be a time such as 2026-11-16T18:15:46.68Z, given {value!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
