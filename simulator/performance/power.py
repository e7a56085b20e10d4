"""Energy of devices from what their resources did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from simulator import catalog
from simulator.catalog import Accelerator, Cpu
from simulator.performance.price import devices_of
from simulator.spec.deployment import Deployment
from simulator.spec.pipeline_plan import PipelinePlan

Seconds = TypeVar("Seconds", float, npt.NDArray[np.float64])


@dataclass(frozen=True)
class PowerShares:
    """Shares of a device's dynamic range (TDP − idle) that its resources draw; together at most all of it.

    Attributes
    ----------
    active
        While a step is under way, whatever it does: clocks are up, the engine's host works.
    compute, memory
        Besides, while the matrix units and the memory bus work at the rate that they can reach.
    """

    active: float
    compute: float
    memory: float

    def dynamic_s(self, busy_s: Seconds, compute_s: Seconds, memory_s: Seconds) -> Seconds:
        """Return for how long all of the dynamic range would have to be drawn, seconds.

        Parameters
        ----------
        busy_s, compute_s, memory_s
            Time in steps, and that at full arithmetic and full memory rate.
        """
        drawn = self.active * busy_s + self.compute * compute_s + self.memory * memory_s
        return np.minimum(busy_s, drawn)  # type: ignore[no-any-return]


ACCELERATORS: Final = PowerShares(active=0.248, compute=0.752, memory=0.476)
"""Fitted by :func:`dse.calibration.power.fit_power` to decoding on A100 and H100 (LLM-Inference-Bench; Splitwise on
A100), 2026-11-21. Prompts reach the limit of the chip: ``active`` and ``compute`` are all of the dynamic range."""

PROCESSORS: Final = PowerShares(active=0.0, compute=0.9, memory=0.55)
"""By hand."""


def shares_of(device: Accelerator | Cpu) -> PowerShares:
    """Return the shares of a device's dynamic range."""
    return ACCELERATORS if isinstance(device, Accelerator) else PROCESSORS


def energy_j(
    device: Accelerator | Cpu, devices: int, span_s: float, busy_s: float, compute_s: float, memory_s: float
) -> float:
    """Return the energy of some devices over a span of time, joules.

    ``devices · (idle · span + (TDP − idle) · min(busy, active · busy + compute · compute_s + memory · memory_s))``.

    Parameters
    ----------
    devices
        Devices that share the work equally.
    span_s
        Time for which they are powered.
    busy_s, compute_s, memory_s
        Time in steps, and that at full arithmetic and full memory rate, the mean over clients.
    """
    dynamic_s = float(shares_of(device).dynamic_s(busy_s, compute_s, memory_s))
    return devices * (device.idle_w * span_s + (device.tdp_w - device.idle_w) * dynamic_s)


def tdp_w(deployment: Deployment, plan: PipelinePlan) -> float:
    """Return the sum of the TDP of all devices of a deployment, watts.

    Parameters
    ----------
    deployment
        Pools and services.
    plan
        The stages that its services serve.

    Raises
    ------
    SpecError
        If a name is not catalogued.
    """
    return sum(count * catalog.device(name).tdp_w for name, count in devices_of(deployment, plan).items())
