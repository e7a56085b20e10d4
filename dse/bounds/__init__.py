"""Optimistic bounds: what a deployment can reach at best on a workload, without simulating it."""

from dse.bounds.deployment_bounds import Bounds, bounds_of
from dse.bounds.lengths import Lengths
from dse.bounds.pool_floor import PoolFloor, pool_floor

__all__ = ["Bounds", "Lengths", "PoolFloor", "bounds_of", "pool_floor"]
