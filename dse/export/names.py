"""What others call models and accelerators."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Any, Final

import yaml

from dse.export.exported import Account
from simulator import Pool, catalog
from simulator.errors import SpecError

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

PLACEHOLDER: Final = "MODEL_ID"
"""Stands where no repository is known."""


def repository_of(model: str) -> str | None:
    """Return the Hugging Face repository that a catalogued model's numbers are from; None for another file.

    The catalogue's ``source`` begins with it.
    """
    if model.endswith(".json"):
        return None
    found = _REPOSITORY.match(catalog.model(model).source)
    return found[0] if found else None


def served_model(pool: Pool, account: Account) -> str:
    """Return what an engine is to load for a pool, and note what has to be known about it."""
    name = f"pools.{pool.name}.model"
    repository = repository_of(pool.model)
    if repository is None:
        account.say(
            f"{name}: {pool.model} names no Hugging Face repository: put its name, or a folder with its weights, in "
            f"the place of {PLACEHOLDER}.",
            name,
        )
        return PLACEHOLDER
    account.express(name)
    account.say(
        f"{name}: {pool.model} is {repository}, which its shape was read from; a fine-tuned model of the same shape "
        "costs as much."
    )
    return repository


@functools.cache
def _hardware() -> dict[str, dict[str, Any]]:
    text = resources.files("dse.export").joinpath("hardware.yaml").read_text(encoding="utf-8")
    data: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return data


def vendor_of(accelerator: str) -> str:
    """Return who makes a catalogued accelerator."""
    return catalog.accelerator(accelerator).vendor


def device_resource(accelerator: str) -> str:
    """Return the resource by which a cluster counts an accelerator."""
    vendor = vendor_of(accelerator)
    if vendor not in _hardware()["vendors"]:
        raise SpecError(f"{accelerator}: no device plugin is known for {vendor}")
    return str(_hardware()["vendors"][vendor]["resource"])


def llm_d_type(accelerator: str) -> str:
    """Return what the chart of llm-d calls the kind of an accelerator."""
    return str(_hardware()["vendors"][vendor_of(accelerator)]["llm_d"])


def ray_name(accelerator: str) -> str | None:
    """Return what Ray calls an accelerator."""
    found: str | None = _hardware()["accelerators"].get(accelerator, {}).get("ray")
    return found


def node_label(accelerator: str) -> tuple[str, list[str]] | None:
    """Return the label of nodes with an accelerator and its values; None if they are not known."""
    label = _hardware()["vendors"][vendor_of(accelerator)].get("label")
    products = _hardware()["accelerators"].get(accelerator, {}).get("products")
    return (label, products) if label and products else None
