"""How many low-rank adapters a client holds, and where the others lie."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from search_spaces.design import Design
from search_spaces.dimension import Dimension, Value
from search_spaces.placement import Places
from search_spaces.space import Space
from simulator import catalog
from simulator.errors import SpecError
from simulator.spec.adapters import Adapters
from simulator.spec.base import Spec
from simulator.spec.deployment import Pool

SLOTS, MEMORY = "adapters.slots", "adapters.memory"


class AdapterSpace(Spec):
    """What may vary of the adapters that all pools of an LLM stage serve."""

    rank: Annotated[int, Field(ge=1, le=1024)] = Field(description="rank r of every adapter, in every design")
    slots: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        min_length=1, description="adapters that a client holds and that a batch may mix"
    )
    memories: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="catalogued memories in which adapters without a slot lie; the host's, over PCIe 4.0, if absent",
    )

    def check_catalogued(self) -> None:
        """Check that every memory is in the catalogue.

        Raises
        ------
        SpecError
            Naming the one that is not.
        """
        for name in self.memories:
            catalog.tier(name)


def adapters(given: AdapterSpace | None, place: Places) -> Space:
    """Return the choice of slots for adapters and of the memory behind them; none without adapters."""
    if given is None:
        return Space(())
    dimensions = [Dimension(f"{place.prefix}{SLOTS}", given.slots, "adapters that a client holds, and a batch may mix")]
    if given.memories:
        meaning = "memory in which adapters without a slot lie"
        dimensions.append(Dimension(f"{place.prefix}{MEMORY}", given.memories, meaning))
    return Space(tuple(dimensions))


def adapters_of(design: Design, prefix: str, given: AdapterSpace | None) -> Adapters | None:
    """Return the adapters that the pools of a stage serve; None if there are none.

    Raises
    ------
    SpecError
        If the design has slots for adapters and the space that says their rank was not given.
    """
    slots, memory = f"{prefix}{SLOTS}", f"{prefix}{MEMORY}"
    if slots not in design:
        return None
    if given is None:
        raise SpecError(
            f"{slots}: given {design[slots]}; the space that it belongs to says the rank, and was not given"
        )
    return Adapters(
        rank=given.rank, slots=design.number(slots), memory=design.text(memory) if memory in design else None
    )


def adapter_values(prefix: str, pool: Pool) -> dict[str, Value]:
    """Return the choices that a pool makes of :func:`adapters`."""
    if pool.adapters is None:
        return {}
    memory = {f"{prefix}{MEMORY}": pool.adapters.memory} if pool.adapters.memory else {}
    return {f"{prefix}{SLOTS}": pool.adapters.slots, **memory}
