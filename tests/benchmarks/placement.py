"""Bubbles and steps of planned splits beside uniform ones: ``python -m tests.benchmarks.placement``.

The figures of docs/placement.md.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from dse.placement import SplitPlan, SplitSpec, plan_split
from simulator import Deployment, Requests, simulate

CASES: Final[tuple[tuple[str, dict[str, int], dict[str, Any]], ...]] = (
    ("llama-3.1-70b", {"h100-sxm": 2, "a100-80gb": 2, "l4": 4}, {"tp": [1]}),
    ("llama-3.1-70b", {"h100-sxm": 2, "a100-80gb": 2, "l4": 4}, {"tp": [2]}),
    ("llama-3.1-70b", {"h100-sxm": 4, "l40s": 4}, {"tp": [1]}),
    ("llama-3.1-70b", {"h100-sxm": 4, "l40s": 4}, {"tp": [1], "decodes": 0, "prompt_tokens": 4096}),
    ("llama-3.1-8b", {"h100-sxm": 1, "a10g": 2, "l4": 2}, {"tp": [1]}),
    ("deepseek-v3", {"h200-sxm": 8, "h100-sxm": 8}, {"tp": [8], "weights": "fp8", "decodes": 256}),
)

REQUESTS, PROMPT_TOKENS, OUTPUT_TOKENS = 24, 100, 400


def plan(model: str, devices: dict[str, int], settings: dict[str, Any]) -> SplitPlan:
    """Return the plan of a case."""
    listed = [{"accelerator": name, "count": count} for name, count in devices.items()]
    return plan_split(SplitSpec.parse({"model": model, "devices": listed} | settings))


def tokens_per_s(found: SplitPlan) -> list[float]:
    """Return what planned and uniform split generate with a full batch, simulated."""
    requests = Requests(
        np.zeros(REQUESTS, dtype=np.int64), np.full(REQUESTS, PROMPT_TOKENS), np.full(REQUESTS, OUTPUT_TOKENS)
    )
    results = [simulate(Deployment(pools=(each.pool,)), requests) for each in (found.planned, found.uniform)]
    return [result.output_tokens / result.span_s for result in results]


def main() -> None:
    """Print the table."""
    print("| model | devices | tp | step | layers planned | bubbles uniform | planned | step uniform | planned | gap |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for model, devices, settings in CASES:
        found = plan(model, devices, settings)
        spec, planned, uniform = found.spec, found.planned, found.uniform
        there = ", ".join(f"{count} {name}" for name, count in devices.items())
        step = f"{spec.prompt_tokens:,} prompt tokens" if not spec.decodes else f"{spec.decodes} decodes"
        print(
            f"| {model} | {there} | {planned.pool.tp} | {step} "
            f"| {' '.join(map(str, planned.layers))} | {uniform.bubbles:.1%} | {planned.bubbles:.1%} "
            f"| {uniform.step_s * 1e3:.1f} ms | {planned.step_s * 1e3:.1f} ms | {found.gap:.1%} |"
        )
    settings: dict[str, Any] = {"tp": [1], "decodes": REQUESTS, "context_tokens": PROMPT_TOKENS + OUTPUT_TOKENS // 2}
    found = plan(
        "llama-3.1-70b", CASES[0][1], settings | {"kv_tokens": REQUESTS * (PROMPT_TOKENS + OUTPUT_TOKENS + 12)}
    )
    planned_tokens, uniform_tokens = tokens_per_s(found)
    print(
        f"\n{REQUESTS} requests of {PROMPT_TOKENS} + {OUTPUT_TOKENS} tokens at once, simulated: planned "
        f"{planned_tokens:.0f} tokens/s, uniform {uniform_tokens:.0f} tokens/s, {planned_tokens / uniform_tokens:.1f} "
        f"times as many; steps of {found.planned.step_s * 1e3:.1f} ms and {found.uniform.step_s * 1e3:.1f} ms, "
        f"{found.uniform.step_s / found.planned.step_s:.1f} times as long"
    )


if __name__ == "__main__":
    main()
