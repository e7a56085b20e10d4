"""Designs and metrics in a few words."""

from __future__ import annotations

from search_spaces import Design
from search_spaces.placement import COLOCATED

_ROUTERS = {
    "round_robin": "round robin",
    "join_shortest_queue": "shortest queue",
    "least_outstanding_tokens": "least tokens",
}


def short_design(design: Design) -> str:
    """Return a design in one short line, e.g. ``4 mi300x tp2, chunked 2048/128, fp8, shortest queue``.

    Numbers after a policy are the token budget and the largest batch; after a prefill pool stands its budget, after a
    decode pool its batch.
    """
    precision = str(design["weights"])
    if design["kv"] != "bf16":
        precision += f" kv {design['kv']}"
    if design["layout"] == COLOCATED:
        policy = design["main.policy"]
        limits = f"{design['main.token_budget_tokens']}/{design['main.max_batch_requests']}"
        pools = f"{_pool(design, 'main')}, {policy} {limits}"
    else:
        prefill = f"{_pool(design, 'prefill')}, {design['prefill.token_budget_tokens']}"
        pools = f"{prefill} → {_pool(design, 'decode')}, {design['decode.max_batch_requests']}"
    return f"{pools}, {precision}, {_ROUTERS[design.text('router')]}"


def _pool(design: Design, name: str) -> str:
    return f"{design[f'{name}.clients']} {design[f'{name}.accelerator']} tp{design[f'{name}.tp']}"


def short_metric(name: str) -> str:
    """Return a metric as a table heading, e.g. ``e2e p90`` or ``USD/M tokens``."""
    names = {
        "usd_per_hour": "USD/h",
        "usd_per_million_output_tokens": "USD/M tokens",
        "energy_j_per_output_token": "J/token",
        "output_tokens_per_s": "tokens/s",
        "requests_per_s": "requests/s",
        "goodput_rps": "good requests/s",
    }
    return names.get(name, name.removesuffix("_s").replace("_", " "))
