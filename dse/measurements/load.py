"""From what a benchmark tool wrote down to requests and figures: what all readers of such files share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dse.measurements.closed_loop import chained, chains_of, closed_loop, lengths_of
from dse.measurements.measured_run import MeasuredRun
from simulator import Deployment, Requests
from simulator.errors import SpecError
from simulator.spec import Scenario
from simulator.spec.arrivals import ConstantArrivals, GammaArrivals, PoissonArrivals
from simulator.spec.base import read_yaml
from simulator.spec.engine_profile import EngineProfile
from simulator.workload import PS_PER_S
from simulator.workload.draws import Use, draw_arrivals, stream

Floats = npt.NDArray[np.float64]

BESIDE: Final = "deployment.yaml"
"""The deployment of the files beside it, where none is given."""

PERCENTILES: Final = (50, 90, 99)
"""Of latencies, where the file has those of every request."""

MOST_BURSTY: Final = 20.0
"""Largest coefficient of variation of gaps that the generator draws."""

SECONDS: Final = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class Given:
    """What a person says of a file, beside what is in it.

    Attributes
    ----------
    deployment
        What was served; of the :data:`BESIDE` file, or of the table itself, if None.
    rate_rps, concurrency
        The load, where the file does not tell.
    """

    deployment: Deployment | None = None
    rate_rps: float | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        """Refuse a load that is none."""
        if self.rate_rps is not None and not self.rate_rps > 0:
            raise SpecError(f"--rate: must be above 0, given {self.rate_rps:g}")
        if self.concurrency is not None and self.concurrency < 1:
            raise SpecError(f"--concurrency: must be at least 1, given {self.concurrency}")

    def deployment_of(self, file: Path) -> Deployment:
        """Return what was served.

        Raises
        ------
        SpecError
            If it is neither given nor beside the file.
        """
        if self.deployment is not None:
            return self.deployment
        beside = file.parent / BESIDE
        if not beside.is_file():
            raise SpecError(f"{file}: what was served? give --deployment, or put {BESIDE} beside the file")
        return read_deployment(beside)


@dataclass(frozen=True)
class Load:
    """How requests were sent, as far as it is known without those themselves.

    Attributes
    ----------
    requests
        How many.
    prompt_tokens, output_tokens
        Of each, or the mean.
    rate_rps
        Mean rate of an open loop.
    burstiness_cv
        Coefficient of variation of its gaps; 0: equal gaps.
    concurrency
        Users of a closed loop, where the rate is infinite; all requests at once if None.
    shortest_share
        See :func:`~dse.measurements.closed_loop.closed_loop`.
    """

    requests: int
    prompt_tokens: float | Sequence[int]
    output_tokens: float | Sequence[int]
    rate_rps: float = inf
    burstiness_cv: float = 1.0
    concurrency: int | None = None
    shortest_share: float = 1.0

    def build(self, seed: int = 0) -> Requests:
        """Return the requests, drawn as the simulator draws a workload's.

        Raises
        ------
        SpecError
            If a figure is out of range.
        """
        if self.requests < 1:
            raise SpecError(f"requests: must be at least 1, given {self.requests}")
        if not self.rate_rps > 0:
            raise SpecError(f"rate_rps: must be above 0, given {self.rate_rps:g}")
        if not 0 <= self.burstiness_cv <= MOST_BURSTY:
            raise SpecError(f"burstiness_cv: must be from 0 to {MOST_BURSTY:g}, given {self.burstiness_cv:g}")
        draw = np.random.default_rng(seed)
        prompts, outputs = (
            lengths_of(
                list(tokens) if isinstance(tokens, Sequence) else max(1, round(tokens)),
                self.requests,
                self.shortest_share,
                draw,
            )
            for tokens in (self.prompt_tokens, self.output_tokens)
        )
        if isfinite(self.rate_rps):
            arrival_s = self._arrivals(seed)
        elif self.concurrency is None or self.concurrency >= self.requests:
            arrival_s = np.zeros(self.requests)
        else:
            return closed_loop(self.concurrency, prompts, outputs)
        return Requests(
            arrival_ps=np.rint(arrival_s * PS_PER_S).astype(np.int64), prompt_tokens=prompts, output_tokens=outputs
        )

    def _arrivals(self, seed: int) -> Floats:
        """Return times of sending, stretched so that their mean rate is exact, as vLLM's benchmark does."""
        rate, cv = self.rate_rps, self.burstiness_cv
        process: ConstantArrivals | PoissonArrivals | GammaArrivals
        if cv == 0:
            process = ConstantArrivals(process="constant", rate_rps=rate)
        elif cv == 1:
            process = PoissonArrivals(process="poisson", rate_rps=rate)
        else:
            process = GammaArrivals(process="gamma", rate_rps=rate, burstiness_cv=max(cv, 0.001))
        times = draw_arrivals(process, self.requests, stream(seed, Use.ARRIVALS))
        return times if times[-1] == 0 else times * ((self.requests - 1) / rate / times[-1])


