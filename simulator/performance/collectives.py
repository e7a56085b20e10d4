"""Collectives between the accelerators of a client: start-up plus bytes over bandwidth, level by level.

With p participants, start-up α and n bytes (Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication
Operations in MPICH", 2005): a ring moves ``(p − 1)/p · n`` over every link for a reduce-scatter, an all-gather or a
pairwise exchange, and twice as much for an all-reduce; the start-up is taken to grow as ``α (1 + log2 p)``, as for the
tree and one-shot kernels that are used where start-up matters. Over several levels the inner ones reduce-scatter,
the outermost all-reduces what is left, and the inner ones gather, as NCCL's trees and rings over all adapters of a
server do in effect.
"""

from __future__ import annotations

import numpy as np

from simulator.performance.coefficients import Coefficients
from simulator.performance.roofline import Floats, Work
from simulator.performance.topology import Group, Hop


def all_reduce(message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of an all-reduce.

    Parameters
    ----------
    message_bytes
        Size of the reduced tensor, any shape.
    group
        The participants.
    """
    if not group.hops:
        return _links(np.zeros_like(message_bytes))
    inner, outermost = group.hops[:-1], group.hops[-1]
    left = message_bytes
    seconds = np.zeros_like(message_bytes)
    for hop in inner:
        seconds = seconds + 2 * _ring(left, hop, c)
        left = left / hop.members
    p = outermost.members
    on_wire = 2 * (p - 1) / p * left / (outermost.bytes_per_s * c.link_peak)
    return _links(seconds + (on_wire + _start_up(outermost)))


def reduce_scatter(message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of a reduce-scatter of a tensor of so many bytes, which every participant holds at first."""
    left = message_bytes
    seconds = np.zeros_like(message_bytes)
    for hop in group.hops:
        seconds = seconds + _ring(left, hop, c)
        left = left / hop.members
    return _links(seconds)


def all_gather(message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of an all-gather of a tensor of so many bytes, which every participant holds at last."""
    return reduce_scatter(message_bytes, group, c)


def all_to_all(message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of an all-to-all in which every participant sends so many bytes, an equal part to each.

    What leaves a domain goes over the level that joins it to the others: with q participants inside and p at that level
    ``α (1 + log2 p) + (p − 1)/p · n / bandwidth`` each; levels follow each other. (A part for another domain is
    counted once, at the level it crosses, and a part for a neighbour only there.)
    """
    seconds = np.zeros_like(message_bytes)
    outside = message_bytes
    for hop in reversed(group.hops):
        seconds = seconds + _ring(outside, hop, c)
        outside = outside / hop.members
    return _links(seconds)


def send_recv(message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of sending bytes to the next of a group, on its outermost level: ``α + n / bandwidth``."""
    if not group.hops:
        return _links(np.zeros_like(message_bytes))
    hop = group.hops[-1]
    return _links(hop.latency_s + message_bytes / (hop.bytes_per_s * c.link_peak))


def _ring(message_bytes: Floats, hop: Hop, c: Coefficients) -> Floats:
    """Return the time of moving ``(p − 1)/p`` of a message over one level."""
    p = hop.members
    return (p - 1) / p * message_bytes / (hop.bytes_per_s * c.link_peak) + _start_up(hop)


def _start_up(hop: Hop) -> float:
    return float(hop.latency_s * (1 + np.log2(hop.members)))


def _links(seconds: Floats) -> Work:
    """Return work of the links alone."""
    zero = np.zeros_like(seconds)
    return Work(seconds, zero, zero, seconds)
