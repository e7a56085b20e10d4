"""Requirements as plain data, for JSON."""

from __future__ import annotations

import math
from typing import Any

from dse.requirements.chip import Chip
from dse.requirements.judge import Verdict
from dse.requirements.requirements import Requirements
from simulator import catalog


def to_json(found: Requirements) -> dict[str, Any]:
    """Return everything as plain data: TFLOPS, 1e9 bytes (a second), seconds; null for what nothing reaches."""
    return {
        "use_case": found.case.model_dump(mode="json", exclude_none=True),
        "demand": {
            "prompt_tokens": found.demand.prompt_tokens,
            "context_tokens": found.demand.context_tokens,
            "longest_tokens": found.demand.longest_tokens,
            "batch": found.demand.batch,
        },
        "bounds": {
            resource: {"value": bound.value, "promise": bound.promise, "formula": bound.formula}
            for resource, bound in found.bounds.items()
        },
        "least_alone": found.alone or None,
        "unlimited": _verdict(found.unlimited),
        "chips": [
            {
                "label": solution.label,
                **_chip(solution.chip),
                "accelerator": solution.chip.name(found.case),
                **_verdict(solution.verdict),
            }
            for solution in found.chips
        ],
        "accelerators": [
            {
                "accelerator": each.accelerator,
                **_chip(each.chip),
                "ratios": each.ratios,
                "scarcest": each.scarcest,
                **_verdict(each.verdict),
                "ttft_slack": _slack(found.case.ttft_s, each.verdict.ttft_s),
                "tpot_slack": _slack(found.case.tpot_s, each.verdict.tpot_s),
                "calibrated": catalog.kernel_profile(each.accelerator).calibrated,
            }
            for each in found.candidates
        ],
    }


def _chip(chip: Chip) -> dict[str, float]:
    return {
        "tflops": chip.arithmetic,
        "memory_bandwidth_gb_per_s": chip.bandwidth,
        "memory_gb": chip.memory,
        "link_gb_per_s": chip.links,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "keeps": verdict.keeps,
        "ttft_s": _finite(verdict.ttft_s),
        "tpot_s": _finite(verdict.tpot_s),
        "broken": verdict.broken or None,
        "why": verdict.why or None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _slack(limit_s: float, reached_s: float) -> float | None:
    """Return by which share of a limit what is reached stays below it; negative if it does not."""
    return 1.0 - reached_s / limit_s if math.isfinite(reached_s) else None
