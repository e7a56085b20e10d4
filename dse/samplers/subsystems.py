"""Which part of a serving system a dimension belongs to."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"

WORDS: Final[dict[str, frozenset[str]]] = {
    "memory": frozenset(
        {"weights", "kv", "cache", "write", "memory", "watermark", "swap", "tier", "tiers", "capacity", "offload"}
    ),
    "parallelism": frozenset({"tp", "pp", "dp", "ep", "cp", "sp"}),
    "hardware": frozenset(
        {"accelerator", "accelerators", "clients", "count", "cpu", "cpus", "device", "devices", "mixed", "power"}
    ),
    "placement": frozenset(
        {
            "layout",
            "router",
            "weight",
            "link",
            "layer",
            "handover",
            "scope",
            "groups",
            "lending",
            "split",
            "stage",
            "pool",
        }
    ),
    "batching": frozenset(
        {"policy", "budget", "batch", "order", "packing", "wait", "chunk", "admission", "limit", "draft", "speculation"}
    ),
}
"""Words in the last part of a dimension's name; the first subsystem that has one of them owns the dimension."""


def subsystem_of(dimension: str) -> str:
    """Return the subsystem that owns a dimension: ``decode.tp`` is parallelism; ``other`` if no word tells.

    The words of the part after the last dot decide, e.g. ``budget`` of ``main.token_budget_tokens``.
    """
    words = set(dimension.rpartition(".")[2].split("_"))
    return next((subsystem for subsystem, known in WORDS.items() if words & known), OTHER)
