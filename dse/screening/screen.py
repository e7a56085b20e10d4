"""What a steady state says of many designs, without simulating them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dse.bounds.load import load_of
from dse.objectives import latency_of
from dse.screening.load import RATIOS, LoadProfile
from dse.screening.pool_settings import Floats, PoolSettings
from dse.screening.service_settings import FIGURES, ServiceSettings
from dse.screening.steady_state import STATE, steady_state
from dse.spec import StudySpec
from search_spaces import Design, pool_of, pools_of
from search_spaces.codes import Codes
from simulator import Pool, Requests

FORECAST = np.dtype(
    [
        ("possible", "?"),
        ("accelerators", "f8"),
        ("usd_per_hour", "f8"),
        ("idle_w", "f8"),
        ("tdp_w", "f8"),
        ("frontend_s", "f8"),
        *((name, "f8") for name in STATE.names or ()),
    ]
)
"""Of a design: whether every pool can be built and holds its model; its accelerators, price and power, without tiers;
the way to the engine and back; and the most of each of ``STATE`` over its pools, with ``busy`` their mean."""


class Screen:
    """Predictions for the designs of a study.

    Parameters
    ----------
    spec
        The study.
    requests
        What every design has to serve.
    """

    def __init__(self, spec: StudySpec, requests: Requests) -> None:
        self.spec, self.space = spec, spec.space.space
        plan = spec.workload.plan
        load = load_of(requests, plan)
        self.stages = tuple(plan.llm_stages)
        self.loads = tuple(LoadProfile.of(load, stage) for stage in self.stages)
        self.pools = {name: PoolSettings(self.space, name, self._pool_at, self.stages) for name in pools_of(self.space)}
        self._services = ServiceSettings(self.space, spec.space.services, spec.services, plan)
        names = [dimension.name for dimension in self.space.closed]
        self._clients = {name: names.index(f"{name}.clients") for name in self.pools}

    def _pool_at(self, design: Design, name: str) -> Pool:
        return pool_of(design, name, self.spec.models, serving=self.spec.space)

    @property
    def load(self) -> LoadProfile:
        """What requests of the busiest LLM stage are like."""
        return max(self.loads, key=lambda load: load.requests)

    def clients(self, codes: Codes, pool: str) -> Floats:
        """Return the number of clients of a pool in each row of codes, 0 without it, shape (rows,)."""
        column = self._clients[pool]
        values = np.array([*self.space.closed[column].values, 0], dtype=np.float64)
        return np.asarray(values[codes[:, column]])

    def forecast(self, codes: Codes) -> npt.NDArray[Any]:
        """Return what a steady state says of designs, as records of dtype ``FORECAST``, shape (rows,)."""
        whole = np.zeros(len(codes), FORECAST)
        whole["possible"] = True
        present = {}
        for name, settings in self.pools.items():
            setting, clients = settings.of(codes), self.clients(codes, name)
            rows = np.flatnonzero(setting >= 0)
            if len(rows):
                present[name] = rows, setting[rows], clients[rows]
        share = self._shares(len(codes), present)
        for name, (rows, setting, clients) in present.items():
            settings, part = self.pools[name], whole[rows]
            own = settings.records[setting]
            part["possible"] &= own["possible"]
            for field in ("accelerators", "usd_per_hour", "idle_w", "tdp_w"):
                part[field] += clients * own[field]
            part["frontend_s"] = np.maximum(part["frontend_s"], own["frontend_s"])
            state = self._states(settings, setting, clients / share[name])
            part["busy"] += state["busy"] * clients * own["accelerators"]
            for field in STATE.names or ():
                if field != "busy":
                    part[field] = np.maximum(part[field], state[field])
            whole[rows] = part
        whole["busy"] /= np.maximum(whole["accelerators"], 1.0)
        for field, values in zip(FIGURES, self._services.of(codes), strict=True):
            if field == "impossible":
                whole["possible"] &= values == 0
            else:
                whole[field] += values
        return whole

    def _shares(
        self, count: int, present: dict[str, tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]]
    ) -> dict[str, Floats]:
        """Return the share of its stage's prompts, or answers, that each pool gets: as much as it can take."""
        able: dict[tuple[int, str], Floats] = {}
        found = {}
        for name, (rows, setting, clients) in present.items():
            settings = self.pools[name]
            state = self._states(settings, setting, clients)
            work = np.zeros(count)
            work[rows] = np.maximum(clients * state["capacity_rps"], 1e-9)
            own = settings.records[setting]
            kind = (int(own["stage"].max()), "decode" if not own["prefills"].any() and own["decodes"].any() else "both")
            able[kind] = able.get(kind, np.zeros(count)) + work
            found[name] = kind, work
        return {name: work[present[name][0]] / able[kind][present[name][0]] for name, (kind, work) in found.items()}

    def is_possible(self, forecast: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Tell which designs can be built, hold their model and stay within the limits of the study, shape (rows,)."""
        limits = self.spec.limits
        found = forecast["possible"].copy()
        for limit, used in (
            (limits.accelerators, forecast["accelerators"]),
            (limits.usd_per_hour, forecast["usd_per_hour"]),
            (limits.power_kw, forecast["tdp_w"] / 1e3),
        ):
            if limit is not None:
                # What is added up in another order may differ in the last digit.
                found &= used <= limit * (1 + 1e-9)
        return np.asarray(found)

    def _states(self, settings: PoolSettings, setting: npt.NDArray[np.intp], clients: Floats) -> npt.NDArray[Any]:
        """Return the steady states of rows, computed once for each possible setting and number of clients."""
        states = np.zeros(len(setting), STATE)
        possible = np.flatnonzero(settings.records["possible"][setting])
        if len(possible):
            _, number = np.unique(clients[possible], return_inverse=True)
            keys = setting[possible] * (int(number.max()) + 1) + number
            _, first, of_row = np.unique(keys, return_index=True, return_inverse=True)
            chosen = possible[first]
            load = self.loads[int(settings.records["stage"][setting[possible[0]]])]
            states[possible] = steady_state(settings, setting[chosen], load.rate_rps / clients[chosen], load)[of_row]
        return states

    def predicted(self, forecast: npt.NDArray[Any], names: Sequence[str]) -> Floats:
        """Return predictions of metrics by name; 1 for what a steady state says nothing of.

        Parameters
        ----------
        forecast
            Of designs, shape (rows,).
        names
            Names of objectives.

        Returns
        -------
        ndarray, shape (rows, names)
        """
        return np.stack([self._predicted(forecast, name) for name in names], axis=1)

    def _predicted(self, f: npt.NDArray[Any], name: str) -> Floats:
        load = self.load
        tokens = sum(each.mean_output_tokens * each.requests for each in self.loads)
        span_s = load.last_arrival_s * np.maximum(f["load"], 1.0) + load.mean_output_tokens * f["token_s"]
        if (latency := latency_of(name)) is not None:
            metric, percent = latency
            # A mean of latencies lies about where their sixtieth percentile does.
            return self._latency_s(f, metric, 60.0 if percent is None else percent)
        values: dict[str, Floats] = {
            "usd_per_hour": f["usd_per_hour"],
            "accelerators": f["accelerators"],
            "usd_per_million_output_tokens": f["usd_per_hour"] * span_s / 3600 / tokens * 1e6,
            "energy_j_per_output_token": (f["idle_w"] + 0.5 * f["busy"] * (f["tdp_w"] - f["idle_w"])) * span_s / tokens,
            "output_tokens_per_s": tokens / span_s,
            "requests_per_s": load.requests / span_s,
            "goodput_rps": load.requests / span_s,
        }
        found: Floats = values[name] if name in values else np.ones(len(f))
        return np.maximum(found, 1e-12)

    def _latency_s(self, f: npt.NDArray[Any], metric: str, percent: float) -> Floats:
        load = self.load
        # Waits of a busy server are about exponential; an overloaded one falls behind all the time.
        tail = -np.log(max(1.0 - percent / 100, 1e-3))
        late_s = np.maximum(f["load"] - 1.0, 0.0) * load.last_arrival_s * percent / 100
        first_s = f["frontend_s"] + f["prompt_s"]
        if metric == "ttft":
            longer = f["prompt_token_s"] * (load.prompt_quantile_tokens(percent) - load.mean_prompt_tokens)
            return np.asarray(first_s + np.maximum(longer, -0.9 * f["prompt_s"]) + f["wait_s"] * tail + late_s + 1e-9)
        if metric in ("tpot", "itl"):
            return np.asarray(np.maximum(f["token_s"], 1e-9))
        # The percentile of a sum of a prompt's and an answer's time depends on the ratio of the two rates only.
        unit_s = np.maximum(f["prompt_token_s"], 1e-9)
        sums = np.interp(f["token_s"] / unit_s, RATIOS, load.sum_quantiles_tokens(percent))
        fixed_s = np.maximum(first_s - f["prompt_token_s"] * load.mean_prompt_tokens, 0.0)
        return np.asarray(fixed_s + f["wait_s"] + unit_s * sums + late_s + 1e-9)
