"""What of a deployment's times does not rest on measurements of its own accelerators and engines, in words."""

from __future__ import annotations

from collections.abc import Iterable

from dse.result import StudyResult
from simulator import Pool
from simulator.performance.provenance import provenance


def caveat(pools: Iterable[Pool]) -> str:
    """Return the accelerators of some pools whose coefficients were not fitted to them, and why; empty if none."""
    found = dict.fromkeys(provenance(pool) for pool in pools)
    said = [f"{each.accelerator} ({each.calibrated}: {each.words})" for each in found if each.calibrated != "yes"]
    return f"coefficients are not fitted to {', '.join(said)}" if said else ""


def front_caveat(result: StudyResult) -> str:
    """Return :func:`caveat` of all pools on the front."""
    return caveat(pool for evaluation in result.front for pool in result.deployment(evaluation).pools)