@dataclass(frozen=True, eq=False)
class Records:
    """Requests one by one, all arrays of shape (requests,); NaN where a time is not known.

    Attributes
    ----------
    start_s
        When they were sent; None if only the order is known.
    prompt_tokens, output_tokens
        Their lengths.
    ttft_s, e2e_s
        Time to first token, and to the last.
    """

    start_s: Floats | None
    prompt_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]
    ttft_s: Floats
    e2e_s: Floats

    def figures(self) -> dict[str, float]:
        """Return latencies and throughput, by the names of :class:`MeasuredRun`."""
        several = self.output_tokens > 1
        tpot_s = (self.e2e_s - self.ttft_s)[several] / (self.output_tokens[several] - 1)
        found = {}
        for metric, values in (("ttft", self.ttft_s), ("tpot", tpot_s), ("e2e", self.e2e_s)):
            known = values[np.isfinite(values)]
            if len(known):
                found[f"{metric}_mean_s"] = float(known.mean())
                found |= {f"{metric}_p{percent}_s": float(np.percentile(known, percent)) for percent in PERCENTILES}
        if self.start_s is not None and np.isfinite(self.e2e_s).all():
            span_s = float((self.start_s + self.e2e_s).max() - self.start_s.min())
            if span_s > 0:
                found["requests_per_s"] = len(self.start_s) / span_s
                found["output_tokens_per_s"] = float(self.output_tokens.sum()) / span_s
        return found

    def requests(self, concurrency: int | None = None) -> Requests:
        """Return the requests as they were sent.

        Parameters
        ----------
        concurrency
            If given, whoever sent a request sends the next when it is answered, however long the simulator takes;
            else requests arrive when they did.
        """
        assert self.start_s is not None
        order = np.argsort(self.start_s, kind="stable")
        start_s, prompts, outputs = self.start_s[order], self.prompt_tokens[order], self.output_tokens[order]
        if concurrency is None or concurrency >= len(order) or not np.isfinite(self.e2e_s).all():
            arrival_ps = np.rint((start_s - start_s[0]) * PS_PER_S).astype(np.int64)
            return Requests(arrival_ps=arrival_ps, prompt_tokens=prompts, output_tokens=outputs)
        return chained(chains_of(start_s, start_s + self.e2e_s[order], concurrency), start_s, prompts, outputs)


def read_deployment(path: str | Path) -> Deployment:
    """Return the deployment of a YAML file, or of one with ``deployment`` and ``workload``."""
    data = read_yaml(path)
    if isinstance(data, dict) and {"deployment", "workload"} & set(data):
        return Scenario.parse(data, source=str(path)).deployment
    return Deployment.parse(data, source=str(path))


def labels_of(deployment: Deployment) -> dict[str, str]:
    """Return what results are grouped by: accelerator, model, tp, engine, those of several pools with a plus."""

    def joined(name: str) -> str:
        values = [getattr(pool, name) for pool in deployment.pools]
        return " + ".join(
            dict.fromkeys(value.name if isinstance(value, EngineProfile) else str(value) for value in values)
        )

    return {name: joined(name) for name in ("accelerator", "model", "tp", "engine")}


def measured_run(
    name: str,
    deployment: Deployment,
    requests: Requests,
    figures: Mapping[str, float],
    *,
    labels: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> MeasuredRun:
    """Return a run with the labels of its deployment; what was not measured (zero, NaN) is no figure."""
    known = {key: value for key, value in figures.items() if isfinite(value) and value > 0}
    if not known:
        raise SpecError(f"{name}: no latency or throughput in it that can be compared")
    return MeasuredRun(
        name=name,
        labels={**labels_of(deployment), **(labels or {})},
        deployment=deployment,
        requests=requests,
        figures=known,
        notes=tuple(notes),
    )


def number(value: Any, field: str, source: str) -> float:
    """Return a number of a file.

    Raises
    ------
    SpecError
        Naming the field, if it is none.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(str(value).replace(",", "")) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        raise SpecError(f"{source}: {field}: must be a number, given {value!r}") from None


def numbers(values: Any, field: str, source: str) -> Floats:
    """Return a list of numbers of a file, NaN where there is none.

    Raises
    ------
    SpecError
        Naming the field, if it is no list or holds anything else.
    """
    if not isinstance(values, list):
        raise SpecError(f"{source}: {field}: must be a list of numbers, given {type(values).__name__}")
    return np.array([np.nan if value is None else number(value, field, source) for value in values])


def whole(values: Floats, field: str, source: str) -> npt.NDArray[np.int32]:
    """Return tokens.

    Raises
    ------
    SpecError
        Naming the field, if one is below 1 or unknown.
    """
    if not np.all(np.isfinite(values)) or np.any(values < 1):
        raise SpecError(f"{source}: {field}: must be at least 1 token each")
    return np.rint(values).astype(np.int32)
