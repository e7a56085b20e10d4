"""Figures of the service for Prometheus: what was asked and how quickly it was answered, and how the studies are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dse.service.answers.records import State
from dse.service.storage.errors import Unavailable
from dse.service.storage.tally import tally

if TYPE_CHECKING:
    from dse.service.api.service import Service

BUCKETS_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
OTHER: Final = "other"
"""Route or method that the service does not have: a stranger does not make up labels."""


class Metrics:
    """Counters of one app.

    Parameters
    ----------
    service
        Returns the service whose studies, watchers and bench are told.
    """

    def __init__(self, service: Callable[[], Service]) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("dse_http_requests", "requests answered", labels, registry=self.registry)
        self._seconds = Histogram(
            "dse_http_request_seconds",
            "time from a request to the start of its answer",
            ("method", "route"),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        # Looked up with its labels, a counter takes longer to find than to count.
        self._counters: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.registry.register(_ServiceFigures(service))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Parameters
        ----------
        method, route, status
            Of the request; the route as the app has it, without what stands for its parameters.
        seconds
            Until the answer began.
        """
        known = self._counters.get((method, route, status))
        if known is None:
            called = method if method in METHODS else OTHER
            known = self._requests.labels(called, route, str(status)), self._seconds.labels(called, route)
            if called == method:
                self._counters[method, route, status] = known
        known[0].inc()
        known[1].observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' format."""
        return generate_latest(self.registry)


class _ServiceFigures(Collector):
    """What is known only when it is asked for."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is, is known only when it is asked for."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return figures of the bench, and of the database unless it is away."""
        service = self._service()
        bench = service.bench
        yield _gauge("dse_bench_busy", "jobs that are computed now", bench.counts.busy)
        yield _gauge("dse_bench_waiting", "jobs that wait", bench.waiting)
        yield _counter("dse_bench_jobs", "jobs that ended", bench.counts.done)
        yield _counter("dse_bench_timeouts", "processes ended because a job took too long", bench.counts.timeouts)
        yield _counter("dse_bench_deaths", "processes that died or ran out of memory", bench.counts.deaths)
        yield _gauge("dse_watchers", "open event streams", service.events.watchers)
        try:
            states, sums = service.studies.counts(), tally(service.database)
            workers = len(service.workers.living(service.settings.lease_s))
        except Unavailable:
            yield _gauge("dse_database_up", "whether the database answers", 0)
            return
        yield _gauge("dse_database_up", "whether the database answers", 1)
        studies = GaugeMetricFamily("dse_studies", "studies by state", labels=["state"])
        for state in get_args(State):
            studies.add_metric([state], states.get(state, 0))
        yield studies
        yield _gauge("dse_designs_evaluated", "designs evaluated, of the studies there are", sums.evaluated)
        yield _gauge("dse_designs_simulated", "designs simulated, of the studies there are", sums.simulated)
        yield _gauge("dse_leases", "times that workers took the studies there are", sums.leases)
        yield _gauge("dse_leases_lost", "workers that died over a study since it last got on", sums.losses)
        yield _gauge("dse_workers", "workers alive", workers)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value)
