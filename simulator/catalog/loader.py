"""Look up accelerators, their kernels, engines, processors, memory tiers and models by name."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from simulator.catalog.accelerator import Accelerator
from simulator.catalog.cpu import Cpu
from simulator.catalog.huggingface import model_from_config
from simulator.catalog.hypothetical import base_name, hypothetical, is_hypothetical
from simulator.catalog.kernel_profile import KernelProfile
from simulator.catalog.link_profile import LinkProfile
from simulator.catalog.model import Model
from simulator.catalog.tier import TierMemory
from simulator.errors import unknown_name
from simulator.files import confined, opened
from simulator.spec.base import Spec
from simulator.spec.engine_profile import EngineProfile

Kind = TypeVar("Kind", bound=Spec)

# The C parser is several times faster, but not every build of PyYAML has it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def accelerator(name: str) -> Accelerator:
    """Return a catalogued accelerator, or one with changed figures (:mod:`simulator.catalog.hypothetical`).

    Parameters
    ----------
    name
        One of :func:`accelerator_names`, or such a name with changes: ``b200(memory_gb=288)``.

    Raises
    ------
    SpecError
        If the catalog has no such accelerator (close names are suggested), or it cannot be changed so.
    """
    return _hypothetical(name) if is_hypothetical(name) else _catalogued_accelerator(name)


@cache
def _catalogued_accelerator(name: str) -> Accelerator:
    return _named(Accelerator, "accelerator", name, "accelerators.yaml")


@lru_cache(maxsize=4096)
def _hypothetical(name: str) -> Accelerator:
    return hypothetical(_catalogued_accelerator(base_name(name)), name)


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
    return _named(Cpu, "cpu", name, "cpus.yaml")


def link_profile(name: str) -> LinkProfile:
    """Return what collectives reach on a kind of link.

    Parameters
    ----------
    name
        One of :func:`link_profile_names`, or a path that ends in ``.yaml``.

    Raises
    ------
    SpecError
        If the catalog has no such kind of link (close names are suggested), or the file cannot be used.
    """
    if name.endswith((".yaml", ".yml")):
        return _from_file(LinkProfile, name, "link")
    return _catalogued_link(name)


@cache
def link_profile_names() -> tuple[str, ...]:
    """Return the names of all catalogued kinds of links, sorted."""
    return tuple(sorted(_entries("links.yaml")))


def engine_profile(name_or_path: str) -> EngineProfile:
    """Return what a version of an engine adds to its kernels.

    Parameters
    ----------
    name_or_path
        One of :func:`engine_names`, or a path that ends in ``.yaml``.

    Raises
    ------
    SpecError
        If the catalog has no such engine, or the file cannot be used.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return _from_file(EngineProfile, name_or_path, "engine")
    return _catalogued_engine(name_or_path)


@cache
def engine_names() -> tuple[str, ...]:
    """Return the names of all catalogued engines, sorted."""
    return tuple(sorted(_entries("engines.yaml")))


@cache
def _catalogued_link(name: str) -> LinkProfile:
    return _named(LinkProfile, "link", name, "links.yaml")


@cache
def _catalogued_engine(name: str) -> EngineProfile:
    return _named(EngineProfile, "engine", name, "engines.yaml")


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
    if name in _entries("accelerators.yaml") or is_hypothetical(name):
        return accelerator(name)
    raise unknown_name("device", name, (*cpu_names(), *accelerator_names()))


def kernel_profile(accelerator_name: str) -> KernelProfile:
    """Return what the kernels of an accelerator reach: fitted to it, to its nearest relative, or set by hand.

    Parameters
    ----------
    accelerator_name
        Any name; one without an entry gets the hand-set shares of the datasheet. A hypothetical accelerator's are those
        of the one that it is a change of.
    """
    if is_hypothetical(accelerator_name):
        return _transferred_profile(base_name(accelerator_name))
    return _catalogued_profile(accelerator_name)


@cache
def _transferred_profile(accelerator_name: str) -> KernelProfile:
    found = _catalogued_profile(accelerator_name)
    if found.calibrated == "datasheet":
        return found
    relative = found.transferred_from or accelerator_name
    return found.model_copy(update={"calibrated": "transferred", "transferred_from": relative, "residuals": {}})


@cache
def _catalogued_profile(accelerator_name: str) -> KernelProfile:
    entries = _entries("kernels.yaml")
    entry = entries.get(accelerator_name, entries["datasheet"])
    relative = entry.get("transferred_from")
    if relative is not None:
        unmeasured = {"calibrated": "transferred", "residuals": {}}
        entry = entries[relative] | unmeasured | entry
    return KernelProfile.parse(entry | {"name": accelerator_name}, source=f"kernels.yaml: {accelerator_name}")


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
    return _named(TierMemory, "tier kind", name, "tiers.yaml")


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
    return _named(Model, "model", name, "models.yaml")


def own_kernel_profile(path: str) -> KernelProfile:
    """Return the kernels of a file that ``dse calibrate kernels`` wrote.

    Raises
    ------
    SpecError
        If the file cannot be used.
    """
    return _from_file(KernelProfile, path, "kernels")


def _from_file(kind: type[Kind], name: str, file: str) -> Kind:
    """Return the content of a file, the same object until the file changes."""
    with opened(name, file) as path:
        place = str(path) if confined() else name
        try:
            state = path.stat()
        except OSError:
            return kind.from_yaml(place)  # which says what is wrong
        return cast(Kind, _read(kind, place, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=64)
def _read(kind: type[Spec], path: str, mtime_ns: int, size: int) -> Spec:
    """Return the content of a file in the state that it was found in."""
    del mtime_ns, size
    return kind.from_yaml(path)


def _named(kind: type[Kind], called: str, name: str, file: str) -> Kind:
    """Return the entry of a catalog file, or raise an error that suggests close names."""
    entries = _entries(file)
    if name not in entries:
        raise unknown_name(called, name, entries)
    return kind.parse({"name": name, **entries[name]}, source=f"{file}: {name}")


@cache
def _entries(file: str) -> dict[str, dict[str, Any]]:
    """Return the content of a catalog file by name."""
    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    entries: dict[str, dict[str, Any]] = yaml.load(text, Loader=_Loader)
    return entries
