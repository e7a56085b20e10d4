"""What the designs of a study cannot beat: floors of objectives and promises, for very many designs at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dse.assessment import over_cases
from dse.bounds.deployment_bounds import SLACK
from dse.bounds.load import load_of
from dse.bounds.service_floor import in_services, service_floor
from dse.objectives import direction_of, latency_of
from dse.screening.distinct import Indices
from dse.screening.floors import PoolFloors, Traffic, Wanted, on_cells
from dse.screening.pool_settings import Floats
from dse.screening.screen import Screen
from dse.spec import Case, StudySpec
from search_spaces.codes import Codes
from search_spaces.services import services, services_of
from simulator import Requests
from simulator.performance.service_cost import refusal
from simulator.spec.stages import Service

Booleans = npt.NDArray[np.bool_]

COMBINATIONS_AT_ONCE: Final = 1024
"""Combinations of settings whose sums on cells are taken at once, to bound memory."""
SHARES: Final = ("slo_attainment", "slo_attainment_least", "utilisation_mean", "utilisation_busiest")
"""Metrics that are at most 1."""
METRICS: Final = ("ttft", "e2e", "tpot")
"""Latencies of which there are floors here; the scalar bounds of :mod:`dse.bounds` know more."""


class DesignFloors:
    """Floors of the designs of a study with one LLM stage.

    Parameters
    ----------
    screen
        Of the study, which lowers the settings of pools.
    case, requests
        One of the study's workloads, and what every design has to serve of it.
    """

    def __init__(self, screen: Screen, case: Case, requests: Requests) -> None:
        spec, plan = screen.spec, case.workload.plan
        self._screen, self._spec = screen, spec
        load = load_of(requests, plan)
        stage = plan.llm_stages[0]
        lengths, rows = load.lengths[stage], load.stage_rows[stage]
        names = [*spec.objectives, *(slo.name for slo in spec.slos), *(bound.metric for bound in spec.constraints)]
        latencies = dict.fromkeys(name for name in names if (found := latency_of(name)) and found[0] in METRICS)
        self._wanted = {name: Wanted(*latency_of(name)) for name in latencies}  # type: ignore[misc]
        around = {
            name: service_floor(_alternatives(spec, name), name, load) for name in (s.name for s in load.plan.services)
        }
        before_s, after_s = (in_services(load, around, before=before) for before in (True, False))
        self._traffic = Traffic(
            lengths,
            np.where(load.follows[rows], 0.0, load.arrival_s[rows]),
            before_s[rows],
            after_s[rows],
            np.asarray(load.follows[rows]),
            before_s[load.with_stage & ~np.isin(np.arange(len(load)), rows)],
        )
        self._last_arrival_s = float(load.arrival_s[~load.follows].max(initial=0.0))
        self._output_tokens = float(sum(each.output_tokens.sum() for each in load.lengths.values()))
        self._requests = float(len(load))
        self._pools = {
            name: PoolFloors(settings, self._traffic, list(self._wanted.values()))
            for name, settings in screen.pools.items()
            if len(plan.llm_stages) == 1
        }

    def figures(self, codes: Codes, forecast: npt.NDArray[Any]) -> dict[str, Floats]:
        """Return what designs cannot beat, by metric, each of shape (rows,).

        Parameters
        ----------
        codes, forecast
            Designs, and what :meth:`dse.screening.screen.Screen.forecast` says of them.
        """
        # Clients that lend themselves do either's work, of which only the scalar bounds know: no pool counts.
        apart = ~self._lends(codes)
        settings = {name: np.where(apart, self._screen.pools[name].of(codes), -1) for name in self._pools}
        for floors in self._pools.values():
            floors.extend()
        found = self._latencies_s(codes, settings)
        span_s = np.maximum(self._span_s(codes, settings), 1e-12)
        price, devices = forecast["usd_per_hour"], np.maximum(forecast["accelerators"], 1.0)
        energy_j = forecast["idle_w"] * span_s + self._dynamic_j(len(codes), settings)
        found |= {
            "usd_per_hour": price,
            "accelerators": forecast["accelerators"],
            "usd_per_million_output_tokens": price * span_s / 3600 / (self._output_tokens / 1e6),
            "energy_j_per_output_token": energy_j / self._output_tokens,
            "output_tokens_per_s": self._output_tokens / span_s,
            "output_tokens_per_s_per_accelerator": self._output_tokens / span_s / devices,
            "requests_per_s": self._requests / span_s,
            "requests_per_s_per_accelerator": self._requests / span_s / devices,
            "goodput_rps": self._requests / span_s,
            "goodput_requests_per_usd": self._requests / span_s * 3600 / np.maximum(price, 1e-12),
            "energy_j_per_request": energy_j / self._requests,
            "power_mean_w": forecast["idle_w"],
            "power_peak_w": forecast["tdp_w"],
        }
        return found

    def _latencies_s(self, codes: Codes, settings: dict[str, Indices]) -> dict[str, Floats]:
        """Return floors of the latencies that are wanted, by name."""
        found = {name: np.zeros(len(codes)) for name in self._wanted}
        own = {name: index >= 0 for name, index in settings.items()}
        both = [name for name in own if self._role(name) == "both"]
        several = np.sum([own[name] for name in both], axis=0) > 1 if both else np.zeros(len(codes), np.bool_)
        for name, index in settings.items():
            rows = np.flatnonzero(own[name] & ~several)
            if not len(rows):
                continue
            waits_s = self._waits_s(name, index[rows], self._screen.clients(codes[rows], name))
            for column, (metric, wanted) in enumerate(self._wanted.items()):
                floor = np.maximum(self._pools[name].whole[index[rows], column], waits_s[:, column])
                if not (wanted.metric == "ttft" and self._role(name) == "decode"):
                    found[metric][rows] = np.maximum(found[metric][rows], floor)
        apart = [name for name in own if self._role(name) != "both"]
        if apart:
            self._raise(
                found,
                np.flatnonzero(np.all([own[name] for name in apart], axis=0)),
                settings,
                apart,
                self._one_after_other,
            )
        self._raise(found, np.flatnonzero(several), settings, both, self._either)
        return found

    def _raise(
        self,
        found: dict[str, Floats],
        rows: Indices,
        settings: dict[str, Indices],
        names: Sequence[str],
        floors_of: Callable[[Sequence[str], dict[str, Indices]], dict[str, Floats]],
    ) -> None:
        """Raise floors of designs that have several pools, worked out once for each combination of their settings."""
        if not len(rows):
            return
        keys = self._paired([settings[name][rows] for name in names])
        _, first, of_row = np.unique(keys, return_index=True, return_inverse=True)
        for start in range(0, len(first), COMBINATIONS_AT_ONCE):
            here = rows[first[start : start + COMBINATIONS_AT_ONCE]]
            floors = floors_of(names, {name: settings[name][here] for name in names})
            chosen = np.flatnonzero((of_row >= start) & (of_row < start + len(here)))
            target, combination = rows[chosen], of_row[chosen] - start
            for metric, values in floors.items():
                found[metric][target] = np.maximum(found[metric][target], values[combination])

    def _one_after_other(self, names: Sequence[str], settings: dict[str, Indices]) -> dict[str, Floats]:
        """Return floors of designs whose requests pass all of some pools."""
        prompt_s = np.sum([self._pools[name].prompt_s[settings[name]] for name in names], axis=0)
        answer_s = np.sum([self._pools[name].answer_s[settings[name]] for name in names], axis=0)
        return self._on_cells(prompt_s, prompt_s + answer_s)

    def _either(self, names: Sequence[str], settings: dict[str, Indices]) -> dict[str, Floats]:
        """Return floors of designs whose requests pass one of some pools."""
        prompts = [self._pools[name].prompt_s[settings[name]] for name in names]
        wholes = [p + self._pools[n].answer_s[settings[n]] for p, n in zip(prompts, names, strict=True)]
        least_token_s = np.min([self._pools[name].whole[settings[name], -1] for name in names], axis=0)
        tokens = {name: least_token_s for name, wanted in self._wanted.items() if wanted.metric == "tpot"}
        return self._on_cells(np.min(prompts, axis=0), np.min(wholes, axis=0)) | tokens

    def _on_cells(self, prompt_s: Floats, whole_s: Floats) -> dict[str, Floats]:
        """Return floors of TTFT and E2E from those on cells, shape (designs, cells)."""
        weights, others_s = self._traffic.weights, self._traffic.others_s
        found = {}
        for name, wanted in self._wanted.items():
            if wanted.metric == "ttft":
                found[name] = on_cells(prompt_s, weights, wanted)
            elif wanted.metric == "e2e":
                found[name] = on_cells(*_with_others(whole_s, weights, others_s), wanted)
        return found

    def _lends(self, codes: Codes) -> Booleans:
        """Tell in which designs prefill and decode clients help each other out."""
        names = [dimension.name for dimension in self._screen.space.closed]
        if "lending" not in names:
            return np.zeros(len(codes), dtype=np.bool_)
        column = names.index("lending")
        values = self._screen.space.closed[column].values
        lending = self._spec.space.lending
        return np.array([*(lending[str(value)] is not None for value in values), False])[codes[:, column]]

    @staticmethod
    def _paired(indices: Sequence[Indices]) -> Indices:
        """Return one number for each combination of settings."""
        key = indices[0].astype(np.intp)
        for index in indices[1:]:
            key = key * (int(index.max(initial=0)) + 2) + index + 1
        return key

    def _role(self, name: str) -> str:
        return next((plan.pool.role for plan in self._screen.pools[name].plans if plan), "both")

    def _waits_s(self, name: str, setting: Indices, clients: Floats) -> Floats:
        """Return the demand bounds of rows, worked out once for each setting and number of clients."""
        keys = setting * (int(clients.max(initial=0)) + 1) + clients.astype(np.intp)
        _, first, of_row = np.unique(keys, return_index=True, return_inverse=True)
        return self._pools[name].waits_s(setting[first], clients[first])[of_row]

    def _span_s(self, codes: Codes, settings: dict[str, Indices]) -> Floats:
        """Return the least time from the first arrival to the end of the last request."""
        found, whole = np.full(len(codes), self._last_arrival_s), self._pass_all(len(codes), settings)
        for name, index in settings.items():
            rows = np.flatnonzero((index >= 0) & whole)
            floors, setting = self._pools[name], index[rows]
            work_s = floors.work_s[setting].sum(axis=1) / self._screen.clients(codes[rows], name)
            found[rows] = np.maximum(found[rows], np.maximum(floors.end_s[setting], work_s))
        return found

    def _dynamic_j(self, count: int, settings: dict[str, Indices]) -> Floats:
        """Return the least energy of pools beside that at rest."""
        found, whole = np.zeros(count), self._pass_all(count, settings)
        for name, index in settings.items():
            rows = np.flatnonzero((index >= 0) & whole)
            found[rows] += self._pools[name].dynamic_j[index[rows]]
        return found

    def _pass_all(self, count: int, settings: dict[str, Indices]) -> Booleans:
        """Tell in which designs every pool serves its part of all requests that it can hold.

        Not where requests may take either of two pools; nor where they pass two of which one cannot hold some, which
        are then rejected before they come to the other.
        """
        pools, both, whole = np.zeros(count, np.intp), np.zeros(count, np.intp), np.ones(count, np.bool_)
        for name, index in settings.items():
            pools += index >= 0
            both += (index >= 0) & (self._role(name) == "both")
            whole &= (index < 0) | np.append(self._pools[name].holds_all, True)[index]
        return (both <= 1) & (whole | (pools <= 1))


class StudyFloors:
    """Floors of the designs of a study over all its workloads.

    Parameters
    ----------
    screen
        Of the study.
    load
        Requests of each of its workloads.
    """

    def __init__(self, screen: Screen, load: Sequence[Requests]) -> None:
        self._spec = screen.spec
        self._cases = [
            DesignFloors(screen, case, requests) for case, requests in zip(self._spec.cases, load, strict=True)
        ]

    def of(self, codes: Codes, forecast: npt.NDArray[Any]) -> tuple[Floats, Booleans]:
        """Return the losses that designs cannot beat, and which cannot keep a promise.

        Returns
        -------
        ndarray, shape (rows, objectives)
            Minus infinity where nothing is known.
        ndarray of bool, shape (rows,)
        """
        cases = [case.figures(codes, forecast) for case in self._cases]
        broken = np.any([_breaks(figures, self._spec) for figures in cases], axis=0)
        columns = [_loss(name, [figures.get(name) for figures in cases], self._spec) for name in self._spec.objectives]
        floors = np.stack([np.broadcast_to(column, len(codes)) for column in columns], axis=1)
        # Without a finite value of each objective a design is not feasible.
        return floors, broken | np.isposinf(floors).any(axis=1)


def _loss(name: str, values: Sequence[Floats | None], spec: StudySpec) -> Floats:
    """Return the best loss that an objective can have over all workloads: of the worst of them, or the mean."""
    sign = 1.0 if direction_of(name) == "minimize" else -1.0
    # No metric is negative, and what is better when larger and not bounded otherwise is a share.
    trivial = np.asarray(0.0 if sign > 0 else -1.0 if name in SHARES else -np.inf)
    known = [trivial if each is None else _eased(sign * each) for each in values]
    return over_cases(known, spec)


def _breaks(figures: dict[str, Floats], spec: StudySpec) -> Booleans:
    """Tell which designs cannot keep a hard promise with one workload, shape (rows,)."""
    broken = np.zeros(len(figures["usd_per_hour"]), dtype=np.bool_)
    for slo in spec.slos:
        if slo.penalty is None and slo.name in figures:
            broken |= _eased(figures[slo.name]) > slo.limit_s
    for bound in spec.constraints:
        if bound.penalty is None and bound.metric in figures:
            least = direction_of(bound.metric) == "minimize"
            if least and bound.at_most is not None:
                broken |= _eased(figures[bound.metric]) > bound.at_most
            if not least and bound.at_least is not None:
                broken |= -_eased(-figures[bound.metric]) < bound.at_least
    return broken


def _alternatives(spec: StudySpec, stage: str) -> list[Service]:
    """Return all services that designs may have for a stage and that can run; all if none can, to say why."""
    found = [service for service in spec.services if service.stage == stage]
    varied = spec.space.services.get(stage)
    if varied is not None:
        own = {stage: varied}
        found += [services_of(design, own)[0] for design in services(own)]
    served = spec.workload.plan.service(stage)
    return [service for service in found if not refusal(served, service)] or found


def _with_others(values: Floats, weights: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Return values on cells, shape (designs, cells), and weights, with those of other requests, the same in all."""
    if not len(others):
        return values, weights
    each = np.broadcast_to(others, (len(values), len(others)))
    return np.concatenate([values, each], axis=1), np.concatenate([weights, np.ones(len(others))])


def _eased(losses: Floats) -> Floats:
    """Return losses a little better, for rounding in floating point."""
    return losses - SLACK * np.abs(np.where(np.isfinite(losses), losses, 0.0)) - 1e-15
