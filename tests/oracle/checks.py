"""What must be true when a simulation is at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .llm import LlmClient
from .records import RequestOutcome
from .request import Request
from .service import ServiceClient
from .sessions import check_all_arrived

if TYPE_CHECKING:
    from .engine import Simulation


def check_at_end(simulation: Simulation) -> None:
    assert not simulation.hops
    assert not simulation.to_arrive
    for client in simulation.clients:
        client.check_at_end()
    for link in simulation.links:
        link.check_at_end()
    for request in simulation.requests:
        if request.outcome.rejected:
            check_rejected(request)
        else:
            check_done(simulation, request)
    check_all_arrived(simulation.requests)
    check_tokens(simulation)
    check_services(simulation)
    check_caches(simulation)


def check_rejected(request: Request) -> None:
    arrival_ps, visits = request.outcome.arrival_ps, [(-1, -1, -1) for _ in request.way]
    assert request.outcome == RequestOutcome(arrival_ps=arrival_ps, rejected=True, visits=visits)


def check_done(simulation: Simulation, request: Request) -> None:
    """It passed all stages of its way, one after the other."""
    outcome = request.outcome
    assert request.place == len(request.way)
    assert outcome.visits[0][0] == outcome.arrival_ps
    assert outcome.visits[-1][2] == outcome.done_ps
    for reached, started, left in outcome.visits:
        assert reached <= started <= left
    for (_, _, left), (reached, _, _) in zip(outcome.visits, outcome.visits[1:], strict=False):
        assert left + 1 <= reached, "a hop takes at least 1 ps"
    kinds = [simulation.stages[s].spec.kind for s in request.way]
    served = [left - reached for kind, (reached, _, left) in zip(kinds, outcome.visits, strict=True) if kind != "llm"]
    assert outcome.service_ps == sum(served)
    if "llm" in kinds:
        check_llm_visit(simulation, request, kinds.index("llm"))
    else:
        assert outcome == RequestOutcome(
            done_ps=outcome.done_ps,
            service_ps=outcome.service_ps,
            arrival_ps=outcome.arrival_ps,
            visits=outcome.visits,
        )


def check_llm_visit(simulation: Simulation, request: Request, place: int) -> None:
    outcome = request.outcome
    assert request.generated == request.output
    assert not request.swapped
    assert outcome.visits[place][1:] == (outcome.scheduled_ps, outcome.finish_ps)
    assert outcome.scheduled_ps <= outcome.first_token_ps <= outcome.finish_ps
    clients = [simulation.clients[outcome.prefill_client], simulation.clients[outcome.finish_client]]
    assert all(isinstance(c, LlmClient) and c.spec.stage == request.way[place] for c in clients)
    first, last = (c.spec for c in clients)
    if first.role in ("both", "decode") or request.stays or request.output == 1:
        assert clients[0] is clients[1]
    else:
        assert last.role == "decode"
        assert last.group == first.group or not simulation.stages[first.stage].spec.local_handover


def check_tokens(simulation: Simulation) -> None:
    """Token conservation over the whole run."""
    served = [r for r in simulation.requests if r.outcome.finish_ps != -1]
    outcomes = [c.outcome for c in simulation.clients]
    decoded = sum(o.decode_tokens for o in outcomes)
    assert decoded + simulation.tokens_emitted_by_prefills == sum(r.output for r in served)
    prefilled = sum(o.prefill_tokens for o in outcomes)
    assert prefilled == simulation.tokens_of_completed_prefills + simulation.tokens_of_lost_prefills
    assert sum(simulation.gaps.values()) == sum(r.output - 1 for r in served)
    assert sum(o.preemptions for o in outcomes) == sum(r.outcome.preemptions for r in served)


def check_services(simulation: Simulation) -> None:
    """Every request that was not rejected was served once by each service on its way."""
    done = [r for r in simulation.requests if not r.outcome.rejected]
    for stage in simulation.stages:
        served = sum(c.outcome.service_requests for c in stage.service_clients)
        if stage.spec.kind == "service":
            assert served == sum(r.way.count(stage.index) for r in done)
    for client in simulation.clients:
        if not isinstance(client, ServiceClient):
            assert client.outcome.service_requests == 0
            continue
        sizes = [size for index, _, _, _, size in simulation.steps_log if index == client.index]
        assert all(1 <= size <= client.spec.max_batch for size in sizes)
        assert (len(sizes), sum(sizes)) == (client.outcome.steps, client.outcome.service_requests)


def check_caches(simulation: Simulation) -> None:
    """What was spared and fetched fits together."""
    for client in simulation.clients:
        assert 0 <= client.outcome.fetched_tokens <= client.outcome.hit_tokens
        if not client.spec.cached and client.spec.expected is None:
            assert client.outcome.hit_tokens == 0
    known = {chunk for r in simulation.requests for chunk in r.given.chunk_ids}
    for tier in simulation.tiers:
        assert len(set(tier.chunks)) == len(tier.chunks) <= tier.spec.capacity
        assert set(tier.chunks) <= known
        assert tier.outcome.stored_chunks >= len(tier.chunks)
