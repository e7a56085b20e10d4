"""Shipped studies by name, and studies from files. A family of studies lists its members behind a slash."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from dse.spec import StudySpec
from simulator.errors import SpecError, unknown_name

if TYPE_CHECKING:
    from dse.family.spec import FamilySpec

_FILE = re.compile(r"(?P<file>.*\.ya?ml)(?:/(?P<label>.+))?", re.DOTALL)


@cache
def family_names() -> tuple[str, ...]:
    """Return the names of the shipped files, each with a study or a family of them."""
    files = (entry.name for entry in resources.files("studies").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


@cache
def study_names() -> tuple[str, ...]:
    """Return the names of all shipped studies, those of a family as ``family/member``."""
    return tuple(
        f"{name}/{member.label}".removesuffix("/") for name in family_names() for member in _shipped(name).members
    )


def load_family(name_or_path: str | Path) -> FamilySpec:
    """Return a shipped family of studies by name, or the one in a YAML file; a single study is a family of its own.

    Raises
    ------
    SpecError
        If there is none, or it is not valid.
    """
    from dse.family.spec import FamilySpec

    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        return FamilySpec.from_yaml(text)
    if text not in family_names():
        raise unknown_name("study (or path of a .yaml file)", text, family_names())
    return _shipped(text)


def load_study(name_or_path: str | Path) -> StudySpec:
    """Return a shipped study by name, or the one in a YAML file (a path that ends in .yaml or .yml).

    Parameters
    ----------
    name_or_path
        Of a family of studies also the label of the member: ``agents/3min/keep``, ``mine.yaml/keep``.

    Raises
    ------
    SpecError
        If there is no such study, it is not valid, or it is a family and no member was named.
    """
    source, label = _parts(name_or_path)
    family = load_family(source)
    if not label and family.label_kinds:
        members = ", ".join(f"{source}/{member.label}" for member in family.members)
        raise SpecError(f"study {source}: has several members, name one of them: {members}")
    return family.member(label)


def family_of(name_or_path: str | Path) -> str:
    """Return the name or path of the family of a study, without the label of a member."""
    return _parts(name_or_path)[0]


def _parts(name_or_path: str | Path) -> tuple[str, str]:
    """Return the name or path of a family and the label of its member, which may be empty."""
    text = str(name_or_path)
    if found := _FILE.fullmatch(text):
        return found["file"], found["label"] or ""
    source, _, label = text.partition("/")
    return source, label


@cache
def _shipped(name: str) -> FamilySpec:
    import yaml

    from dse.family.spec import FamilySpec

    source = resources.files("studies").joinpath(f"{name}.yaml")
    return FamilySpec.parse(yaml.safe_load(source.read_text(encoding="utf-8")), source=f"study {name}")
