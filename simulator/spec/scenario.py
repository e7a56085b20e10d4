"""One page with a deployment and what it is to serve."""

from __future__ import annotations

from pydantic import Field

from simulator.spec.base import Spec
from simulator.spec.deployment import Deployment
from simulator.spec.workload import Workload


class Scenario(Spec):
    """A deployment and a workload in one file."""

    deployment: Deployment = Field(description="the system: pools, services, routers, tiers")
    workload: Workload = Field(description="what arrives, and the stages it passes")
