"""Runs as they would be with another engine."""

from __future__ import annotations

from collections.abc import Iterable

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
    given = engine if isinstance(engine, str) else engine.model_dump(mode="json", exclude_none=True)
    changed = []
    for run in runs:
        # What is not said stays unsaid: there the engine's defaults hold.
        data = run.deployment.model_dump(mode="json", exclude_unset=True)
        for pool in data["pools"]:
            pool["engine"] = given
        deployment = Deployment.parse(data, source=f"{run.name}: deployment")
        labels = {**run.labels, "engine": labels_of(deployment)["engine"]} if "engine" in run.labels else run.labels
        changed.append(MeasuredRun(**{**vars(run), "deployment": deployment, "labels": labels}))
    return changed
