"""What results rest on: which times are no measurements of their own hardware, in words, and the bytes of a trace."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from dse.result import StudyResult
from simulator import Pool, Workload
from simulator.files import named_file
from simulator.performance.provenance import provenance


def caveat(pools: Iterable[Pool]) -> str:
    """Return the accelerators of some pools whose coefficients were not fitted to them, and why; empty if none."""
    found = dict.fromkeys(provenance(pool) for pool in pools)
    said = [f"{each.accelerator} ({each.calibrated}: {each.words})" for each in found if each.calibrated != "yes"]
    return f"coefficients are not fitted to {', '.join(said)}" if said else ""


def front_caveat(result: StudyResult) -> str:
    """Return :func:`caveat` of all pools on the front."""
    return caveat(pool for evaluation in result.front for pool in result.deployment(evaluation).pools)


def trace_sha256(workload: Workload) -> str | None:
    """Return the SHA-256 of the file that a workload is read from, as hex digits; None if it is read from none.

    Of the file as it lies there, compressed or not, so that ``sha256sum`` says the same. None also if it is gone.
    """
    if workload.trace is None:
        return None
    try:
        with named_file(workload.trace.path, "trace").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
