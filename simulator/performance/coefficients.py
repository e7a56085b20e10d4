"""What the cost model multiplies with: coefficients of an accelerator's kernels, and overheads of an engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from simulator import catalog
from simulator.catalog import Accelerator, KernelProfile
from simulator.performance.engine_overheads import EngineOverheads
from simulator.spec.engine_profile import EngineProfile


@dataclass(frozen=True)
class Coefficients:
    """Kernels and engine.

    Attributes
    ----------
    kernels
        What kernels reach of the accelerator's peaks (``catalog/kernels.yaml``).
    engine
        What an engine adds.
    """

    kernels: KernelProfile
    engine: EngineOverheads

    @property
    def link_peak(self) -> float:
        """Share of link bandwidth that large collectives and transfers reach."""
        return self.engine.link_peak


BY_HAND: Final = Coefficients(catalog.kernel_profile("datasheet"), EngineOverheads())
"""Round shares of the datasheet's peaks, the same for all chips."""


def coefficients_of(
    accelerator: Accelerator,
    profile: EngineProfile | None = None,
    accelerators: int = 1,
    kernels: KernelProfile | None = None,
) -> Coefficients:
    """Return the coefficients of an engine on an accelerator; without an engine its overheads are set by hand.

    Measured kernels have their launches in their start-up times; the gap between kernels that is set by hand stands for
    them where kernels have none, and is left out elsewhere.

    Parameters
    ----------
    accelerator
        Whose kernels: calibrated, transferred from a relative, or set by hand.
    profile
        The engine.
    accelerators
        How many a client has.
    kernels
        What the kernels reach; as catalogued if absent.
    """
    kernels = kernels or catalog.kernel_profile(accelerator.name)
    overheads = EngineOverheads()
    if profile is not None:
        catalogued = catalog.base_name(accelerator.name)
        overheads = EngineOverheads.of(profile, catalogued, accelerators)
        kernels = kernels.inside(profile.launch_share, profile.compute_slowdown.get(catalogued, 1.0))
    return Coefficients(kernels, overheads if kernels.calibrated == "datasheet" else replace(overheads, layer_s=0.0))
