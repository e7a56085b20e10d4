"""Which links a group of a client's accelerators talks over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from simulator import catalog
from simulator.catalog import Accelerator
from simulator.catalog.link_profile import LinkProfile
from simulator.spec.topology import Level, Topology

NETWORK_LATENCY_US: Final = 10.0
"""Start-up of a hop over a network with RDMA, microseconds, by hand: NCCL's tuning table (src/graph/tuning.cc) has 2.7
to 14 by protocol, and a whole send of 2 KB between two DGX H100 takes 17 (Vidur's collectives)."""

RACK_DOMAINS: Final = 4
"""Scale-up domains of a rack, by hand: four servers of 8 GPUs are what 40 kW cool."""

DATACENTRE_DOMAINS: Final = 4096
"""Scale-up domains of a datacentre: as good as without limit."""

DATACENTRE_OVERSUBSCRIPTION: Final = 2.0
"""Between racks, by hand: networks for inference are mostly built with half of the leaves' bandwidth above them."""


@lru_cache(maxsize=256)
def topology_of(accelerator: Accelerator) -> Topology:
    """Return the levels of a catalogued accelerator: its scale-up domain, a rack of these, a datacentre of racks."""
    inside = accelerator.scale_up
    rack = Level(
        name="rack",
        devices=inside.devices * RACK_DOMAINS,
        gb_per_s=accelerator.scale_out_gb_per_s,
        latency_us=NETWORK_LATENCY_US,
        link=accelerator.scale_out_link,
    )
    return Topology(
        levels=(
            Level(
                name="scale-up",
                devices=inside.devices,
                gb_per_s=inside.gb_per_s,
                latency_us=float(inside.latency_us),
                link=inside.link,
            ),
            rack,
            rack.model_copy(
                update={
                    "name": "datacentre",
                    "devices": inside.devices * DATACENTRE_DOMAINS,
                    "oversubscription": DATACENTRE_OVERSUBSCRIPTION,
                }
            ),
        )
    )


@dataclass(frozen=True)
class Hop:
    """What a collective meets at one level.

    Attributes
    ----------
    members
        Participants that this level joins, each standing for as many as the levels within joined.
    latency_s
        Start-up time of one hop, seconds.
    bytes_per_s
        Bandwidth of one accelerator in one direction, bytes per second.
    profile
        What collectives reach of it and how they start, where that is known.
    """

    members: int
    latency_s: float
    bytes_per_s: float
    profile: LinkProfile | None = None


@dataclass(frozen=True)
class Group:
    """Accelerators that take part in a collective: the levels that join several of them, innermost first."""

    hops: tuple[Hop, ...]

    @property
    def devices(self) -> int:
        """Number of participants."""
        count = 1
        for hop in self.hops:
            count *= hop.members
        return count


def group_of(topology: Topology, devices: int, *, stride: int = 1, client_devices: int | None = None) -> Group:
    """Return how a group of a client's accelerators is linked.

    At every level the group is split into equal parts, as large as fit into a domain. All groups of a client talk at
    the same time: of an uplink that is oversubscribed o-fold and has D accelerators below it, ``a`` of them the
    client's, each of these gets the bandwidth over ``max(1, o a / D)``.

    Parameters
    ----------
    topology
        The levels.
    devices
        Members of the group.
    stride
        Distance between neighbours in the group, in accelerators: 1 for tensor parallelism, the size of a stage for
        pipeline parallelism.
    client_devices
        Accelerators of the client; those of the group if absent.

    Raises
    ------
    ValueError
        If the topology has fewer accelerators.
    """
    client = devices * stride if client_devices is None else client_devices
    hops = []
    joined, below = 1, 1
    for level in topology.levels:
        rest = devices // joined
        room = level.devices // (stride * joined)
        members = max(part for part in range(1, rest + 1) if rest % part == 0 and part <= max(room, 1))
        if members > 1:
            shared = max(1.0, level.oversubscription * min(client, below) / below)
            profile = catalog.link_profile(level.link) if level.link else None
            hops.append(Hop(members, level.latency_us * 1e-6, level.gb_per_s * 1e9 / shared, profile))
            joined *= members
        below = level.devices
    if joined < devices:
        raise ValueError(f"{devices} accelerators at a distance of {stride} exceed {topology.levels[-1].devices}")
    return Group(tuple(hops))
