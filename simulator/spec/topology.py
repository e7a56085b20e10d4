"""Where the accelerators of a client are linked: levels from the fast links inside out."""

from __future__ import annotations

from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from simulator.spec.base import Spec
from simulator.spec.file_names import LinkName


class Level(Spec):
    """One level of links: NVLink domain, node, rack, datacentre."""

    name: str = Field(min_length=1, description="name of the level, e.g. scale-up, node, rack, datacentre")
    devices: int = Field(ge=1, description="accelerators that this level links, those of the levels within included")
    gb_per_s: float = Field(gt=0, description="bandwidth of one accelerator in one direction, 1e9 bytes/s, raw")
    latency_us: float = Field(ge=0, description="start-up time of one hop of a collective, microseconds")
    link: LinkName | None = Field(
        default=None,
        min_length=1,
        description="measured kind of link (of catalog/links.yaml, or a path ending in .yaml), e.g. nvlink-h100: its "
        "start-up replaces latency_us, and its shares of gb_per_s are what collectives reach",
    )
    oversubscription: float = Field(
        default=1.0,
        ge=1,
        description="bandwidth of all accelerators below a shared uplink over that of the uplink: "
        "when all of them send, each gets gb_per_s over this",
    )


class Topology(Spec):
    """Levels of links, innermost first. The accelerators of a client are neighbours and begin a domain."""

    levels: tuple[Level, ...] = Field(min_length=1, max_length=16, description="levels of links, innermost first")

    @model_validator(mode="after")
    def _levels_grow(self) -> Self:
        for inner, outer in pairwise(self.levels):
            if outer.devices <= inner.devices or outer.devices % inner.devices:
                raise ValueError(
                    f"levels: {outer.name} links {outer.devices} accelerators, {inner.name} within it {inner.devices}; "
                    "allowed: multiples, growing from level to level"
                )
        return self
