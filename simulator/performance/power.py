"""Energy of devices from what their resources did."""

from __future__ import annotations

from simulator.catalog import Accelerator, Cpu

COMPUTE_SHARE = 0.9
"""Share of the dynamic range (TDP - idle) drawn while the matrix units are saturated."""
MEMORY_SHARE = 0.55
"""Share drawn while the memory bus is; both by hand after the prompt and token power of Splitwise
(arXiv:2311.18677, figure 8: prompts close to TDP, token generation a bit above half)."""


def energy_j(
    device: Accelerator | Cpu, devices: int, span_s: float, busy_s: float, compute_s: float, memory_s: float
) -> float:
    """Return the energy of some devices over a span of time, joules.

    ``devices · (idle · span + (TDP − idle) · min(busy, 0.9 compute + 0.55 memory))``.

    Parameters
    ----------
    devices
        Devices that share the work equally.
    span_s
        Time for which they are powered.
    busy_s, compute_s, memory_s
        Time in steps, and that at full arithmetic and full memory rate, the mean over clients.
    """
    dynamic_s = min(busy_s, COMPUTE_SHARE * compute_s + MEMORY_SHARE * memory_s)
    return devices * (device.idle_w * span_s + (device.tdp_w - device.idle_w) * dynamic_s)
