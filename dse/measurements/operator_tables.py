"""Operators measured by oneself: CSV files, each with one class of operators, told by its columns.

==================  ==============================================================================================
products            ``m``, ``k``, ``n``, ``precision``
prefills            ``chunk``, ``before``, ``heads``, ``kv_heads``, ``head_dim``
decodes             ``sequences``, ``context`` (in all), ``heads``, ``kv_heads``, ``head_dim``
passes              ``kind`` (norm, rotary, activation), ``elements`` read and written
experts             ``hidden``, ``inner``, ``visits``, ``distinct``
==================  ==============================================================================================

All have ``time_us`` (or ``seconds``) and may have ``group``: what is left out together, a model or a shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from dse.measurements.operators import (
    DECODE_COLUMNS,
    GROUPED_COLUMNS,
    PASS_COLUMNS,
    PREFILL_COLUMNS,
    PRODUCT_COLUMNS,
    OperatorMeasurements,
)
from simulator.errors import SpecError

CLASSES: Final = {
    "products": PRODUCT_COLUMNS,
    "prefills": PREFILL_COLUMNS,
    "decodes": DECODE_COLUMNS,
    "passes": PASS_COLUMNS,
    "grouped": GROUPED_COLUMNS,
}
_TEXTS: Final = ("group", "precision", "kind")


def read_operator_tables(paths: Sequence[str | Path]) -> OperatorMeasurements:
    """Return the operators of some CSV files; rows that repeat a measurement are replaced by their median.

    Raises
    ------
    SpecError
        Naming the file and column at fault.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    for path in paths:
        kind, table = _read(Path(path))
        tables.setdefault(kind, []).append(table)
    merged: dict[str, Any] = {}
    for kind, parts in tables.items():
        keys = [name for name in CLASSES[kind] if name != "seconds"]
        merged[kind] = pd.concat(parts).groupby(keys, sort=True)["seconds"].median().reset_index()
    return replace(OperatorMeasurements(source=", ".join(Path(path).name for path in paths)), **merged)


def _read(file: Path) -> tuple[str, pd.DataFrame]:
    try:
        raw = pd.read_csv(file)
    except OSError as error:
        raise SpecError(f"{file}: {error.strerror or error}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise SpecError(f"{file}: not a CSV file: {error}") from None
    if "seconds" not in raw and "time_us" in raw:
        raw["seconds"] = raw["time_us"] * 1e-6
    if "group" not in raw:
        raw["group"] = file.stem
    for kind, columns in CLASSES.items():
        if set(columns) <= set(raw.columns):
            for name in columns:
                if name not in _TEXTS and (not pd.api.types.is_numeric_dtype(raw[name]) or raw[name].isna().any()):
                    raise SpecError(f"{file}: {name}: must be a number in every row")
            if (raw["seconds"] <= 0).any():
                raise SpecError(f"{file}: time_us: must be above 0 in every row")
            return kind, raw[list(columns)]
    described = "; ".join(f"{kind}: {', '.join(columns[1:-1])}" for kind, columns in CLASSES.items())
    raise SpecError(f"{file}: no class of operators has its columns and time_us; known: {described}")
