"""A fast, exact simulator of LLM serving: ``simulate(deployment, workload) -> Result``."""

from simulator.errors import Overload, SpecError
from simulator.metrics import Result
from simulator.simulation import simulate
from simulator.spec import SLO, Batching, Deployment, KvMemory, Link, Pool, Scenario, Workload
from simulator.workload import Requests, build_requests

__all__ = [
    "SLO",
    "Batching",
    "Deployment",
    "KvMemory",
    "Link",
    "Overload",
    "Pool",
    "Requests",
    "Result",
    "Scenario",
    "SpecError",
    "Workload",
    "build_requests",
    "simulate",
]
