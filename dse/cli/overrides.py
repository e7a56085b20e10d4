"""Options that change a workload from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulator import SpecError, Workload


def change_workload(
    workload: Workload, *, trace: Path | None = None, rate: float | None = None, requests: int | None = None
) -> Workload:
    """Return a workload with a trace, another mean rate or another number of requests.

    Raises
    ------
    SpecError
        If a value is impossible.
    """
    data: dict[str, Any] = workload.model_dump(mode="json", exclude_none=True)
    if trace is not None:
        data = {"pipeline": data["pipeline"], "trace": {"path": str(trace)}}
    if rate is not None:
        if not rate > 0:
            raise SpecError(f"--rate: must be above 0, given {rate:g}")
        data["trace" if "trace" in data else "arrivals"]["rate_rps"] = rate
    if requests is not None:
        data["requests"] = requests
    return Workload.parse(data, source="workload")
