"""The deployment that running engines are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dse.imports.arguments import read_arguments
from dse.imports.settings import Settings
from dse.imports.sglang import pool_of_sglang
from dse.imports.vllm import pool_of_vllm
from simulator import Deployment, SpecError, catalog


@dataclass(frozen=True)
class Imported:
    """A deployment, and what the commands did not say or what was left out of them."""

    deployment: Deployment
    notes: tuple[str, ...]


def import_engine(
    sources: str | Sequence[str],
    *,
    accelerator: str | Sequence[str],
    clients: int | Sequence[int] = 1,
    model: str = "",
    weights: str = "",
    engine: str = "",
    router: str = "",
    acceptance: float | None = None,
) -> Imported:
    """Return the deployment that engines with these arguments are.

    Parameters
    ----------
    sources
        Command lines of vLLM or SGLang, or paths of scripts or of the engines' YAML files: one for each pool.
    accelerator
        Catalogued accelerator of each pool, or of all.
    clients
        How many engines of each pool run, or of all.
    model
        Catalogued model or config.json, where the served name tells no catalogued one.
    weights
        Precision of weights, where neither arguments nor name tell.
    engine
        Catalogued engine whose overheads hold; by the kind of engine if empty.
    router
        Rule by which clients are picked, also for hand-overs; join_shortest_queue if empty.
    acceptance
        Share of drafted tokens that are accepted, needed with speculation.

    Raises
    ------
    SpecError
        If a command starts no known engine, or what it says cannot be simulated.
    """
    commands = [sources] if isinstance(sources, str) else list(sources)
    kinds = _each("--accelerator", [accelerator] if isinstance(accelerator, str) else accelerator, len(commands))
    counts = _each("--clients", [clients] if isinstance(clients, int) else clients, len(commands))
    pools: list[dict[str, Any]] = []
    notes: list[str] = []
    tiers: list[float] = []
    for command, kind, count in zip(commands, kinds, counts, strict=True):
        catalog.accelerator(kind)
        settings = Settings(kind, model, weights, acceptance)
        arguments = read_arguments(command)
        read = pool_of_vllm if arguments.engine == "vllm" else pool_of_sglang
        if not arguments.model and not model:
            raise SpecError("the command names no model: give --model")
        pool = read(arguments, settings)
        pool |= {"clients": count} | ({"engine": engine} if engine else {})
        pool["name"] = _name(pool.get("role", "main"), [each["name"] for each in pools])
        pools.append(pool)
        notes += [note if len(commands) == 1 else f"{pool['name']}: {note}" for note in settings.notes]
        tiers += settings.tiers
    data: dict[str, Any] = {"pools": pools}
    if router:
        data |= {"router": router, "handover_router": router}
    if tiers and any(pool.get("prefix_cache") is not None for pool in pools):
        data["tiers"] = [{"name": "host", "kind": "host-dram", "clients": 1, "memory_gb": max(tiers)}]
        if len(set(tiers)) > 1:
            notes.append(f"tiers: {', '.join(f'{each:g}' for each in tiers)} GB by pool; simulated with the largest.")
    return Imported(Deployment.parse(data, source="imported engines"), tuple(dict.fromkeys(notes)))


def _each(option: str, given: Sequence[Any], count: int) -> list[Any]:
    """Return a value for each command: those given, or the same for all."""
    if len(given) not in (1, count):
        raise SpecError(f"{option}: {len(given)} given for {count} commands; give one for all, or one for each")
    return list(given) if len(given) == count else list(given) * count


def _name(role: str, taken: Sequence[str]) -> str:
    """Return a name for a pool that no other has."""
    name = "main" if role == "both" else role
    number = 2
    while name in taken:
        name, number = f"{'main' if role == 'both' else role}-{number}", number + 1
    return name
