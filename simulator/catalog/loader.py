"""Look up accelerators, processors, memory tiers and models by name."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from simulator.catalog.accelerator import Accelerator
from simulator.catalog.cpu import Cpu
from simulator.catalog.huggingface import model_from_config
from simulator.catalog.model import Model
from simulator.catalog.tier import TierMemory
from simulator.errors import unknown_name

# The C parser is several times faster, but not every build of PyYAML has it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def accelerator(name: str) -> Accelerator:
    """Return a catalogued accelerator.

    Parameters
    ----------
    name
        One of :func:`accelerator_names`.

    Raises
    ------
    SpecError
        If the catalog has no such accelerator; close names are suggested.
    """
    entries = _entries("accelerators.yaml")
    if name not in entries:
        raise unknown_name("accelerator", name, entries)
    return Accelerator.parse({"name": name, **entries[name]}, source=f"accelerators.yaml: {name}")


@cache
def cpu(name: str) -> Cpu:
    """Return a catalogued server processor.

    Parameters
    ----------
    name
        One of :func:`cpu_names`.

    Raises
    ------
    SpecError
        If the catalog has no such processor; close names are suggested.
    """
    entries = _entries("cpus.yaml")
    if name not in entries:
        raise unknown_name("cpu", name, entries)
    return Cpu.parse({"name": name, **entries[name]}, source=f"cpus.yaml: {name}")


def device(name: str) -> Accelerator | Cpu:
    """Return a catalogued accelerator or server processor.

    Parameters
    ----------
    name
        One of :func:`accelerator_names` or :func:`cpu_names`.

    Raises
    ------
    SpecError
        If the catalog has neither; close names are suggested.
    """
    if name in _entries("cpus.yaml"):
        return cpu(name)
    if name in _entries("accelerators.yaml"):
        return accelerator(name)
    raise unknown_name("device", name, (*cpu_names(), *accelerator_names()))


@cache
def tier(name: str) -> TierMemory:
    """Return a catalogued memory for KV behind the accelerators.

    Parameters
    ----------
    name
        One of :func:`tier_names`.

    Raises
    ------
    SpecError
        If the catalog has no such memory; close names are suggested.
    """
    entries = _entries("tiers.yaml")
    if name not in entries:
        raise unknown_name("tier kind", name, entries)
    return TierMemory.parse({"name": name, **entries[name]}, source=f"tiers.yaml: {name}")


def model(name_or_path: str | Path) -> Model:
    """Return a catalogued model, or one described by a Hugging Face ``config.json``.

    Parameters
    ----------
    name_or_path
        One of :func:`model_names`, or a path that ends in ``.json``. A file is read anew each time.

    Raises
    ------
    SpecError
        If the catalog has no such model, or the file cannot be used.
    """
    if str(name_or_path).endswith(".json"):
        return model_from_config(name_or_path)
    return _catalogued_model(str(name_or_path))


@cache
def accelerator_names() -> tuple[str, ...]:
    """Return the names of all catalogued accelerators, sorted."""
    return tuple(sorted(_entries("accelerators.yaml")))


@cache
def cpu_names() -> tuple[str, ...]:
    """Return the names of all catalogued server processors, sorted."""
    return tuple(sorted(_entries("cpus.yaml")))


@cache
def tier_names() -> tuple[str, ...]:
    """Return the names of all catalogued memories for KV, sorted."""
    return tuple(sorted(_entries("tiers.yaml")))


@cache
def model_names() -> tuple[str, ...]:
    """Return the names of all catalogued models, sorted."""
    return tuple(sorted(_entries("models.yaml")))


@cache
def _catalogued_model(name: str) -> Model:
    entries = _entries("models.yaml")
    if name not in entries:
        raise unknown_name("model", name, entries)
    return Model.parse({"name": name, **entries[name]}, source=f"models.yaml: {name}")


@cache
def _entries(file: str) -> dict[str, dict[str, Any]]:
    """Return the content of a catalog file by name."""
    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    entries: dict[str, dict[str, Any]] = yaml.load(text, Loader=_Loader)
    return entries
