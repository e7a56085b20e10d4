"""What a service does at best: the least time of a batch with a request in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dse.bounds.load import Load
from dse.bounds.step_floor import KNOTS, running_minimum
from simulator.kernel.layout import LINEAR_KNOTS, SEQUENCE_KNOTS
from simulator.lowering.services import attention_tokens
from simulator.lowering.tables import service_tables
from simulator.spec.stages import Quantity, Service
from simulator.workload import PS_PER_S

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ServiceFloor:
    """Floors of a service stage, whichever of its services a request goes to.

    Attributes
    ----------
    batch_s
        Least time of a batch that holds the request, shape (n,).
    hop_s
        Least time from there to the next stage.
    """

    batch_s: Floats
    hop_s: float


def service_floor(services: Sequence[Service], stage: str, load: Load) -> ServiceFloor:
    """Return the floors of a service stage for all requests of a workload, those that do not pass it included."""
    here = [service for service in services if service.stage == stage]
    batch = np.min([_batch_s(service, load) for service in here], axis=0)
    return ServiceFloor(batch, min(max(1, round(service.hop_us * 1e6)) for service in here) / PS_PER_S)


def in_services(load: Load, services: Mapping[str, ServiceFloor], *, before: bool) -> Floats:
    """Return the least time that each request spends in services, shape (n,).

    Parameters
    ----------
    load
        The workload.
    services
        Floors of every service stage, by name.
    before
        Whether those before the LLM stage are meant (without one: all), or those behind it, the hop from there apart.
    """
    found = np.zeros(len(load))
    if not services:
        return found
    llms = load.plan.llm_stages
    for number, way in enumerate(load.plan.ways):
        here = np.flatnonzero(load.way == number)
        llm = next((place for place, name in enumerate(way) if name in llms), len(way))
        for place, name in enumerate(way):
            if (place < llm) == before and place != llm and len(here):
                floor = services[name]
                found[here] += floor.batch_s[here]
                if place < len(way) - 1:
                    found[here] += floor.hop_s
    return found


def units_of(quantity: Quantity, rows: npt.NDArray[np.void]) -> Floats:
    """Return how much work each request is, shape (n,)."""
    if quantity == "none":
        return np.ones(len(rows))
    return rows[f"{quantity}_tokens"].astype(np.float64)


def _batch_s(service: Service, load: Load) -> Floats:
    quantity = load.plan.quantity(service.stage)
    mean = attention_tokens(quantity, load.known_rows)
    table = service_tables(load.plan.service(service.stage), service, mean)[1].astype(np.float64)
    units = units_of(quantity, load.rows)
    most = float(units.max()) * min(service.max_batch_requests, len(units))
    linear, sequences = table[:LINEAR_KNOTS], table[LINEAR_KNOTS:]
    knots, values = KNOTS, linear
    if most > KNOTS[-1]:
        beyond = (most - KNOTS[-1]) / (KNOTS[-1] - KNOTS[-2])
        knots, values = np.append(KNOTS, most), np.append(linear, linear[-1] + beyond * (linear[-1] - linear[-2]))
    least = np.interp(units, knots, running_minimum(values)) - 1
    size = sequences[1 : service.max_batch_requests + 1]
    if service.max_batch_requests >= SEQUENCE_KNOTS:
        beyond = service.max_batch_requests - SEQUENCE_KNOTS + 1
        size = np.append(size, sequences[-1] + beyond * (sequences[-1] - sequences[-2]))
    return np.asarray(least + float(size.min())) / PS_PER_S
