"""Shipped studies by name, and studies from files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml

from dse.spec import StudySpec
from simulator.errors import unknown_name


def study_names() -> tuple[str, ...]:
    """Return the names of the shipped studies."""
    files = (entry.name for entry in resources.files("studies").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def load_study(name_or_path: str | Path) -> StudySpec:
    """Return a shipped study by name, or the one in a YAML file (a path that ends in .yaml or .yml).

    Raises
    ------
    SpecError
        If there is no such study, or it is not valid.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        return StudySpec.from_yaml(text)
    if text not in study_names():
        raise unknown_name("study (or path of a .yaml file)", text, study_names())
    data = yaml.safe_load(resources.files("studies").joinpath(f"{text}.yaml").read_text(encoding="utf-8"))
    return StudySpec.parse(data, source=f"study {text}")
