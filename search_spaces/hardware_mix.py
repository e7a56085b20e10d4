"""Which accelerators, and how many clients of each pool."""

from __future__ import annotations

from search_spaces.dimension import Dimension
from search_spaces.placement import POOLS
from search_spaces.space import Space


def hardware_mix(accelerators: tuple[str, ...], clients: tuple[int, ...], layouts: tuple[str, ...]) -> Space:
    """Return the choice of accelerator and number of clients for every pool that a layout has.

    Pools choose independently: prefill and decode may run on different accelerators.
    """
    return Space(
        tuple(
            dimension
            for pool, layout in POOLS.items()
            if layout in layouts
            for dimension in (
                Dimension(
                    f"{pool}.accelerator",
                    accelerators,
                    f"accelerator of {pool} clients",
                    ("layout", (layout,)),
                ),
                Dimension(f"{pool}.clients", clients, f"number of {pool} clients", ("layout", (layout,))),
            )
        )
    )
