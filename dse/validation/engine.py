"""Runs as they would be with another engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dse.measurements.load import labels_of
from dse.measurements.measured_run import MeasuredRun
from simulator import Deployment
from simulator.spec.engine_profile import EngineProfile


def with_engine(runs: Iterable[MeasuredRun], engine: str | EngineProfile) -> list[MeasuredRun]:
    """Return runs whose pools all have an engine.

    Parameters
    ----------
    runs
        What was measured.
    engine
        Name of a catalogued engine, path of a profile, or a profile.

    Raises
    ------
    SpecError
        If it is no engine.
    """
    changed = []
    for run in runs:
        deployment = served_by(run.deployment, engine)
        labels = {**run.labels, "engine": labels_of(deployment)["engine"]} if "engine" in run.labels else run.labels
        changed.append(replace(run, deployment=deployment, labels=labels))
    return changed


def served_by(deployment: Deployment, engine: str | EngineProfile) -> Deployment:
    """Return a deployment whose pools all have an engine; what its pools do not say is left to that engine."""
    pools = tuple(pool.model_copy(update={"engine": engine}) for pool in deployment.pools)
    return deployment.model_copy(update={"pools": pools})
