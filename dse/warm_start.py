"""Designs that a study proposes first: the fronts of earlier runs, and deployments that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from dse.spec import PLANNED, StudySpec
from search_spaces import Design, to_design
from simulator import Deployment, SpecError
from simulator.files import opened

HOSTS: Final = 64
"""Accelerators of each type that exact placement may use where a study has no limit."""


def starting_designs(spec: StudySpec) -> tuple[Design, ...]:
    """Return the designs that a study starts with, each once.

    A folder stands for the front of the run in it, as far as its designs are in this study's space: the run may have
    had another workload, other promises or another space. A file stands for its deployment.

    The word ``planned`` stands for what exact placement finds; the rest of these designs are first values.

    Raises
    ------
    SpecError
        Naming the path, if it holds neither, or a deployment that no design of the space describes.
    """
    found: dict[Design, None] = {}
    for path in spec.start:
        if str(path) == PLANNED:
            found |= dict.fromkeys(_planned(spec))
            continue
        with opened(path, "start") as place:
            found |= dict.fromkeys(_of_run(place, spec) if place.is_dir() else [_of_deployment(place, spec)])
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


def _planned(spec: StudySpec) -> list[Design]:
    """Return the designs that exact placement finds on the accelerators of a study's space."""
    from dse.placement import StagesSpec, planned_choices

    if len(spec.models) > 1:
        raise SpecError(f"start: {PLANNED}: places one model, given {', '.join(spec.models)}")
    space, services = spec.space.space, {service.device for service in spec.services}
    devices = spec.limits.accelerators or HOSTS
    hosts = [{"device": name, "count": devices} for name in dict.fromkeys([*spec.space.accelerators, *services])]
    placed = StagesSpec.parse(
        {
            "model": next(iter(spec.models.values())),
            "hosts": hosts,
            "workload": spec.workload.model_dump(mode="json", exclude_none=True),
            "tp": list(spec.space.tp),
            "weights": spec.space.weights[0],
            "kv": spec.space.kv[0],
        },
        source=f"study {spec.name}",
    )
    found = []
    for choices in planned_choices(placed):
        codes = np.zeros((1, len(space.closed)), np.int16)
        for column, dimension in enumerate(space.closed):
            wanted = choices.get(dimension.name, dimension.values[0])
            if wanted not in dimension.values:
                break
            codes[0, column] = dimension.values.index(wanted)
        else:
            found.append(space.design_of(space.mend(codes, codes)[0]))
    return found
