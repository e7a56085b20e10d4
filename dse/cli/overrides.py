"""Options that change a workload from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulator import SpecError, Workload


def change_workload(
    workload: Workload, *, trace: Path | None = None, rate: float | None = None, requests: int | None = None
) -> Workload:
    """Return a workload with a trace, another mean rate or another number of requests.

    A trace takes the place of everything that says when requests come and how long they are; the rest stays: pipeline,
    classes, shared prefixes (those of a trace, too), media, adapters, urgency.

    Raises
    ------
    SpecError
        If a value is impossible.
    """
    data: dict[str, Any] = workload.model_dump(mode="json", exclude_none=True)
    if trace is not None:
        if "session" in data or any("session" in each for each in data.get("classes", ())):
            raise SpecError(f"--trace: {trace} cannot replace sessions, whose turns the workload describes itself")
        prefixes = data.get("trace", {}).get("prefixes", False)
        for place in (data, *data.get("classes", ())):
            for name in ("arrivals", "lengths", "trace", "requests"):
                place.pop(name, None)
        data["trace"] = {"path": str(trace), "prefixes": prefixes}
    if rate is not None:
        if not rate > 0:
            raise SpecError(f"--rate: must be above 0, given {rate:g}")
        data["trace" if "trace" in data else "arrivals"]["rate_rps"] = rate
    if requests is not None:
        data["requests"] = requests
    return Workload.parse(data, source="workload")
