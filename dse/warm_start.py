"""Designs that a study proposes first: the fronts of earlier runs, and deployments that exist."""

from __future__ import annotations

from pathlib import Path

from dse.spec import StudySpec
from search_spaces import Design, to_design
from simulator import Deployment, SpecError


def starting_designs(spec: StudySpec) -> tuple[Design, ...]:
    """Return the designs that a study starts with, each once.

    A folder stands for the front of the run in it, as far as its designs are in this study's space: the run may have
    had another workload, other promises or another space. A file stands for its deployment.

    Raises
    ------
    SpecError
        Naming the path, if it holds neither, or a deployment that no design of the space describes.
    """
    found: dict[Design, None] = {}
    for path in spec.start:
        found |= dict.fromkeys(_of_run(path, spec) if path.is_dir() else [_of_deployment(path, spec)])
    return tuple(found)


def _of_run(folder: Path, spec: StudySpec) -> list[Design]:
    from dse.output import front_designs

    space = spec.space.space
    inside = []
    for choices in front_designs(folder):
        try:
            inside.append(space.design(choices))
        except SpecError:
            continue
    if not inside:
        raise SpecError(f"start: {folder}: no design of its front is in this study's space")
    return inside


def _of_deployment(path: Path, spec: StudySpec) -> Design:
    deployment = Deployment.from_yaml(path)
    served = {pool.stage: pool.model for pool in deployment.pools}
    if served != spec.models:
        raise SpecError(f"start: {path}: serves {served}, the study {spec.models}")
    try:
        return to_design(deployment, spec.space.space, spec.space)
    except SpecError as error:
        raise SpecError(f"start: {path}: {error}") from None
