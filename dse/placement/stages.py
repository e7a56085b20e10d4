"""Which stages of a pipeline are served by which hosts: the mixed-integer program and its answer.

For stage s and a client of kind c that can serve it (device, tensor parallelism)::

    y[s, c]     clients, integer

    sum over s, c on host h of devices[c] y[s, c] <= devices of host h
    cost:         minimise sum of price[c] y[s, c]    with  sum over c of rate[s, c] y[s, c] >= rate / most use
    utilisation:  maximise t                          with  sum over c of rate[s, c] y[s, c] >= t rate

The highest use is ``1 / t``. Requests are taken to be spread over a stage's clients by what these can do. Prefill and
decode in pools of their own and in the same pools are two programs; the better is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dse.placement.capacities import Capacity, lengths_of, llm_capacities, service_capacity
from dse.placement.linear_program import INFINITE, NOTHING, LinearProgram, Status
from dse.placement.spec import StagesSpec
from simulator.errors import SpecError
from simulator.spec.deployment import Deployment, Pool
from simulator.spec.stages import (
    LlmStage,
    added_prompt_tokens,
    quantities,
    services_before,
    services_of,
    the_llm,
)
from simulator.workload import PS_PER_S, Requests, build_requests

NO_LIMIT: Final = 1e4
"""A use that hosts only reach where a stage has no client."""


@dataclass(frozen=True)
class PlacedClients:
    """Equal clients of a stage, and the use of the stage's clients at the workload's rate."""

    capacity: Capacity
    clients: int
    utilisation: float

    @property
    def devices(self) -> int:
        """Devices of all of them."""
        return self.clients * self.capacity.devices

    @property
    def usd_per_hour(self) -> float:
        """Price of them."""
        return self.clients * self.capacity.usd_per_hour


@dataclass(frozen=True)
class Layout:
    """Prefill and decode together or apart: what the solver found and proved, in units of the objective."""

    name: str
    status: Status
    objective: float
    bound: float


@dataclass(frozen=True)
class StagesPlan:
    """Where every stage runs.

    Attributes
    ----------
    spec
        What was asked.
    rate_rps
        Requests a second of the workload.
    layout
        Whether prefill and decode are together or apart.
    placed
        Clients, in the order of the stages.
    layouts
        Every layout that was solved.
    """

    spec: StagesSpec
    rate_rps: float
    layout: str
    placed: tuple[PlacedClients, ...]
    layouts: tuple[Layout, ...]

    @property
    def usd_per_hour(self) -> float:
        """Price of the devices used."""
        return sum(each.usd_per_hour for each in self.placed)

    @property
    def bottleneck(self) -> PlacedClients:
        """Clients of the stage that is used most."""
        return max(self.placed, key=lambda each: each.utilisation)

    @property
    def objective(self) -> float:
        """US dollars an hour, or the highest use."""
        return min(each.objective for each in self.layouts)

    @property
    def bound(self) -> float:
        """No placement in any of the layouts is below it."""
        return min(each.bound for each in self.layouts)

    @property
    def gap(self) -> float:
        """``(objective - bound) / objective``."""
        return max(0.0, self.objective - self.bound) / max(self.objective, 1e-300)

    @property
    def status(self) -> Status:
        """Optimal if it is proved over all layouts."""
        return "optimal" if self.gap <= NOTHING else "feasible"

    @property
    def deployment(self) -> Deployment:
        """A deployment to simulate with the workload."""
        pools, services = [], []
        for each in self.placed:
            client, capacity = each.capacity.client, each.capacity
            if isinstance(client, Pool):
                name = f"{capacity.stage}-{capacity.device}-tp{client.tp}"
                stage = the_llm(self.spec.workload.resolved_classes[0].pipeline)
                assert isinstance(stage, LlmStage)
                pools.append(client.model_copy(update={"name": name, "clients": each.clients, "stage": stage.name}))
            else:
                services.append(client.model_copy(update={"clients": each.clients}))
        return Deployment(pools=tuple(pools), services=tuple(services))


def plan_stages(spec: StagesSpec) -> StagesPlan:
    """Return where every stage of a workload's pipeline runs, with the solver's proof.

    Raises
    ------
    SpecError
        If a name is unknown, the workload has several pipelines or LLM stages, a stage can run on none of the hosts,
        or the hosts cannot serve the rate (naming what is short).
    """
    requests = build_requests(spec.workload)
    rate = _rate_rps(requests)
    found: list[tuple[Layout, tuple[PlacedClients, ...]]] = []
    reasons = []
    for name in spec.layouts:
        stages = _capacities(spec, requests, apart=name == "apart")
        short = _without_host(stages)
        if short is not None:
            reasons.append(f"{name}: {short}")
            continue
        placed, layout = _solve(spec, name, stages, rate)
        if placed is None:
            reasons.append(f"{name}: {_short(spec, name, stages, rate)}")
            continue
        found.append((layout, placed))
    if not found:
        raise SpecError(f"hosts: {'; '.join(reasons)}; allowed: more hosts, or a lower rate")
    best, placed = min(found, key=lambda each: each[0].objective)
    return StagesPlan(spec, rate, best.name, placed, tuple(layout for layout, _ in found))


def _rate_rps(requests: Requests) -> float:
    """Return the mean rate of the requests."""
    span_s = float(requests.arrival_ps.max() - requests.arrival_ps.min()) / PS_PER_S
    if not span_s:
        raise SpecError("workload: all requests arrive at once, which has no rate; allowed: arrivals over some time")
    return (len(requests.arrival_ps) - 1) / span_s


def _capacities(spec: StagesSpec, requests: Requests, *, apart: bool) -> dict[str, list[Capacity]]:
    """Return for each stage what clients could serve it, in the order of the pipeline."""
    classes = spec.workload.resolved_classes
    pipeline = classes[0].pipeline
    if any(each.pipeline != pipeline for each in classes) or not isinstance(the_llm(pipeline), LlmStage):
        raise SpecError(
            "workload: several pipelines or a chain of LLM stages given; allowed: one pipeline with one LLM"
        )
    services = services_of(pipeline)
    lengths = lengths_of(requests, added_prompt_tokens(services_before(pipeline)))
    devices = [host.device for host in spec.hosts]
    found: dict[str, list[Capacity]] = {}
    for stage, quantity in zip(services, quantities(services), strict=True):
        each = [service_capacity(stage, device, quantity, lengths) for device in devices]
        found[stage.name] = [capacity for capacity in each if capacity is not None]
    llm = [capacity for device in devices for capacity in llm_capacities(spec, device, lengths)]
    for name in ("prefill", "decode") if apart else ("llm",):
        found[name] = [capacity for capacity in llm if capacity.stage == name]
    return found


def _without_host(stages: dict[str, list[Capacity]]) -> str | None:
    """Return in words which stages none of the hosts can serve."""
    none = [name for name, capacities in stages.items() if not capacities]
    return f"none of them has the memory or the kind of processor for {', '.join(none)}" if none else None


def _program(spec: StagesSpec, stages: dict[str, list[Capacity]]) -> tuple[LinearProgram, dict[str, list[int]]]:
    """Return the clients as variables, within the devices that there are."""
    program = LinearProgram()
    counts = {host.device: host.count for host in spec.hosts}
    clients = {
        name: [program.variable(0, counts[each.device] // each.devices, integer=True) for each in capacities]
        for name, capacities in stages.items()
    }
    for host in spec.hosts:
        taken = {
            variable: float(each.devices)
            for name, capacities in stages.items()
            for variable, each in zip(clients[name], capacities, strict=True)
            if each.device == host.device
        }
        if taken:
            program.at_most(taken, float(host.count))
    return program, clients


def _solve(
    spec: StagesSpec, layout: str, stages: dict[str, list[Capacity]], rate: float
) -> tuple[tuple[PlacedClients, ...] | None, Layout]:
    program, clients = _program(spec, stages)
    relative = {
        name: {v: each.requests_per_s / rate for v, each in zip(clients[name], capacities, strict=True)}
        for name, capacities in stages.items()
    }
    if spec.objective == "cost":
        for served in relative.values():
            program.at_least(served, 1.0 / spec.most_utilisation)
        program.cost = {
            v: each.usd_per_hour
            for name, capacities in stages.items()
            for v, each in zip(clients[name], capacities, strict=True)
        }
        solution = program.minimise(spec.time_limit_s)
        objective, bound = solution.objective, solution.bound
    else:
        times = program.variable(1.0 / spec.most_utilisation)
        for served in relative.values():
            program.at_least(served | {times: -1.0}, 0.0)
        program.cost = {times: -1.0}
        solution = program.minimise(spec.time_limit_s)
        objective, bound = -1.0 / solution.objective, -1.0 / solution.bound
    if not len(solution.values):
        return None, Layout(layout, solution.status, INFINITE, bound)
    placed = []
    for name, capacities in stages.items():
        counts = [round(solution.values[v]) for v in clients[name]]
        served = sum(count * each.requests_per_s for count, each in zip(counts, capacities, strict=True))
        placed += [
            PlacedClients(each, count, rate / served) for count, each in zip(counts, capacities, strict=True) if count
        ]
    return tuple(placed), Layout(layout, solution.status, objective, bound)


def _short(spec: StagesSpec, layout: str, stages: dict[str, list[Capacity]], rate: float) -> str:
    """Return in words how far the hosts are from serving the rate."""
    any_use = spec.model_copy(update={"objective": "utilisation", "most_utilisation": NO_LIMIT})
    placed, found = _solve(any_use, layout, stages, rate)
    if placed is None or found.objective > NO_LIMIT / 2:
        return f"they are too few for a client of each of {', '.join(stages)}"
    most = max(placed, key=lambda each: each.utilisation)
    return (
        f"at {rate:.3g} requests/s the least use of the busiest stage is {found.objective:.2f} "
        f"({most.capacity.stage}), allowed is {spec.most_utilisation:g}"
    )
