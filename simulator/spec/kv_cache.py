"""What a person writes about reused KV: a client's prefix cache, and the tiers behind it.

Two tiers, the first of each client's own, the second shared by a rack of 32. What the first leaves out is that of the
catalogued ``host-dram``::

    tiers:
      - {name: host, kind: host-dram, scope: host, clients: 1, memory_gb: 512}
      - {name: rack, scope: rack, clients: 32, memory_gb: 32000, gb_per_s: 2, latency_us: 100}
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from simulator.spec.base import Spec

Scope = Literal["device", "host", "platform", "rack", "cluster", "remote"]
Write = Literal["through", "back", "none"]


class PrefixCache(Spec):
    """A client keeps the KV of prompts after they are served, and spares those who begin in the same way."""

    fetch: Literal["if_faster", "always"] = Field(
        default="if_faster",
        description="what tiers hold is fetched if that takes less time than to compute it again, or always",
    )
    write: Write = Field(
        default="through",
        description="when chunks reach the tiers: computed (through), evicted from the device (back), or none",
    )
    eviction_share: float = Field(
        default=0.02, ge=0, lt=1, description="share of the KV blocks that are freed at once when room is needed"
    )


LATENCY_US: Final = 10.0
"""Start-up time of a fetch from a tier without ``kind`` and ``latency_us``, microseconds."""


class Tier(Spec):
    """Memory behind the devices that holds KV of prompts, reached over a link that its transfers share.

    What a tier with a ``kind`` leaves out is taken from the catalogue
    (:func:`simulator.performance.tiers.resolved_tier`).
    """

    name: str = Field(min_length=1, description="name of the tier, unique in a deployment")
    scope: Scope = Field(default="host", description="what the tier belongs to: device, host, platform, rack, ...")
    clients: int | None = Field(
        default=None, ge=1, le=100_000, description="neighbouring clients that share one such memory; all if absent"
    )
    private: bool = Field(
        default=False,
        description="whether each of these clients has its own equal part of the memory and sees nothing of the "
        "others'; they share the link all the same",
    )
    kind: str | None = Field(
        default=None,
        min_length=1,
        description="name of a catalogued memory, whose figures hold where this tier has none of its own",
    )
    memory_gb: float | None = Field(
        default=None, ge=0, description="size of one such memory, 1e9 bytes; that of its kind if absent"
    )
    gb_per_s: float | None = Field(
        default=None, gt=0, description="bandwidth of its link, 1e9 bytes/s; that of its kind if absent"
    )
    latency_us: float | None = Field(
        default=None,
        ge=0,
        le=1e9,
        description="start-up time of a fetch, microseconds; that of its kind if absent, 10 without a kind",
    )
    spills: bool = Field(
        default=False, description="whether what leaves it for want of room is stored in the tier behind it"
    )
    hit_rate: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="chance that it holds the prefix of a prompt that the tiers before it do not: if given, for every "
        "tier, caches are not simulated and retrieval takes its expected time",
    )
    usd_per_gb_hour: float | None = Field(
        default=None,
        ge=0,
        description="price of 1e9 bytes for an hour, US dollars; that of its kind if absent, 0 without a kind",
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        missing = [name for name in ("memory_gb", "gb_per_s") if getattr(self, name) is None]
        if self.kind is None and missing:
            raise ValueError(
                f"{', '.join(missing)}: needed where no kind of memory gives them, tier {self.name} has none"
            )
        return self


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Check that tiers fit into each other: a farther one serves a whole number of nearer ones.

    Raises
    ------
    ValueError
        Naming the tier.
    """
    names = [tier.name for tier in tiers]
    if len(set(names)) < len(names):
        raise ValueError(f"tiers: names must differ, given {', '.join(names)}")
    expected = [tier.hit_rate is not None for tier in tiers]
    if any(expected) and not all(expected):
        missing = ", ".join(tier.name for tier in tiers if tier.hit_rate is None)
        raise ValueError(f"tiers: hit_rate: for every tier or none, missing for {missing}")
    for nearer, farther in pairwise(tiers):
        if farther.private and not nearer.private:
            raise ValueError(f"tiers: {farther.name} is private, but {nearer.name} before it is shared")
        if farther.clients is not None and (nearer.clients is None or farther.clients % nearer.clients):
            raise ValueError(
                f"tiers: {farther.name} serves {farther.clients} clients, {nearer.name} before it "
                f"{nearer.clients or 'all'}; allowed: multiples, growing from tier to tier"
            )
