"""What a person writes: deployment, workload and SLOs; frozen, strict, units in the field names."""

from simulator.spec.base import Spec
from simulator.spec.deployment import Batching, Deployment, KvMemory, Link, Pool
from simulator.spec.scenario import Scenario
from simulator.spec.slo import SLO, LatencyMetric
from simulator.spec.workload import Workload

__all__ = [
    "SLO",
    "Batching",
    "Deployment",
    "KvMemory",
    "LatencyMetric",
    "Link",
    "Pool",
    "Scenario",
    "Spec",
    "Workload",
]
