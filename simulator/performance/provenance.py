"""Whether what a pool's times are computed with was fitted to measurements, and to which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from simulator import catalog
from simulator.catalog import KernelProfile
from simulator.performance.engine import Engine, kernels_of, profile_of
from simulator.spec.deployment import Pool
from simulator.spec.engine_profile import EngineProfile

Status = Literal["yes", "transferred", "datasheet"]
"""Fitted to this accelerator; fitted to others; set by hand for any."""

STATUSES: Final[tuple[Status, ...]] = ("yes", "transferred", "datasheet")
"""From good to bad."""

BY_HAND: Final = "by hand"


@dataclass(frozen=True)
class Provenance:
    """Where the times of a pool come from.

    Attributes
    ----------
    accelerator
        Of the pool.
    kernels, kernels_from, kernels_source
        Status of the kernels' coefficients, the accelerator that they were fitted to if they are transferred, and the
        measurements.
    engine, engine_status, engine_from, engine_source
        Name of the engine's profile, its status (``datasheet``: overheads by hand), the accelerators that it was fitted
        on, and the measurements.
    """

    accelerator: str
    kernels: Status
    kernels_from: str | None
    kernels_source: str
    engine: str | None
    engine_status: Status
    engine_from: tuple[str, ...]
    engine_source: str

    @property
    def calibrated(self) -> Status:
        """The worse of kernels and engine."""
        return max(self.kernels, self.engine_status, key=STATUSES.index)

    @property
    def engine_calibrated(self) -> str:
        """Status of the engine in its own words: ``yes``, ``transferred`` or ``by hand``."""
        return BY_HAND if self.engine_status == "datasheet" else self.engine_status

    @property
    def kernels_words(self) -> str:
        """Status of the kernels in words."""
        if self.kernels == "yes":
            return "kernels calibrated"
        if self.kernels == "transferred":
            return f"kernels transferred from {self.kernels_from}"
        return "kernels by datasheet"

    @property
    def engine_words(self) -> str:
        """The engine in words, with its status unless it is calibrated."""
        if self.engine is None:
            return "engine by hand"
        if self.engine_status == "yes":
            return self.engine
        if self.engine_status == "transferred":
            return f"{self.engine} transferred from {', '.join(self.engine_from)}"
        return f"{self.engine} by hand"

    @property
    def words(self) -> str:
        """Both in words."""
        return f"{self.engine_words}, {self.kernels_words}"


def provenance(pool: Pool) -> Provenance:
    """Return where the times of a pool come from; of pipeline stages that of the worst.

    Raises
    ------
    SpecError
        If there is no such engine, or its file cannot be used.
    """
    profile = profile_of(pool)
    if not pool.mixed:
        return _provenance(pool.accelerator, profile, kernels_of(pool))
    return _worst(_provenance(name, profile, catalog.kernel_profile(name)) for name in pool.accelerator_counts)


def provenance_of(engine: Engine) -> Provenance:
    """Return where the times of an engine come from; of pipeline stages that of the worst."""
    return _worst(_provenance(own.accelerator.name, own.profile, own.kernels) for own in engine.stage_engines)


def _worst(found: Iterable[Provenance]) -> Provenance:
    return max(found, key=lambda each: (STATUSES.index(each.calibrated), STATUSES.index(each.kernels)))


def _provenance(accelerator: str, profile: EngineProfile | None, kernels: KernelProfile) -> Provenance:
    status: Status = "datasheet"
    if profile is not None and profile.calibrated == "yes":
        status = "yes" if not profile.accelerators or accelerator in profile.accelerators else "transferred"
    return Provenance(
        accelerator=accelerator,
        kernels=kernels.calibrated,
        kernels_from=kernels.transferred_from,
        kernels_source=kernels.source,
        engine=profile.name if profile else None,
        engine_status=status,
        engine_from=profile.accelerators if profile else (),
        engine_source=profile.source if profile else "",
    )
