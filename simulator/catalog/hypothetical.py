"""Accelerators that nobody sells: a catalogued one with some of its figures changed, all in the name.

``b200(memory_bandwidth_gb_per_s=16000, memory_gb=288)`` stands wherever the name of an accelerator may stand. What is
not said is as catalogued, and so are the shares of the peaks that kernels reach.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from simulator.catalog.accelerator import Accelerator
from simulator.errors import SpecError

CHANGEABLE: Final = (
    "peak_tflops",
    "memory_bandwidth_gb_per_s",
    "memory_gb",
    "scale_up.gb_per_s",
    "scale_up.latency_us",
    "scale_up.devices",
    "scale_out_gb_per_s",
    "tdp_w",
    "idle_w",
    "price_usd_per_hour",
)
"""Figures that a name may change. ``peak_tflops`` is the dense peak at 16 bits, that of other precisions follows in
proportion; ``memory_gb`` is what software sees."""

ASSUMED: Final = "assumed: stands in the name of a hypothetical accelerator"

_MOST_CHARACTERS: Final = 300


def is_hypothetical(name: str) -> bool:
    """Return whether a name is that of an accelerator with changed figures."""
    return "(" in name


def base_name(name: str) -> str:
    """Return the name of the catalogued accelerator that one is a change of, or that it is."""
    return name.partition("(")[0].strip()


def hypothetical_name(base: str, changes: Mapping[str, float]) -> str:
    """Return the name of an accelerator with some figures changed; a hypothetical one keeps its other changes.

    Parameters
    ----------
    base
        Name of an accelerator.
    changes
        New figures by field, see :data:`CHANGEABLE`.
    """
    kept = _changes(base) if is_hypothetical(base) else {}
    said = ", ".join(f"{field}={value:.9g}" for field, value in {**kept, **changes}.items())
    return f"{base_name(base)}({said})" if said else base_name(base)


@lru_cache(maxsize=4096)
def canonical_name(name: str) -> str:
    """Return the one spelling of a name whose figures may stand in any order and be written in any way.

    Raises
    ------
    SpecError
        If the name cannot be read.
    """
    if not is_hypothetical(name):
        return name
    changes = _changes(name)
    return hypothetical_name(base_name(name), {field: changes[field] for field in CHANGEABLE if field in changes})


def split_names(text: str) -> list[str]:
    """Return what stands between the commas of a text, but for those within a name."""
    return re.split(r",(?![^()]*\))", text)


def hypothetical(base: Accelerator, name: str) -> Accelerator:
    """Return an accelerator whose name says what differs from a catalogued one.

    Multiprocessors are as many as before, each so much faster as the peak is higher.

    Raises
    ------
    SpecError
        If the name cannot be read, or no accelerator can be so.
    """
    data: dict[str, Any] = base.model_dump()
    data["name"] = name
    for field, value in _changes(name).items():
        if field == "peak_tflops":
            factor = value / _peak_16bit(base)
            data[field] = {precision: factor * tflops for precision, tflops in base.peak_tflops.items()}
        elif field.startswith("scale_up."):
            part = field.partition(".")[2]
            data["scale_up"][part] = round(value) if part == "devices" else value
        else:
            data[field] = value
        if field == "memory_gb":
            data["memory_reported_mib"] = None
            data["sources"].pop("memory_reported_mib", None)
        data["sources"][field] = ASSUMED
    return Accelerator.parse(data, source=f"accelerator {name}")


def _peak_16bit(accelerator: Accelerator) -> float:
    """Return the dense peak at 16 bits, 1e12 operations a second."""
    peaks = accelerator.peak_tflops
    return peaks["bf16"] if "bf16" in peaks else peaks["fp16"]


def _changes(name: str) -> dict[str, float]:
    """Return the figures that a name changes."""
    wrong = f"accelerator {name[:_MOST_CHARACTERS]!r}"
    allowed = f"allowed: NAME(FIELD=NUMBER, ...) with the fields {', '.join(CHANGEABLE)}"
    inside = name.partition("(")[2].rstrip()
    if len(name) > _MOST_CHARACTERS or not inside.endswith(")"):
        raise SpecError(f"{wrong}: no name; {allowed}")
    found: dict[str, float] = {}
    for part in inside.removesuffix(")").split(","):
        field, _, text = (side.strip() for side in part.partition("="))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if field not in CHANGEABLE or field in found or not math.isfinite(value):
            raise SpecError(f"{wrong}: {part.strip()!r}; {allowed}, each at most once")
        if field == "scale_up.devices" and value != round(value):
            raise SpecError(f"{wrong}: {part.strip()!r}; allowed: a whole number of devices")
        found[field] = value
    return found
