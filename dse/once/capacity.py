"""A capacity as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dse.once.plain import finite

if TYPE_CHECKING:
    import pandas as pd

    from dse.capacity import Capacity


def capacity_figures(found: Capacity) -> dict[str, Any]:
    """Return the highest rate that a deployment sustains, how sure it is, what limits it and what it costs."""
    interval, (low, high) = found.interval_rps, found.bracket_rps
    price = found.usd_per_hour
    return {
        "rate_rps": found.rate_rps,
        "holds_rps": low,
        "fails_rps": high,
        "interval_low_rps": interval.low,
        "interval_high_rps": interval.high,
        "limited_by": found.limited_by,
        "holds_again_rps": list(found.holds_again_rps),
        "usd_per_hour": price,
        "usd_per_hour_by_rps": price / found.rate_rps if found.rate_rps else float("inf"),
    }


def rows_of(tables: dict[str, pd.DataFrame]) -> dict[str, list[dict[str, Any]]]:
    """Return tables as lists of rows; what is not finite is null."""
    rows = {
        name: (table.reset_index() if table.index.names[0] else table).astype(object).to_dict("records")
        for name, table in tables.items()
    }
    plain: dict[str, list[dict[str, Any]]] = finite(rows)
    return plain
