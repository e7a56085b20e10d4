"""What pools and stages are called in a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dse.export.safe_names import dns_names
from simulator import Deployment


@dataclass(frozen=True)
class ClusterNames:
    """What a cluster calls pools and stages, by their names in the design."""

    pools: Mapping[str, str]
    stages: Mapping[str, str]


def cluster_names(deployment: Deployment, *taken: str) -> ClusterNames:
    """Return names for all pools and stages of a deployment; no pool gets one that is taken."""
    stages = dict.fromkeys(pool.stage for pool in deployment.pools)
    return ClusterNames(dns_names([pool.name for pool in deployment.pools], taken), dns_names(stages))
