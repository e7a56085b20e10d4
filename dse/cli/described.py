"""The deployment that a command is given: a file, or one pool described by options."""

from __future__ import annotations

from pathlib import Path

from simulator import Deployment, Pool, Scenario, SpecError, Workload
from simulator.spec.base import read_yaml

ONE_POOL = {"model": "llama-3.1-70b", "accelerator": "h100-sxm", "clients": 1, "tp": 4}
"""The pool that options change where no file describes a deployment."""


def described_deployment(file: Path | None, **options: str | int | None) -> tuple[Deployment, Workload | None]:
    """Return the deployment of a file and the workload if it holds both, or one pool described by options.

    Raises
    ------
    SpecError
        If there are a file and options, or what is described is not valid.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if file is None:
        return Deployment(pools=(Pool.parse({**ONE_POOL, **given}, source="options"),)), None
    if given:
        names = ", ".join(f"--{name}" for name in given)
        raise SpecError(f"{names}: for a deployment without a file; change {file} instead")
    data = read_yaml(file)
    if isinstance(data, dict) and {"deployment", "workload"} & set(data):
        scenario = Scenario.parse(data, source=str(file))
        return scenario.deployment, scenario.workload
    return Deployment.parse(data, source=str(file)), None
