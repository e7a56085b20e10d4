"""Engines by name."""

from __future__ import annotations

from typing import Final

from dse.execution.engine import Engine
from dse.execution.processes import Processes
from dse.execution.sequential import Sequential
from dse.execution.task import Payload
from dse.execution.workers import Workers, default_jobs
from dse.patience import Patience
from dse.spec import StudySpec
from simulator import Requests, SpecError

BACKENDS: Final = ("loky", "dask", "ray", "sequential")
"""loky: processes of this machine; dask, ray: a cluster; sequential: this process."""
CLUSTERS: Final = ("dask", "ray")


def check_backend(backend: str, scheduler: str | None = None) -> None:
    """Check that a backend is known and can be used here.

    Raises
    ------
    SpecError
        Naming what is allowed, or what to install.
    """
    from importlib.util import find_spec

    if backend not in BACKENDS:
        raise SpecError(f"--backend: no {backend!r}; allowed: {', '.join(BACKENDS)}")
    if scheduler is not None and backend not in CLUSTERS:
        raise SpecError(f"--scheduler: only for --backend {' or '.join(CLUSTERS)}, given --backend {backend}")
    wanted = "distributed" if backend == "dask" else backend
    if backend in CLUSTERS and find_spec(wanted) is None:
        raise SpecError(f"--backend {backend}: {wanted} is not installed: pip install 'dse-llm[{backend}]'")


def open_workers(
    backend: str,
    jobs: int | None,
    spec: StudySpec,
    requests: Requests | tuple[Requests, ...],
    *,
    scheduler: str | None = None,
    patience: Patience | None = None,
) -> Workers:
    """Return workers of a backend, to be used in a ``with`` statement.

    Parameters
    ----------
    backend
        One of :data:`BACKENDS`.
    jobs
        Number of processes; as many as processors if None. A Dask cluster that is there already has its own number.
    spec, requests
        The study and the requests that every design is given; of several workloads a tuple.
    scheduler
        Address of a cluster; if absent, a cluster of this machine is started.
    patience
        With a cluster that cannot be reached for a while.

    Raises
    ------
    SpecError
        If the backend is not known or not installed.
    """
    check_backend(backend, scheduler)
    jobs = jobs or default_jobs()
    payload = Payload(spec, requests)
    engine: Engine
    if backend == "dask":
        from dse.execution.dask_cluster import DaskCluster

        engine = DaskCluster(jobs, payload, scheduler)
    elif backend == "ray":
        from dse.execution.ray_cluster import RayCluster

        engine = RayCluster(jobs, payload, scheduler)
    elif backend == "loky" and jobs > 1:
        engine = Processes(jobs, payload)
    else:
        engine = Sequential(payload)
    return Workers(engine.jobs, spec, requests, engine=engine, patience=patience)
