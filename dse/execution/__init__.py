"""Evaluation of designs in parallel through joblib: processes of this machine, a Dask cluster, a Ray cluster."""

from dse.execution.backends import BACKENDS, check_backend, open_workers
from dse.execution.workers import Workers, default_jobs

__all__ = ["BACKENDS", "Workers", "check_backend", "default_jobs", "open_workers"]
