"""Collectives between the accelerators of a client: start-up plus bytes over bandwidth."""

from __future__ import annotations

import numpy as np

from simulator.catalog import Accelerator
from simulator.performance.coefficients import Coefficients
from simulator.performance.roofline import Floats, Work


def all_reduce(message_bytes: Floats, devices: int, accelerator: Accelerator, c: Coefficients) -> Work:
    """Return the work of an all-reduce over the scale-up links.

    ``α (1 + log2 p) + 2 (p − 1)/p · bytes / bandwidth``: a ring moves ``2 (p − 1)/p`` of the message over
    every link (Thakur et al., 2005); the start-up grows with the logarithm, as for the tree and
    one-shot kernels that are used where start-up matters.

    Parameters
    ----------
    message_bytes
        Size of the reduced tensor, any shape.
    devices
        Number of accelerators p.
    """
    zero = np.zeros_like(message_bytes)
    if devices == 1:
        return Work(zero, zero, zero, zero)
    links = accelerator.scale_up
    on_wire = 2 * (devices - 1) / devices * message_bytes / (links.bytes_per_s * c.link_peak)
    start_up = links.latency_s * (1 + np.log2(devices))
    return Work(on_wire + start_up, zero, zero, on_wire + start_up)
