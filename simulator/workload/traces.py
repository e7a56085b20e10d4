"""Readers of recorded requests: Azure LLM CSV, Mooncake JSON lines and plain CSV.

Arrow reads whole columns fast. Where it stumbles or a value is not allowed, a plain reader goes through the
file again row by row: it either copes or says which row and column is at fault. Rows out of order are sorted
by time; rows of the same time keep their order.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SpecError
from simulator.files import confined, named_file, quoted
from simulator.spec.distributions import MAX_TOKENS
from simulator.spec.workload import MOONCAKE_CHUNK_TOKENS, Trace
from simulator.workload.hashed_chunks import Hashes, prefixes_of
from simulator.workload.requests import MAX_DURATION_S, PS_PER_S, Requests

TraceFormat = Literal["azure", "mooncake", "csv"]
Columns = tuple[str, str, str]

#: Columns of each format: arrival, prompt tokens, output tokens.
COLUMNS: Final[dict[TraceFormat, Columns]] = {
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "mooncake": ("timestamp", "input_length", "output_length"),
    "csv": ("arrival_s", "prompt_tokens", "output_tokens"),
}
#: Key of the list of chunk hashes in a Mooncake trace.
_HASHES: Final = "hash_ids"
#: Picoseconds in one unit of time as read: nanoseconds, milliseconds, seconds.
_UNIT_PS: Final[dict[TraceFormat, int]] = {"azure": 1_000, "mooncake": PS_PER_S // 1_000, "csv": PS_PER_S}

_ACCEPTED: Final = (
    "accepted: TIMESTAMP,ContextTokens,GeneratedTokens (azure), arrival_s,prompt_tokens,output_tokens (csv), "
    'or JSON lines {"timestamp", "input_length", "output_length"} (mooncake)'
)
_TIMESTAMP: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?:Z|([+-])(\d\d):?(\d\d))?", re.ASCII
)
_WHOLE: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)


class TraceFile(NamedTuple):
    """Where a file lies, and what errors call it."""

    path: Path
    name: str


class _Rows(NamedTuple):
    """The three columns, and hashes if asked for; times count from any origin in the unit of the format."""

    times: NDArray[Any]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    hashes: Hashes | None = None


class _Record(NamedTuple):
    """One row as written: cells of a CSV are text, values of a JSON object are anything."""

    row: int
    line: int
    cells: tuple[object, object, object]
    hashes: object = None


def read_trace(trace: Trace, *, requests: int | None = None) -> Requests:
    """Return the requests of a trace, cut and stretched as the specification says.

    First the window ``start_s``, ``duration_s`` is cut out, then the first ``requests`` are kept, then time
    is stretched so that the mean rate is ``rate_rps``.

    Parameters
    ----------
    trace
        The file and what to do with it.
    requests
        How many requests to keep; all if absent.

    Raises
    ------
    SpecError
        If the file cannot be used, or nothing is left of it.
    """
    file = named_file(trace.path, "trace")
    whole = read_trace_file(file, file_format=trace.format, prefixes=trace.prefixes, called=str(trace.path))
    arrival_s = whole.arrival_ps / PS_PER_S
    end_s = math.inf if trace.duration_s is None else trace.start_s + trace.duration_s
    first, last = (int(each) for each in np.searchsorted(arrival_s, (trace.start_s, end_s)))
    if requests is not None:
        last = min(last, first + requests)
    if first >= last:
        raise SpecError(
            f"{trace.path}: start_s={trace.start_s:g}, duration_s={trace.duration_s}: no request is left; "
            f"the trace spans {whole.duration_s:.6g} s"
        )
    cut = whole if (first, last) == (0, len(whole)) else whole.between(first, last)
    if trace.rate_rps is None or len(cut) == 1:
        return cut
    if math.isinf(cut.rate_rps):
        raise SpecError(f"{trace.path}: rate_rps={trace.rate_rps:g}: all {len(cut)} requests arrive at once")
    stretch = cut.rate_rps / trace.rate_rps
    if cut.duration_s * stretch > MAX_DURATION_S:
        raise SpecError(
            f"{trace.path}: rate_rps={trace.rate_rps:g}: {len(cut)} requests span "
            f"{cut.duration_s * stretch / 86_400:.4g} days, at most 90"
        )
    arrival_ps = np.rint(cut.arrival_ps * stretch).astype(np.int64)
    return replace(cut, arrival_ps=arrival_ps)


def read_trace_file(
    path: str | Path,
    *,
    file_format: Literal["auto"] | TraceFormat = "auto",
    prefixes: bool = False,
    called: str | None = None,
) -> Requests:
    """Read a whole trace file.

    Parameters
    ----------
    path
        CSV or JSON lines, UTF-8. Other columns and keys are ignored.
    file_format
        ``"auto"`` tells the format from the first line.
    prefixes
        Whether to read which prompts begin alike; only a Mooncake trace says so.
    called
        Name of the file in errors; its path if absent.

    Raises
    ------
    SpecError
        One line with the file, and where a row is at fault its number (without header and blank lines, from
        1), its line in the file and the column.
    """
    name = str(Path(path)) if called is None else called
    file = TraceFile(Path(path), name)
    try:
        known = _format_of(file, file_format)
        if prefixes and known != "mooncake":
            raise SpecError(f"{name}: prefixes: only a mooncake trace has {_HASHES}, given the format {known}")
        rows = _read_fast(file, known, hashes=prefixes)
        if rows is None or not _allowed(rows):
            rows = _read_by_row(file, known, hashes=prefixes)
    except OSError as error:
        raise SpecError(f"{name}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{name}: not a UTF-8 text file") from None
    span_s = (float(rows.times.max()) - float(rows.times.min())) * (_UNIT_PS[known] / PS_PER_S)
    if span_s > MAX_DURATION_S:
        column = COLUMNS[known][0]
        raise SpecError(f"{name}: column {column}: the trace spans {span_s / 86_400:.4g} days, at most 90")
    # Shift before scaling: the time since 1970 in picoseconds does not fit int64.
    arrival_ps = np.rint((rows.times - rows.times.min()) * _UNIT_PS[known]).astype(np.int64)
    shared = prefixes_of(rows.hashes, rows.prompt_tokens, MOONCAKE_CHUNK_TOKENS) if rows.hashes else None
    return Requests(
        arrival_ps, rows.prompt_tokens.astype(np.int32), rows.output_tokens.astype(np.int32), prefixes=shared
    )


def format_of(path: str | Path, *, called: str | None = None) -> TraceFormat:
    """Return the format of a trace file, told from its first line; see :func:`read_trace_file`."""
    return _format_of(TraceFile(Path(path), str(path) if called is None else called), "auto")


def _format_of(given: TraceFile, wanted: Literal["auto"] | TraceFormat) -> TraceFormat:
    """Return the format of a file from its first line that is not blank."""
    with given.path.open(encoding="utf-8-sig", newline="") as file:
        first = next((line.strip() for line in file if line.strip()), None)
    if first is None:
        raise SpecError(f"{given.name}: the file is empty")
    found: TraceFormat | None = None
    if first.startswith("{"):
        found = "mooncake"
    else:
        header = _header(first)
        for each in ("azure", "csv"):
            if set(COLUMNS[each]) <= set(header):
                found = each
    if found is None:
        raise SpecError(f"{given.name}: unknown header {quoted(first[:80])}; {_ACCEPTED}")
    if wanted not in ("auto", found):
        raise SpecError(
            f"{given.name}: format: given {wanted}, but the first line is {quoted(first[:80])}; {_ACCEPTED}"
        )
    return found


def _header(line: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line]))]
    except csv.Error:  # a cell beyond all measure
        return []


# The fast way


def _read_fast(file: TraceFile, known: TraceFormat, *, hashes: bool = False) -> _Rows | None:
    """Return the columns as Arrow reads them, None if it cannot."""
    import pyarrow as pa

    times: list[Any] = [pa.float64()]
    if known == "azure":
        times = [pa.timestamp("ns"), pa.timestamp("ns", "UTC")]  # the form of 2023, of 2024
    for time in times:
        types = dict(zip(COLUMNS[known], (time, pa.int64(), pa.int64()), strict=True))
        if hashes:
            types[_HASHES] = pa.list_(pa.int64())
        try:
            table = _arrow_json(file.path, types) if known == "mooncake" else _arrow_csv(file.path, types)
            columns = [table.column(name) for name in types]
            if any(column.null_count for column in columns):
                return None
            arrays = [column.combine_chunks() for column in columns]
            if known == "azure":
                arrays[0] = arrays[0].view(pa.int64())
            # Not to_numpy: it imports pandas, which takes ten times as long as reading.
            plain: list[NDArray[Any]] = [np.from_dlpack(each) for each in arrays[:3]]
            return _Rows(plain[0], plain[1], plain[2], _arrow_lists(arrays[3]) if hashes else None)
        except (pa.ArrowException, KeyError, OverflowError):
            continue
    return None


def _arrow_lists(array: Any) -> Hashes:
    """Return lists of numbers; raise OverflowError, as for a number that does not fit, if one is missing."""
    if array.values.null_count:
        raise OverflowError
    offsets: NDArray[Any] = np.from_dlpack(array.offsets)
    ids: NDArray[Any] = np.from_dlpack(array.values)
    return Hashes(offsets.astype(np.int64), ids)


def _arrow_csv(path: Path, types: dict[str, Any]) -> Any:
    from pyarrow import csv as arrow_csv

    options = arrow_csv.ConvertOptions(include_columns=list(types), column_types=types, null_values=[])
    return arrow_csv.read_csv(path, convert_options=options)


def _arrow_json(path: Path, types: dict[str, Any]) -> Any:
    import pyarrow as pa
    from pyarrow import json as arrow_json

    options = arrow_json.ParseOptions(
        explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
    )
    return arrow_json.read_json(path, parse_options=options)


def _allowed(rows: _Rows) -> bool:
    return bool(
        rows.times.size
        and np.isfinite(rows.times).all()
        and all(column.min() >= 1 and column.max() <= MAX_TOKENS for column in (rows.prompt_tokens, rows.output_tokens))
    )


# The plain way


def _read_by_row(file: TraceFile, known: TraceFormat, *, hashes: bool = False) -> _Rows:
    """Return the columns, or raise for the first cell that is not allowed."""
    columns = COLUMNS[known]
    records = _json_records(file) if known == "mooncake" else _csv_records(file, columns)
    time_of: Callable[[object], float] = _nanoseconds if known == "azure" else _number
    times: list[float] = []
    prompts: list[int] = []
    outputs: list[int] = []
    ids: list[int] = []
    offsets = [0]
    for record in records:
        column = columns[0]
        try:
            times.append(time_of(record.cells[0]))
            column = columns[1]
            prompts.append(_tokens(record.cells[1]))
            column = columns[2]
            outputs.append(_tokens(record.cells[2]))
            if hashes:
                column = _HASHES
                ids += _whole_numbers(record.hashes)
                offsets.append(len(ids))
        except ValueError as error:
            raise SpecError(f"{_at(file, record.row, record.line)}, column {column}: {error}") from None
    if not times:
        raise SpecError(f"{file.name}: the file holds a header and no row")
    whole = np.int64 if known == "azure" else np.float64
    return _Rows(
        np.array(times, whole),
        np.array(prompts, np.int64),
        np.array(outputs, np.int64),
        Hashes(np.array(offsets, np.int64), np.array(ids, np.int64)) if hashes else None,
    )


def _at(file: TraceFile, row: int, line: int) -> str:
    return f"{file.name}: row {row} (line {line})"


def _csv_records(file: TraceFile, columns: Columns) -> Iterator[_Record]:
    with file.path.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text)
        lines = ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))
        try:
            header = [cell.strip() for cell in next(lines)[1]]
            places = [header.index(column) for column in columns]
            for row, (line, cells) in enumerate(lines, start=1):
                if len(cells) < len(header):
                    column = quoted(header[len(cells)]) if confined() else header[len(cells)]
                    raise SpecError(
                        f"{_at(file, row, line)}, column {column}: missing: the row has "
                        f"{len(cells)} of {len(header)} columns; is the file cut off?"
                    )
                if len(cells) > len(header):
                    raise SpecError(
                        f"{_at(file, row, line)}: the row has {len(cells)} columns, the header {len(header)}"
                    )
                time, prompt, output = (cells[place] for place in places)
                yield _Record(row, line, (time, prompt, output))
        except csv.Error as error:
            raise SpecError(f"{file.name}: line {reader.line_num}: {error}") from None


def _json_records(file: TraceFile) -> Iterator[_Record]:
    row = 0
    with file.path.open(encoding="utf-8-sig") as lines:
        for line, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            row += 1
            try:
                found = json.loads(text)
            except json.JSONDecodeError as error:
                raise SpecError(
                    f"{_at(file, row, line)}: not a whole JSON object "
                    f"(character {error.colno}: {error.msg}); is the file cut off?"
                ) from None
            except (ValueError, RecursionError):
                raise SpecError(f"{_at(file, row, line)}: nested too deeply, or a number of too many digits") from None
            if not isinstance(found, dict):
                raise SpecError(f"{_at(file, row, line)}: not a JSON object, given {quoted(text.strip()[:40])}")
            time, prompt, output = (found.get(name) for name in COLUMNS["mooncake"])
            yield _Record(row, line, (time, prompt, output), found.get(_HASHES))


def _nanoseconds(cell: object) -> int:
    """Return the nanoseconds since 1970 of a timestamp; without zone it is taken as UTC."""
    found = _TIMESTAMP.fullmatch(str(cell).strip())
    try:
        # Beyond these years NumPy's nanoseconds wrap round.
        if found is None or not "1700" < found[1] < "2200":
            raise ValueError
        date, time, sign, hours, minutes = found.groups()
        instant = int(np.datetime64(f"{date}T{time}", "ns").astype(np.int64))
    except ValueError:
        raise ValueError(f"must be a timestamp such as 2023-11-16 18:15:46.6805900, given {quoted(cell, 60)}") from None
    if sign is None:
        return instant
    offset_s = (int(hours) * 60 + int(minutes)) * 60
    return instant - (offset_s if sign == "+" else -offset_s) * 1_000_000_000


def _number(cell: object) -> float:
    try:
        if cell is None or isinstance(cell, bool | list | dict):
            raise ValueError
        value = float(cell)  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        raise ValueError(f"must be a number, given {_shown(cell)}") from None
    if not math.isfinite(value):
        raise ValueError(f"must be finite, given {_shown(cell)}")
    return value


def _tokens(cell: object) -> int:
    value = cell
    if isinstance(cell, str):
        value = int(cell) if _WHOLE.fullmatch(cell.strip()) else None
    elif isinstance(cell, float) and cell.is_integer():
        value = int(cell)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_TOKENS:
        raise ValueError(f"must be a whole number from 1 to {MAX_TOKENS}, given {_shown(cell)}")
    return value


def _whole_numbers(cell: object) -> list[int]:
    """Return a list of numbers that fit 64 bits."""
    if isinstance(cell, list):
        for each in cell:
            if isinstance(each, bool) or not isinstance(each, int) or not -(1 << 63) <= each < 1 << 63:
                raise ValueError(f"must hold whole numbers of 64 bits, given {_shown(each)}")
        return cell
    raise ValueError(f"must be a list of whole numbers, given {_shown(cell)}")


def _shown(cell: object) -> str:
    if cell is None:
        return "nothing"
    return quoted(cell, 60) if cell != "" else "an empty cell"
