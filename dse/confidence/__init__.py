"""How sure a figure is: intervals from one run, from replications, and a front that says what is certain of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dse.confidence.interval import Interval, mean_interval
from dse.confidence.percentiles import percentile_interval, slo_interval
from dse.confidence.replicate import replicate
from dse.confidence.spec import Replications
from dse.confidence.sureness import Sureness

if TYPE_CHECKING:
    from dse.confidence.confirmation import Confirmation, Confirmed, confirm

__all__ = [
    "Confirmation",
    "Confirmed",
    "Interval",
    "Replications",
    "Sureness",
    "confirm",
    "mean_interval",
    "percentile_interval",
    "replicate",
    "slo_interval",
]


def __getattr__(name: str) -> Any:
    """Import ``confirmation`` on first use: it needs studies, whose specification needs :class:`Replications`."""
    if name in ("Confirmation", "Confirmed", "confirm"):
        from importlib import import_module

        return getattr(import_module("dse.confidence.confirmation"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
