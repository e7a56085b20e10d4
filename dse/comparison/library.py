"""Shipped comparisons by name, and comparisons from files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

import yaml

from dse.comparison.spec import Comparison
from simulator.errors import unknown_name

_FOLDER: Final = "findings"


def comparison_names() -> tuple[str, ...]:
    """Return the names of the shipped comparisons."""
    folder = resources.files("studies").joinpath(_FOLDER)
    files = (entry.name for entry in folder.iterdir()) if folder.is_dir() else iter(())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def load_comparison(name_or_path: str | Path) -> Comparison:
    """Return a shipped comparison by name, or the one in a YAML file (a path that ends in .yaml or .yml).

    Raises
    ------
    SpecError
        If there is no such comparison, or it is not valid.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        return Comparison.from_yaml(text)
    if text not in comparison_names():
        raise unknown_name("comparison (or path of a .yaml file)", text, comparison_names())
    source = resources.files("studies").joinpath(_FOLDER, f"{text}.yaml")
    return Comparison.parse(yaml.safe_load(source.read_text(encoding="utf-8")), source=f"comparison {text}")
