"""A small study that takes a fraction of a second."""

from __future__ import annotations

from typing import Any

import pytest

from dse.spec import StudySpec

SMALL: dict[str, Any] = {
    "name": "small",
    "model": "llama-3.1-8b",
    "workload": {
        "requests": 300,
        "arrivals": {"process": "poisson", "rate_rps": 4},
        "lengths": {"statistics": "azure-2023-conversation"},
    },
    "space": {"accelerators": ["h100-sxm", "l40s", "a10g"], "clients": {"high": 4}, "tp": [1, 2, 4]},
    "limits": {"accelerators": 8},
    "objectives": ["usd_per_hour", "e2e_p90_s"],
    "slos": [
        {"metric": "ttft", "percentile": 90, "limit_s": 0.5},
        {"metric": "itl", "percentile": 99, "limit_s": 0.3},
    ],
    "budget": {"trials": 60},
}


def small(**changes: Any) -> StudySpec:
    """Return the small study with some top-level keys replaced."""
    return StudySpec.parse({**SMALL, **changes})


@pytest.fixture
def spec() -> StudySpec:
    return small()
