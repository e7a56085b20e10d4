"""What collectives reach on one kind of link: a few physical coefficients, fitted to measured collectives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.catalog.accelerator import Positive
from simulator.spec.base import Spec

Microseconds = Annotated[float, Field(ge=0)]

Share = Annotated[float, Field(gt=0, le=1)]
"""Share of the raw bandwidth of one accelerator in one direction."""


class Protocol(Spec):
    """One way in which a library moves a message; the formula is in :mod:`simulator.performance.collectives`.

    Attributes
    ----------
    start_up_us
        Launch and first synchronisation, whatever the group.
    step_us
        One step of the ring: a flag, or a barrier, to the next participant.
    share
        Share of the raw bandwidth that large messages reach.
    """

    start_up_us: Microseconds
    step_us: Microseconds
    share: Share


class LinkProfile(Spec):
    """Coefficients of one kind of link.

    Attributes
    ----------
    name, description
        Short kebab-case name, and which links these are.
    low_latency, bulk
        The library's protocols for small and large messages (NCCL: LL or LL128, and Simple); the faster one is used.
        Links may have the second only.
    own_part
        Moving a participant's own part in its memory, as a share of the time that its part takes on the link.
    all_to_all, send_recv
        Bandwidth of these collectives over that of the rings.
    in_switch
        All-reduces that the switch adds up (NVLS), where the library uses them.
    custom_all_reduce
        The kernel that engines use instead of the library for small all-reduces inside a domain; absent where the links
        do not join all pairs.
    calibrated
        Whether it was fitted to these links, or to their nearest relatives.
    source, date, residuals
        What it was fitted to and when; median errors.
    """

    name: str
    description: str
    low_latency: Protocol | None = None
    bulk: Protocol
    own_part: Annotated[float, Field(ge=0, le=1)] = 0.0
    all_to_all: Positive = 1.0
    send_recv: Positive = 1.0
    in_switch: Protocol | None = None
    custom_all_reduce: Protocol | None = None
    calibrated: Literal["yes", "transferred"]
    source: str
    date: str
    residuals: str

    def __hash__(self) -> int:
        """Hash by name."""
        return hash(self.name)

    @property
    def protocols(self) -> tuple[Protocol, Protocol]:
        """The protocols for small and for large messages, the same one where there is but one."""
        return self.low_latency or self.bulk, self.bulk
