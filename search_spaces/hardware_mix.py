"""Which accelerators, how many clients of each pool, and whether two types stand side by side."""

from __future__ import annotations

from typing import Any, Final

from search_spaces.design import Design
from search_spaces.dimension import Dimension, Value
from search_spaces.placement import MAIN, Places
from search_spaces.space import Space
from simulator.spec.deployment import Pool

ONE_TYPE: Final = (False,)
"""One type of colocated clients in every design: nothing to choose."""


def mixture(mixed: tuple[bool, ...], place: Places) -> Space:
    """Return the choice of a second pool ``extra`` beside ``main``; none if there never is one."""
    main = place.pool(MAIN)
    if main is None or mixed == ONE_TYPE:
        return Space(())
    meaning = "whether colocated clients of a second type stand beside the first"
    return Space((Dimension(f"{place.prefix}mixed", mixed, meaning, main[1]),))


def hardware_mix(accelerators: tuple[str, ...], clients: tuple[int, ...], place: Places) -> Space:
    """Return the choice of accelerator and number of clients for every pool.

    Pools choose independently: prefill and decode may run on different accelerators.
    """
    return Space(
        tuple(
            dimension
            for pool, when in place.pools.items()
            for dimension in (
                Dimension(f"{pool}.accelerator", accelerators, f"accelerator of {pool} clients", when),
                Dimension(f"{pool}.clients", clients, f"number of {pool} clients", when),
            )
        )
    )


def hardware_fields(design: Design, pool: str) -> dict[str, Any]:
    """Return the fields of a pool that :func:`hardware_mix` chooses."""
    return {"accelerator": design.text(f"{pool}.accelerator"), "clients": design.number(f"{pool}.clients")}


def hardware_values(name: str, pool: Pool) -> dict[str, Value]:
    """Return the choices that a pool makes of :func:`hardware_mix`."""
    return {f"{name}.accelerator": pool.accelerator, f"{name}.clients": pool.clients}
