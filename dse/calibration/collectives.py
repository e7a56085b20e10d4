"""Fits of link profiles to measured collectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dse.measurements.collectives import Collectives
from simulator.catalog import LinkProfile
from simulator.catalog.link_profile import Protocol
from simulator.performance.collectives import custom_all_reduce_s

Floats = npt.NDArray[np.float64]

LEAST_BYTES: Final = 65_536.0
"""Smaller messages are start-up alone, which clocks of whole microseconds and host launches blur."""

PASSES: Final = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "all_to_all": 1, "send_recv": 1}
"""Passes of a ring, or steps of an exchange."""


@dataclass(frozen=True)
class Wire:
    """What collectives put on the narrowest level of links: arrays of shape (rows,).

    Attributes
    ----------
    steps
        Steps of the rings on this level.
    wire_bytes
        Bytes that one rail carries.
    own_bytes
        Bytes that a participant moves in its own memory.
    exchange, send, reduce
        Whether the row is an all-to-all, a send, or an all-reduce.
    switch_bytes, others
        Bytes that a participant sends and adds up where the switch reduces, and participants besides it.
    seconds
        Measured duration.
    """

    steps: Floats
    wire_bytes: Floats
    own_bytes: Floats
    exchange: npt.NDArray[np.bool_]
    send: npt.NDArray[np.bool_]
    reduce: npt.NDArray[np.bool_]
    switch_bytes: Floats
    others: Floats
    seconds: Floats


def wire_of(measured: Collectives, *, rails: int = 8) -> Wire:
    """Return what measured collectives put on the network between servers, or on the links inside where there is one.

    Parameters
    ----------
    measured
        Rows that all have one server, or all have several.
    rails
        Network adapters of a server: so many of its participants have one of their own.
    """
    workers = measured.workers.astype(float)
    inside = measured.per_node.astype(float)
    across = workers > inside
    members = np.where(across, workers / inside, workers)
    lanes = np.where(across, np.minimum(inside, rails), 1.0)
    passes = np.array([PASSES[name] for name in measured.collective.tolist()], dtype=float)
    exchange, send = measured.collective == "all_to_all", measured.collective == "send_recv"
    parts = np.where(send, 1.0, np.where(exchange & across, (members - 1) / members * inside, (workers - 1) / workers))
    n = measured.message_bytes
    return Wire(
        steps=np.where(send, 1.0, passes * (members - 1)),
        wire_bytes=np.where(send, 1.0, passes * parts / lanes) * n,
        own_bytes=np.where(send | exchange | across, 0.0, passes / workers) * n,
        exchange=exchange,
        send=send,
        reduce=measured.collective == "all_reduce",
        switch_bytes=(workers + 1) / workers * n,
        others=workers - 1,
        seconds=measured.seconds,
    )


def fit_links(
    measured: Collectives,
    raw_gb_per_s: float,
    *,
    name: str,
    rails: int = 8,
    protocols: int = 2,
    switch: bool = False,
    launch_us: float = 0.0,
    least_bytes: float = LEAST_BYTES,
) -> LinkProfile:
    """Return the profile whose times differ least from the measured ones, in logarithm.

    Every collective, group and octave of sizes counts the same, however many rows it has; the loss grows linearly above
    10 %, for the outliers.

    Parameters
    ----------
    measured
        Collectives on one kind of link.
    raw_gb_per_s
        Bandwidth of one accelerator in one direction on this link, to which the shares refer.
    rails
        Network adapters of a server.
    protocols
        Two for a low-latency and a bulk protocol, one for the latter alone.
    switch
        Whether the switch may reduce.
    launch_us
        Time between launches of the host that measured collectives of several passes one by one: shorter ones were
        measured as so long, which says nothing of the links.
    least_bytes
        Smaller messages are left out.
    """
    from scipy.optimize import least_squares

    rows = measured.where(measured.message_bytes >= least_bytes)
    wire = wire_of(rows, rails=rails)
    octave = np.floor(np.log2(rows.message_bytes)).astype(int)
    cells = [
        f"{c} {w} {p} {o}" for c, w, p, o in zip(rows.collective, rows.workers, rows.per_node, octave, strict=True)
    ]
    _, place, count = np.unique(cells, return_inverse=True, return_counts=True)
    weight = 1.0 / np.sqrt(count[place])
    floor = np.where(wire.send, 0.0, launch_us * 1e-6)

    def errors(x: Floats) -> Floats:
        return np.asarray(
            weight * np.log(np.maximum(_seconds(x, wire, raw_gb_per_s, protocols, switch), floor) / wire.seconds)
        )

    # Start-up and step (µs) and share of the bulk protocol; own part; all-to-all and send over ring; the low-latency
    # protocol; reductions in the switch.
    fastest = 0.8 if raw_gb_per_s > 100 else 0.6
    first = np.log([17.0, 1.0, fastest, 0.3, 1.0, 1.0, 7.0, 1.0, 0.3, 40.0, 1.0, 0.6])
    low = np.log([0.5, 0.01, 0.01, 1e-3, 0.5, 0.5, 0.5, 0.01, 0.01, 0.5, 0.01, 0.01])
    high = np.log([1e4, 1e3, 1.0, 1.0, 2.0, 2.0, 1e3, 1e2, 1.0, 1e3, 1e2, 1.0])
    used = slice(0, 12 if switch else 9 if protocols == 2 else 6)
    found = least_squares(errors, first[used], bounds=(low[used], high[used]), loss="soft_l1", f_scale=0.1).x
    bulk = _protocol(found[:3])
    low_latency = _protocol(found[6:9]) if protocols == 2 else None
    in_switch = _protocol(found[9:12]) if switch else None
    kinds = set(rows.collective.tolist())
    rings = bool(kinds - {"all_to_all", "send_recv"})
    profile = LinkProfile(
        name=name,
        description=name,
        low_latency=low_latency,
        in_switch=in_switch,
        bulk=bulk,
        own_part=_round(found[3]) if rings and wire.own_bytes.any() else 0.0,
        all_to_all=_round(found[4]) if rings and "all_to_all" in kinds else 1.0,
        send_recv=_round(found[5]) if rings and "send_recv" in kinds else 1.0,
        calibrated="yes",
        source=", ".join(sorted(set(rows.platform.tolist()))),
        date="",
        residuals="",
    )
    error = np.median(np.abs(_seconds(found, wire, raw_gb_per_s, protocols, switch) / rows.seconds - 1))
    return profile.model_copy(update={"residuals": f"median {100 * error:.1f} % of {len(rows.seconds)} rows"})


def fit_custom_all_reduce(message_bytes: Floats, members: Floats, seconds: Floats, raw_gb_per_s: float) -> Protocol:
    """Return the coefficients of an engine's own all-reduce kernel, by least squares on the logarithm of the time.

    Parameters
    ----------
    message_bytes, members, seconds
        Sizes of the reduced tensors, participants, and measured durations, shape (rows,).
    raw_gb_per_s
        Raw bandwidth of one accelerator in one direction.
    """
    from scipy.optimize import least_squares

    def protocol(x: Floats) -> Protocol:
        start_up_us, step_us, share = (float(f"{value:.3g}") for value in x)
        return Protocol(start_up_us=start_up_us, step_us=step_us, share=share)

    def error(x: Floats) -> Floats:
        exact = Protocol(start_up_us=float(x[0]), step_us=float(x[1]), share=float(x[2]))
        found = custom_all_reduce_s(exact, message_bytes, raw_gb_per_s * 1e9, members)
        return np.asarray(np.log(found / seconds))

    start = (4.0, 0.2, 0.5)
    bounds = ((0.0, 0.0, 0.01), (30.0, 5.0, 1.0))
    return protocol(least_squares(error, start, bounds=bounds, x_scale=start, loss="soft_l1", f_scale=0.1).x)


def _seconds(x: Floats, wire: Wire, raw_gb_per_s: float, protocols: int, switch: bool) -> Floats:
    """Return the times of collectives from the logarithms of a profile's figures."""
    figures = np.exp(x)
    raw = raw_gb_per_s * 1e9
    own, exchange, send = figures[3:6]
    factor = np.where(wire.exchange, exchange, np.where(wire.send, send, 1.0))
    carried = wire.wire_bytes / factor + own * wire.own_bytes
    times = [
        (start_up_us + wire.steps * step_us) * 1e-6 + carried / (share * raw)
        for start_up_us, step_us, share in (figures[0:3], figures[6:9])[:protocols]
    ]
    if switch:
        start_up_us, step_us, share = figures[9:12]
        reduced = (start_up_us + wire.others * step_us) * 1e-6 + wire.switch_bytes / (share * raw)
        times.append(np.where(wire.reduce, reduced, np.inf))
    return np.asarray(np.minimum.reduce(times))


def _protocol(x: Floats) -> Protocol:
    """Return the protocol of three logarithms."""
    return Protocol(start_up_us=_round(x[0]), step_us=_round(x[1]), share=_round(x[2]))


def _round(logarithm: float) -> float:
    return float(f"{np.exp(logarithm):.3g}")
