"""From the kernel's arrays to what people ask for: latencies, throughput, utilisation, energy, cost.

Definitions (times of one request, i.e. one call of an LLM; a rejected request has infinite latencies):

- TTFT: first token − arrival, for requests whose way has an LLM stage.
- E2E: end of the last stage (without services after the LLM: last token) − arrival.
  Both with the way to the engine and back (``request_us`` of its profile, ``frontend_s`` of a request), once a request
  with an LLM stage: E2E is that, and the time queued and served at each stage, and the hops between them.
- Session: end of the last request of a session, its way back included − arrival of its first. A request that follows
  others arrives when their answers are back.
- TPOT: (last token − first token) / (output tokens − 1), for requests with at least two output tokens.
- ITL: time between two consecutive tokens of a request, over all tokens of all requests, from a histogram of
  0.8 % wide bins (the upper edge is reported).
- A percentile p is the smallest value that at least p percent do not exceed. The mean ITL needs no histogram: the gaps
  of a request add up to last token − first token.
- The span runs from the first arrival to the end of the last request; devices are paid and powered for all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from simulator import catalog
from simulator.kernel.layout import DONE, ITL_BITS, LEFT, REACHED, STARTED, VISIT_FIELDS
from simulator.lowering import Lowered, PoolPlan, ServicePlan, TierPlan
from simulator.performance.power import energy_j, tdp_w
from simulator.performance.price import deployment_usd_per_hour
from simulator.performance.provenance import Status, provenance_of
from simulator.spec.deployment import Deployment
from simulator.spec.slo import SLO, LatencyMetric
from simulator.workload import PS_PER_S

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]


SHOWN_PERCENTILES: Final = (50.0, 90.0, 99.0)
"""Percentiles of every latency in :meth:`Result.summary`."""


def percentile(values: Floats, percent: float) -> float:
    """Return the smallest value that at least ``percent`` percent of the values do not exceed; NaN of none."""
    return percentiles(values, [percent])[0]


def percentiles(values: Floats, percents: Sequence[float]) -> list[float]:
    """Return several percentiles as :func:`percentile`, in the order asked for, in the time of about one."""
    if not len(values):
        return [float("nan")] * len(percents)
    ranks = [max(0, int(np.ceil(len(values) * percent / 100 - 1e-9)) - 1) for percent in percents]
    ordered = np.partition(values, sorted(set(ranks)))
    return [float(ordered[rank]) for rank in ranks]


@dataclass(frozen=True)
class PoolUse:
    """What one pool did.

    Attributes
    ----------
    name, policy
        Of the pool.
    busy
        Share of the span in which its clients computed, averaged over clients.
    compute, memory_bandwidth, link
        Share of the span in which that resource alone would have been busy at its achievable rate.
    kv_peak
        Largest share of KV blocks in use on any client.
    blocked_by_kv, blocked_by_batch, blocked_by_budget
        Share of the span in which requests waited for KV blocks, a place in the batch (static: for the batch under
        way to end), or the token budget.
    preemptions
        Requests evicted, and recomputed or swapped in again.
    cache_hits
        Share of prompt tokens that the prefix cache and its tiers spared.
    energy_j
        Energy of the pool's accelerators over the span.
    calibrated
        Whether its times were fitted to its accelerator and engine: ``yes``, ``transferred`` from others, or by hand
        (``datasheet``); the worse of :func:`simulator.performance.provenance.provenance`.
    """

    name: str
    policy: str
    busy: float
    compute: float
    memory_bandwidth: float
    link: float
    kv_peak: float
    blocked_by_kv: float
    blocked_by_batch: float
    blocked_by_budget: float
    preemptions: int
    cache_hits: float
    energy_j: float
    calibrated: Status

    @property
    def bottleneck(self) -> str:
        """What more of would help most.

        A queue that waits for KV blocks or a place in the batch for more than 5 % of the span is held by that
        limit; else a pool busy for more than half the span is held by its most used resource; else by nothing.
        """
        full = "static batching" if self.policy == "static" else "batch limit"
        limits = {"KV capacity": self.blocked_by_kv, full: self.blocked_by_batch}
        limit = max(limits, key=lambda name: limits[name])
        if limits[limit] > 0.05:
            return limit
        resources = {
            "compute": self.compute,
            "memory bandwidth": self.memory_bandwidth,
            "links": self.link,
        }
        resources["engine overhead"] = self.busy - sum(resources.values())
        return max(resources, key=lambda name: resources[name]) if self.busy > 0.5 else "nothing"


@dataclass(frozen=True)
class ServiceUse:
    """What the clients of one service did.

    Attributes
    ----------
    name
        Stage, and device.
    busy
        Share of the span in which its clients worked, averaged over clients.
    requests
        Requests served.
    mean_batch
        Requests per batch.
    energy_j
        Energy of its devices over the span.
    """

    name: str
    busy: float
    requests: int
    mean_batch: float
    energy_j: float

    @property
    def bottleneck(self) -> str:
        """What more of would help: clients, if they are busy for more than half the span."""
        return "clients" if self.busy > 0.5 else "nothing"


@dataclass(frozen=True)
class TierUse:
    """What one tier did, all its memories together.

    Attributes
    ----------
    name
        Of the tier; with several LLM stages, and the stage.
    fetched_tokens, stored_tokens
        Prompt tokens whose KV was fetched from it, and written to it.
    full
        Share of its capacity that holds something at the end.
    """

    name: str
    fetched_tokens: int
    stored_tokens: int
    full: float


@dataclass(frozen=True, eq=False)
class Result:
    """Outcome of a simulation."""

    deployment: Deployment
    lowered: Lowered

    @property
    def _requests(self) -> npt.NDArray[Any]:
        return self.lowered.memory.requests

    @cached_property
    def _served(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self._requests["state"] == DONE)

    @cached_property
    def _with_stage(self) -> npt.NDArray[np.bool_]:
        """Which requests pass any stage: those that only wait for branches to join pass none."""
        way = self.lowered.requests.way
        passes = np.array([len(stages) > 0 for stages in self.lowered.plan.ways])
        return np.full(len(self._requests), passes[0]) if way is None else passes[way]

    @cached_property
    def _with_llm(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self._requests["llm_stage"] >= 0)

    @cached_property
    def span_s(self) -> float:
        """Seconds from the first arrival to the end of the last request."""
        last = max(int(self._requests["done_ps"].max()), int(self._requests["arrival_ps"].max()), 1)
        return last / PS_PER_S

    @property
    def requests_total(self) -> int:
        """Requests that arrived; those that only join others are not counted."""
        return int(self._with_stage.sum())

    @cached_property
    def rejected(self) -> int:
        """Requests that no client can ever hold, and those that would have followed them."""
        return int((~self._served & self._with_stage).sum())

    @property
    def served(self) -> int:
        """Requests that were served; those that only join others are not counted."""
        return self.requests_total - self.rejected

    @cached_property
    def output_tokens(self) -> int:
        """Tokens generated."""
        generated = self._served & self._with_llm
        return int(self._requests["output_tokens"][generated].sum(dtype=np.int64))

    def _since_arrival_s(self, field: str) -> Floats:
        requests = self._requests
        seconds = (requests[field] - requests["arrival_ps"]) / PS_PER_S
        return np.where(self._served, seconds, np.inf)

    @cached_property
    def frontend_s(self) -> Floats:
        """Time of the way to the engine of the LLM and back, shape (requests,); 0 without an LLM stage."""
        of_client = np.zeros(max(plan.first + plan.pool.clients for plan in self.lowered.pools))
        for plan in self.lowered.pools:
            of_client[plan.first : plan.first + plan.pool.clients] = plan.request_s
        client = self._requests["prefill_client"]
        return np.where(self._with_llm & (client >= 0), of_client[client], 0.0)

    @cached_property
    def ttft_s(self) -> Floats:
        """Time to first token, infinite if rejected, shape (n,): of requests whose way has an LLM stage."""
        seconds = self._since_arrival_s("first_token_ps") + self.frontend_s
        return seconds if self._with_llm.all() else seconds[self._with_llm]

    @cached_property
    def e2e_s(self) -> Floats:
        """End-to-end latency, infinite if rejected, shape (n,): of requests that pass any stage."""
        seconds = self._since_arrival_s("done_ps") + self.frontend_s
        return seconds if self._with_stage.all() else seconds[self._with_stage]

    @cached_property
    def session_s(self) -> Floats:
        """Time from the arrival of a session's first request to the end of its last, shape (sessions,)."""
        sessions = self.lowered.requests.sessions
        if sessions is None:
            return self._since_arrival_s("done_ps") + self.frontend_s
        first = sessions.first_rows
        last = np.append(first[1:], len(self._requests)) - 1
        seconds = (self._requests["done_ps"][last] - self._requests["arrival_ps"][first]) / PS_PER_S
        seconds += self.frontend_s[last]
        return np.where(self._served[last], seconds, np.inf)

    @cached_property
    def queue_s(self) -> Floats:
        """Time before the first admission to an LLM client, shape (requests,), infinite if rejected."""
        return self._since_arrival_s("scheduled_ps")

    @cached_property
    def service_s(self) -> Floats:
        """Time queued and served in all services, shape (requests,)."""
        seconds: Floats = self._requests["service_ps"] / PS_PER_S
        return seconds

    @cached_property
    def _several(self) -> npt.NDArray[np.bool_]:
        """Which requests have a TPOT."""
        return np.asarray((self._requests["output_tokens"] > 1) & self._with_llm)

    @cached_property
    def tpot_s(self) -> Floats:
        """Time per output token after the first, of requests with at least two, shape (n,)."""
        requests = self._requests
        several = self._several
        decoding = (requests["finish_ps"][several] - requests["first_token_ps"][several]) / PS_PER_S
        seconds = decoding / (requests["output_tokens"][several] - 1)
        return np.where(self._served[several], seconds, np.inf)

    @cached_property
    def itl_histogram(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Upper edges of the non-empty bins of inter-token latency, seconds, and their counts."""
        counts = self.lowered.memory.itl_histogram
        bins = np.flatnonzero(counts)
        exponent = np.maximum((bins >> ITL_BITS) - 1, 0)
        mantissa = bins - (exponent << ITL_BITS)
        # The first bins hold one gap each, above all that of tokens which come together.
        edges = np.where(exponent == 0, bins, (mantissa + 1) << exponent)
        return edges.astype(np.float64) / PS_PER_S, counts[bins]

    def percentile_s(self, metric: LatencyMetric, percent: float) -> float:
        """Return a percentile of a latency in seconds; NaN if no request has it (TPOT of single tokens).

        Parameters
        ----------
        metric
            ``ttft``, ``tpot``, ``itl``, ``e2e`` or ``session``.
        percent
            From 0 to 100. Infinite if the value is that of a rejected request.
        """
        return self.percentiles_s(metric, [percent])[0]

    def percentiles_s(self, metric: LatencyMetric, percents: Sequence[float]) -> list[float]:
        """Return several percentiles of a latency as :meth:`percentile_s`, quicker than one by one; they are kept.

        Parameters
        ----------
        metric, percents
            As there.

        Returns
        -------
        list of float
            Seconds, in the order asked for.
        """
        known = self._percentiles
        missing = [percent for percent in percents if (metric, percent) not in known]
        if missing:
            found = (
                self._itl_percentiles_s(missing) if metric == "itl" else percentiles(self._latency_s(metric), missing)
            )
            known.update(zip([(metric, percent) for percent in missing], found, strict=True))
        return [known[metric, percent] for percent in percents]

    @cached_property
    def _percentiles(self) -> dict[tuple[LatencyMetric, float], float]:
        """Percentiles that somebody asked for already."""
        return {}

    def _latency_s(self, metric: LatencyMetric) -> Floats:
        values: Floats = getattr(self, f"{metric}_s")
        return values

    def _itl_percentiles_s(self, percents: Sequence[float]) -> list[float]:
        edges, counts = self.itl_histogram
        if not len(edges):
            return [float("nan")] * len(percents)
        up_to = np.cumsum(counts)
        wanted = [max(np.ceil(up_to[-1] * percent / 100 - 1e-9), 1) for percent in percents]
        return [float(edge) for edge in edges[np.searchsorted(up_to, wanted)]]

    def mean_s(self, metric: LatencyMetric) -> float:
        """Return the mean of a latency in seconds, infinite if requests were rejected; NaN if no request has it.

        The mean of ``itl`` is over all gaps between tokens of the requests that were served.
        """
        if metric != "itl":
            values = self._latency_s(metric)
            return float(values.mean()) if len(values) else float("nan")
        several = self._several & self._served
        rows = self._requests[several]
        gaps = int((rows["output_tokens"] - 1).sum(dtype=np.int64))
        decoding_ps = float((rows["finish_ps"] - rows["first_token_ps"]).sum(dtype=np.float64))
        return decoding_ps / PS_PER_S / gaps if gaps else float("nan")

    def violation(self, slo: SLO) -> float:
        """Return by which fraction of its limit an SLO is exceeded: zero or less if it holds."""
        reached = self.percentile_s(slo.metric, slo.percentile)
        return -1.0 if np.isnan(reached) else reached / slo.limit_s - 1.0

    def attainment(self, slo: SLO) -> float:
        """Return the share of requests (for ``itl``: of gaps) within an SLO's limit."""
        if slo.metric != "itl":
            values = self._latency_s(slo.metric)
            return float(np.mean(values <= slo.limit_s)) if len(values) else 1.0
        edges, counts = self.itl_histogram
        return float(counts[edges <= slo.limit_s].sum() / counts.sum()) if len(edges) else 1.0

    def goodput_rps(self, slos: Sequence[SLO]) -> float:
        """Return requests per second that meet every limit of ``slos``, as :meth:`good_requests` counts them."""
        return self.good_requests(slos) / self.span_s

    def good_requests(self, slos: Sequence[SLO]) -> int:
        """Return the number of requests that meet every limit of ``slos``.

        Limits on ``itl`` are held against a request's TPOT, its mean inter-token latency.
        """
        good = self._served & self._with_stage
        for slo in slos:
            if slo.metric in ("tpot", "itl"):
                good[self._several] &= self.tpot_s <= slo.limit_s
            elif slo.metric == "ttft":
                good[self._with_llm] &= self.ttft_s <= slo.limit_s
            elif slo.metric == "session":
                good &= self._of_session(self.session_s) <= slo.limit_s
            else:
                good[self._with_stage] &= self.e2e_s <= slo.limit_s
        return int(good.sum())

    def _of_session(self, values: Floats) -> Floats:
        """Return for each request the value of its session."""
        sessions = self.lowered.requests.sessions
        return values if sessions is None else values[sessions.session]

    @cached_property
    def usd_per_hour(self) -> float:
        """Price of all devices, and of the memory of tiers."""
        return deployment_usd_per_hour(self.deployment, self.lowered.plan)

    @property
    def usd_per_million_output_tokens(self) -> float:
        """Price of the span by tokens generated in it."""
        if not self.output_tokens:
            return float("inf")
        return self.usd_per_hour * self.span_s / 3600 / (self.output_tokens / 1e6)

    @cached_property
    def pools(self) -> tuple[PoolUse, ...]:
        """Use of each pool, in the deployment's order."""
        return tuple(self._pool_use(plan) for plan in self.lowered.pools)

    def _pool_use(self, plan: PoolPlan) -> PoolUse:
        rows = self.lowered.memory.clients[plan.first : plan.first + plan.pool.clients]
        steps = self.lowered.memory.step_histogram(plan.first)
        knots, cost = np.flatnonzero(steps), plan.cost
        generated = float(rows["decode_tokens"].sum())
        contexts = float(rows["decode_context_tokens"].sum())
        pairs = float(rows["prefill_pairs"].sum())
        counts = steps[knots]
        compute = float(counts @ cost.linear.compute_s[knots]) + contexts * cost.decode_compute_s
        compute += pairs * cost.prefill_pair_s + generated * float(cost.sequences.compute_s[1])
        memory = float(counts @ cost.linear.memory_s[knots]) + contexts * cost.decode_memory_s
        memory += float(rows["steps"].sum()) * float(cost.sequences.memory_s[0])  # weights of the output head
        link = float(counts @ cost.linear.link_s[knots])
        computed, spared = int(rows["prefill_tokens"].sum()), int(rows["hit_tokens"].sum())
        busy, clients = float(rows["busy_ps"].sum()) / PS_PER_S, plan.pool.clients
        whole = self.span_s * clients

        def waited(field: str) -> float:
            return float(rows[field].sum()) / PS_PER_S / whole

        return PoolUse(
            name=plan.pool.name,
            policy=plan.pool.batching.policy,
            busy=busy / whole,
            compute=compute / whole,
            memory_bandwidth=memory / whole,
            link=link / whole,
            kv_peak=float(rows["peak_blocks"].max()) / plan.blocks,
            blocked_by_kv=waited("blocked_kv_ps"),
            blocked_by_batch=waited("blocked_batch_ps"),
            blocked_by_budget=waited("blocked_budget_ps"),
            preemptions=int(rows["preemptions"].sum()),
            cache_hits=spared / max(1, computed + spared),
            energy_j=sum(
                energy_j(
                    accelerator,
                    count * clients,
                    self.span_s,
                    busy / clients,
                    compute / clients,
                    memory / clients,
                )
                for accelerator, count in plan.engine.hardware
            ),
            calibrated=provenance_of(plan.engine).calibrated,
        )

    @cached_property
    def services(self) -> tuple[ServiceUse, ...]:
        """Use of each service, in the deployment's order."""
        return tuple(self._service_use(plan) for plan in self.lowered.services)

    def _service_use(self, plan: ServicePlan) -> ServiceUse:
        service, cost = plan.service, plan.cost
        rows = self.lowered.memory.clients[plan.first : plan.first + service.clients]
        batches, served = int(rows["steps"].sum()), int(rows["service_requests"].sum())
        steps = self.lowered.memory.step_histogram(plan.first)
        mean_batch = served / max(batches, 1)
        size = min(round(mean_batch), len(cost.sequences_s) - 1)
        compute = float(steps @ cost.linear_compute_s) + batches * float(cost.sequences_compute_s[size])
        memory = float(steps @ cost.linear_memory_s) + batches * float(cost.sequences_memory_s[size])
        busy = float(rows["busy_ps"].sum()) / PS_PER_S
        return ServiceUse(
            name=f"{service.stage} on {service.device}",
            busy=busy / self.span_s / service.clients,
            requests=served,
            mean_batch=mean_batch,
            energy_j=energy_j(
                catalog.device(service.device),
                service.devices_in_all(plan.stage),
                self.span_s,
                busy / service.clients,
                compute / service.clients,
                memory / service.clients,
            ),
        )

    @cached_property
    def tiers(self) -> tuple[TierUse, ...]:
        """Use of each tier, nearest first, by LLM stage."""
        alike: dict[tuple[str, str], list[TierPlan]] = {}
        for plan in self.lowered.tiers:
            alike.setdefault((plan.stage, plan.tier.name), []).append(plan)
        stages = {stage for stage, _ in alike}
        return tuple(
            self._tier_use(name if len(stages) == 1 else f"{name} of {stage}", plans)
            for (stage, name), plans in alike.items()
        )

    def _tier_use(self, name: str, plans: list[TierPlan]) -> TierUse:
        memory = self.lowered.memory
        parts = np.concatenate([memory.caches[plan.first : plan.first + plan.parts] for plan in plans])
        chunk_tokens = int(memory.world["chunk_tokens"][0])
        return TierUse(
            name=name,
            fetched_tokens=int(parts["hit_chunks"].sum()) * chunk_tokens,
            stored_tokens=int(parts["stored_chunks"].sum()) * chunk_tokens,
            full=float(parts["size"].sum() / max(1, sum(plan.parts * plan.capacity_chunks for plan in plans))),
        )

    @property
    def _uses(self) -> tuple[PoolUse | ServiceUse, ...]:
        return (*self.pools, *self.services)

    @property
    def utilisation_mean(self) -> float:
        """Share of the span in which the clients of pools computed, mean over all accelerators."""
        plans = zip(self.lowered.pools, self.pools, strict=True)
        return sum(plan.pool.accelerators * use.busy for plan, use in plans) / self.deployment.accelerators

    @cached_property
    def energy_j(self) -> float:
        """Energy of all devices over the span."""
        return sum(use.energy_j for use in self._uses)

    @property
    def energy_j_per_output_token(self) -> float:
        """Energy of all devices over the span by tokens generated; infinite without."""
        return self.energy_j / self.output_tokens if self.output_tokens else float("inf")

    @property
    def power_mean_w(self) -> float:
        """Mean power of all devices over the span."""
        return self.energy_j / self.span_s

    @property
    def power_peak_w(self) -> float:
        """Power of all devices at their limit: what a supply must be able to give."""
        return tdp_w(self.deployment, self.lowered.plan)

    @property
    def energy_j_per_request(self) -> dict[str, float]:
        """Energy of each stage by requests served, idle time included; prefill and decode apart where they are."""
        served = max(1, self.served)
        by_stage: dict[str, float] = {}
        for plan, use in zip(self.lowered.pools, self.pools, strict=True):
            role = "" if plan.pool.role == "both" else f" {plan.pool.role}"
            name = plan.pool.stage + role
            by_stage[name] = by_stage.get(name, 0.0) + use.energy_j / served
        for service, spent in zip(self.lowered.services, self.services, strict=True):
            name = service.stage.name
            by_stage[name] = by_stage.get(name, 0.0) + spent.energy_j / served
        return by_stage

    @property
    def bottleneck(self) -> str:
        """Pool or service, and its resource, that limit the deployment most.

        An LLM client is busy whenever it decodes anything, a service only as long as its work takes. So a service
        limits if it is busy for more than 70 % of the span, and for longer than requests wait for room at any pool;
        else it is the busiest pool.
        """
        service = max(self.services, key=lambda use: use.busy, default=None)
        waiting = max(max(use.blocked_by_kv, use.blocked_by_batch) for use in self.pools)
        if service and service.busy > max(0.7, waiting):
            return f"{service.name}: {service.bottleneck}"
        busiest = max(self.pools, key=lambda use: use.busy)
        return busiest.bottleneck if len(self._uses) == 1 else f"{busiest.name}: {busiest.bottleneck}"

    def summary(self) -> dict[str, float]:
        """Return the figures that objectives and tables use, units at the end of the names."""
        figures: dict[str, float] = {
            "requests": self.requests_total,
            "rejected": self.rejected,
            "span_s": self.span_s,
            "requests_per_s": self.served / self.span_s,
            "output_tokens_per_s": self.output_tokens / self.span_s,
            "accelerators": self.deployment.accelerators,
            "usd_per_hour": self.usd_per_hour,
            "usd_per_million_output_tokens": self.usd_per_million_output_tokens,
            "energy_j_per_output_token": self.energy_j_per_output_token,
            "preemptions": sum(use.preemptions for use in self.pools),
        }
        metrics: list[LatencyMetric] = ["ttft", "tpot", "itl", "e2e"]
        if self.lowered.requests.sessions is not None:
            figures["sessions"] = len(self.session_s)
            metrics.append("session")
        for metric in metrics:
            found = self.percentiles_s(metric, SHOWN_PERCENTILES)
            for percent, seconds in zip(SHOWN_PERCENTILES, found, strict=True):
                figures[f"{metric}_p{percent:g}_s"] = seconds
        return figures

    def requests(self) -> pd.DataFrame:
        """Return one row a request: times in seconds, tokens, clients, preemptions; missing where there is none.

        ``frontend_s`` is the way to the engine and back, part of ``ttft_s`` and ``e2e_s``; all else is by the engine's
        clock, as if a request were there at ``arrival_s``.

        For each stage ``<stage>_queue_s`` and ``<stage>_service_s``: the time from reaching it until it was first
        served there (at an LLM stage: admitted), and from then until it left, summed over its visits.
        """
        import pandas as pd

        rows, served = self._requests, self._served
        requests, llm = self.lowered.requests, self._with_llm

        def known(values: Floats, where: npt.NDArray[np.bool_]) -> Floats:
            """Return values of some requests, missing for those not served and for all others."""
            whole = np.full(len(rows), np.nan)
            whole[where] = values
            return np.where(served, whole, np.nan)

        passing = self._with_stage
        frame: dict[str, Any] = {
            "arrival_s": rows["arrival_ps"] / PS_PER_S,
            "prompt_tokens": rows["prompt_tokens"],
            "output_tokens": np.where(llm, rows["output_tokens"], 0),
            "frontend_s": known(self.frontend_s[passing], passing),
            "queue_s": known(self.queue_s[llm], llm),
            "service_s": known(self.service_s[passing], passing),
            "ttft_s": known(self.ttft_s, llm),
            "tpot_s": known(self.tpot_s, self._several),
            "e2e_s": known(self.e2e_s, passing),
            "prefill_client": rows["prefill_client"],
            "client": rows["client"],
            "preemptions": rows["preemptions"],
            "served": served,
        }
        if requests.sessions is not None:
            frame["session"] = requests.sessions.session
        if requests.request_class is not None:
            frame["class"] = np.array(requests.classes)[requests.request_class]
        return pd.DataFrame({**frame, **self._stage_times()}).rename_axis("request")

    def _stage_times(self) -> dict[str, Floats]:
        """Return the columns of time queued and served at each stage; none for a single stage."""
        memory, plan = self.lowered.memory, self.lowered.plan
        columns: dict[str, Floats] = {}
        if not len(memory.visits):
            return columns
        way = self.lowered.requests.way
        ways = np.zeros(len(self._requests), dtype=np.int64) if way is None else way
        for number, stages in enumerate(plan.ways):
            here = np.flatnonzero(ways == number)
            for place, stage in enumerate(stages):
                start = memory.visits[here] + VISIT_FIELDS * place
                reached, started, left = (memory.scratch[start + field] for field in (REACHED, STARTED, LEFT))
                for name, begin, end in (("queue", reached, started), ("service", started, left)):
                    column = columns.setdefault(f"{stage}_{name}_s", np.full(len(self._requests), np.nan))
                    seconds = np.where(end >= 0, (end - begin) / PS_PER_S, np.nan)
                    column[here] = np.where(np.isnan(column[here]), seconds, column[here] + seconds)
        return columns
