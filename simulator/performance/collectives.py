"""Collectives between the accelerators of a client: start-up plus bytes over bandwidth.

**Rings.** In a ring of P participants every link carries ``(P − 1)/P · n`` bytes for a reduce-scatter or an all-gather
of n bytes, and twice as much for an all-reduce (Thakur, Rabenseifner and Gropp, "Optimization of Collective
Communication Operations in MPICH", 2005; NCCL-tests, doc/PERFORMANCE.md, "bus bandwidth"). NCCL lays rings through all
levels of links, as many as there are accelerators (adapters) below a level, so the narrowest level decides::

    seconds = start-up + passes · (P − 1 + own) / P · n / min over levels (share · bandwidth · rails)

with ``passes`` 2 for an all-reduce and 1 for its halves, ``rails`` the members of the group within a domain of the
level below, and ``own`` the copy of a participant's own part. On A100 servers (Vidur) 4 GPUs of 2 servers take 0.74
of the time of 2 in 2, as these rings say; reducing within the servers first would take 0.5.

**Protocols.** With a link profile the time is the lesser of those by the low-latency protocol (LL, LL128: flags travel
with the data) and the bulk protocol (Simple: blocks of data behind a barrier), as NCCL chooses between them (NCCL,
src/graph/tuning.cc)::

    start-up = largest start_up of a level + passes · sum over levels of (members − 1) · step

**Reductions in the switch** (NVLS) are a third way for all-reduces inside a domain: every participant sends its n bytes
once and gets back its part, then all parts: ``start-up + (p − 1) step + (p + 1)/p · n / (share · bandwidth)``.

**Datasheet.** A level without a profile has the start-up ``α (1 + log2 p)``, as of trees and one-shot kernels, and
reaches the share ``link_peak`` of its bandwidth by any protocol.

**Small all-reduces.** Engines have kernels of their own for them, which read their neighbours' memory directly (vLLM,
SGLang and TensorRT-LLM: custom all-reduce, one-shot or two-shot). Where a profile has one, :func:`all_reduce` is the
lesser of it and the library, which :func:`ring_all_reduce` is.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from simulator.catalog.link_profile import Protocol
from simulator.performance.coefficients import Coefficients
from simulator.performance.roofline import Floats, Work
from simulator.performance.topology import Group, Hop

CUSTOM_BYTES: Final = 8 * 2**20
"""Size from which engines leave all-reduces to the library (vLLM and SGLang, ``CustomAllreduce``, ``max_size``)."""


def all_reduce(message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of an all-reduce as engines do it: by their own kernel where that is faster.

    The kernel is the faster of one shot, in which everybody reads everything, and two, a part each and the sums:
    ``start + (p − 1) n / (share · bandwidth)`` with ``start = start-up + (p − 1) step``, and
    ``2 start + 2 (p − 1)/p · n / (share · bandwidth)``. It serves less than ``CUSTOM_BYTES``.

    Parameters
    ----------
    message_bytes
        Size n of the reduced tensor, any shape.
    group
        The participants.
    """
    library = ring_all_reduce(message_bytes, group, c)
    profile = group.hops[0].profile if len(group.hops) == 1 else None
    if profile is None or profile.custom_all_reduce is None:
        return library
    hop = group.hops[0]
    seconds = custom_all_reduce_s(profile.custom_all_reduce, message_bytes, hop.bytes_per_s, hop.members)
    small = np.where(message_bytes < CUSTOM_BYTES, seconds, np.inf)
    return _links(np.minimum(small, library.seconds), library.link_bytes)


def custom_all_reduce_s(
    protocol: Protocol, message_bytes: Floats, bytes_per_s: float, members: Floats | float
) -> Floats:
    """Return the seconds of an engine's own all-reduce kernel of one shot or two, whichever is faster."""
    start_s = (protocol.start_up_us + (members - 1) * protocol.step_us) * 1e-6
    wire_s = (members - 1) * message_bytes / (protocol.share * bytes_per_s)
    return np.asarray(np.minimum(start_s + wire_s, 2 * start_s + 2 / members * wire_s))


