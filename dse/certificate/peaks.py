"""How near a simulation came to the limits of its clients, kept among the figures of an evaluation."""

from __future__ import annotations

from simulator import Result

RUNNING, STEP_TOKENS, KV_BLOCKS, REFUSED = "peak_running", "peak_step_tokens", "peak_kv_blocks", "refused_by_budget"
"""Per pool, behind its name and a dot: the most requests that ran, tokens in a step and KV blocks in use on any client;
and whether requests ever waited for the token budget (1) or not (0)."""
LONGEST = "longest_tokens"
"""Most tokens that prompt and answer of a request have together."""


def peaks(result: Result) -> dict[str, float]:
    """Return how near the clients of each pool came to their limits."""
    memory = result.lowered.memory
    rows = memory.requests
    figures: dict[str, float] = {LONGEST: float((rows["prompt_tokens"] + rows["output_tokens"]).max())}
    for plan in result.lowered.pools:
        clients, name = memory.clients[plan.first : plan.first + plan.pool.clients], plan.pool.name
        figures[f"{name}.{RUNNING}"] = float(clients["peak_running"].max())
        figures[f"{name}.{STEP_TOKENS}"] = float(clients["peak_step_tokens"].max())
        figures[f"{name}.{KV_BLOCKS}"] = float(clients["peak_blocks"].max())
        figures[f"{name}.{REFUSED}"] = float((clients["blocked_budget_ps"] > 0).any())
    return figures