def ring_all_reduce(message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of an all-reduce by the communication library: rings, or reductions in the switch."""
    rings = _ring(2, message_bytes, group, c)
    profile = group.hops[0].profile if len(group.hops) == 1 else None
    if profile is None or profile.in_switch is None:
        return rings
    hop = group.hops[0]
    wire = (hop.members + 1) / hop.members * message_bytes
    seconds = protocol_s(profile.in_switch, wire, hop.bytes_per_s, hop.members - 1)
    return _links(np.minimum(seconds, rings.seconds), rings.link_bytes)


def reduce_scatter(message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of a reduce-scatter of a tensor of so many bytes, which every participant holds at first."""
    return _ring(1, message_bytes, group, c)


def all_gather(message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of an all-gather of a tensor of so many bytes, which every participant holds at last."""
    return _ring(1, message_bytes, group, c)


def all_to_all(message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of an all-to-all in which every participant sends so many bytes, an equal part to each.

    What leaves a domain goes over the level that joins it to the others: with q participants inside and p at that level
    ``(p − 1)/p · n / bandwidth`` each; levels follow each other. (A part for another domain is counted once, at the
    level it crosses, and a part for a neighbour only there.)
    """
    times = []
    for large in (False, True):
        seconds = np.zeros_like(message_bytes)
        outside = message_bytes
        for hop in reversed(group.hops):
            share = _share(hop, c, large=large) * (hop.profile.all_to_all if hop.profile else 1.0)
            seconds = seconds + (hop.members - 1) / hop.members * outside / (hop.bytes_per_s * share)
            outside = outside / hop.members
        times.append(seconds + _start_up(group, 1, large=large))
    sent = (group.devices - 1) / group.devices * message_bytes
    return _links(np.minimum(*times), sent)


def send_recv(message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of sending bytes to the next of a group, on its outermost level: one step, all bytes once."""
    if not group.hops:
        return _links(np.zeros_like(message_bytes), message_bytes * 0.0)
    hop = group.hops[-1]
    if hop.profile is None:
        return _links(hop.latency_s + message_bytes / (hop.bytes_per_s * c.link_peak), message_bytes)
    bandwidth = hop.bytes_per_s * hop.profile.send_recv
    times = [protocol_s(protocol, message_bytes, bandwidth, 1) for protocol in hop.profile.protocols]
    return _links(np.minimum(*times), message_bytes)


def protocol_s(protocol: Protocol, wire_bytes: Floats, bytes_per_s: float, steps: float) -> Floats:
    """Return ``start-up + steps · step + wire bytes / (share · bandwidth)``, seconds."""
    start_up_s = (protocol.start_up_us + steps * protocol.step_us) * 1e-6
    return start_up_s + wire_bytes / (protocol.share * bytes_per_s)


def _ring(passes: int, message_bytes: Floats, group: Group, c: Coefficients) -> Work:
    """Return the work of one or two passes of rings through all levels."""
    if not group.hops:
        return _links(np.zeros_like(message_bytes), message_bytes * 0.0)
    devices = group.devices
    wire = passes * (devices - 1) / devices * message_bytes
    innermost = group.hops[0].profile
    own = passes * (innermost.own_part if innermost else 0.0) / devices * message_bytes
    times = []
    for large in (False, True):
        rates, rails = [], 1
        for hop in group.hops:
            rates.append(_share(hop, c, large=large) * hop.bytes_per_s * rails)
            rails *= hop.members
        times.append(_start_up(group, passes, large=large) + wire / min(rates) + own / rates[0])
    return _links(np.minimum(*times), wire)


def _share(hop: Hop, c: Coefficients, *, large: bool) -> float:
    """Return the share of a level's bandwidth that a protocol reaches."""
    return hop.profile.protocols[large].share if hop.profile else c.link_peak


def _start_up(group: Group, passes: int, *, large: bool) -> float:
    """Return the start-up of a collective over all levels, seconds; inner levels without a profile start each pass."""
    library, steps = 0.0, 0.0
    for hop in group.hops:
        if hop.profile:
            protocol = hop.profile.protocols[large]
            library = max(library, protocol.start_up_us * 1e-6)
            steps += passes * (hop.members - 1) * protocol.step_us * 1e-6
        else:
            starts = 1 if hop is group.hops[-1] else passes
            steps += starts * hop.latency_s * float(1 + np.log2(hop.members))
    return library + steps


def _links(seconds: Floats, link_bytes: Floats) -> Work:
    """Return work of the links alone."""
    zero = np.zeros_like(seconds)
    return Work(seconds, zero, zero, seconds, zero, zero, link_bytes)
