"""A closer look at single designs: the bounds of their deployments, which know more than the floors of the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dse.assessment import over_cases
from dse.bounds import Bounds, bounds_of
from dse.bounds.deployment_bounds import SLACK
from dse.evaluation import deployment_of
from dse.objectives import direction_of, latency_of
from dse.screening.pool_settings import Floats
from dse.spec import StudySpec
from search_spaces import Design
from simulator import Requests
from simulator.metrics import percentile

Reading = Callable[[Bounds, str], float]
"""The best value of a metric by its name, infinitely good if nothing is known."""


class CloserLook:
    """Bounds of single designs of a study.

    Parameters
    ----------
    spec, load
        The study, and the requests of each of its workloads.
    """

    def __init__(self, spec: StudySpec, load: Sequence[Requests]) -> None:
        self._spec, self._load = spec, tuple(load)

    def of_any_size(self, design: Design) -> tuple[Floats, bool]:
        """Return what a design cannot beat however many clients it has: losses, and whether it breaks a promise."""
        cases = self._bounds(design, waiting=False)
        # A percentile that no request has is NaN, and breaks nothing.
        broken = any(
            _alone(bounds, slo.name) > slo.limit_s for bounds in cases for slo in self._spec.slos if slo.penalty is None
        )
        return self._judged(self._losses(cases, _alone), broken)

    def of(self, design: Design) -> tuple[Floats, bool]:
        """Return what a design cannot beat: losses, shape (objectives,), and whether it breaks a promise."""
        cases, slos = self._bounds(design, waiting=True), self._spec.slos
        hard = [slo for slo in slos if slo.penalty is None]
        broken = any(bounds.breaks_promises(hard) for bounds in cases)
        return self._judged(self._losses(cases, lambda bounds, name: bounds.best(name, slos)), broken)

    def _bounds(self, design: Design, *, waiting: bool) -> list[Bounds]:
        deployment = deployment_of(design, self._spec)
        return [
            bounds_of(deployment, requests, case.workload.plan, waiting=waiting)
            for case, requests in zip(self._spec.cases, self._load, strict=True)
        ]

    @staticmethod
    def _judged(losses: Floats, broken: bool) -> tuple[Floats, bool]:
        """Return losses, and whether a promise is broken, or an objective cannot have a finite value."""
        return np.where(np.isnan(losses), np.inf, losses), broken or not bool((losses < np.inf).all())

    def _losses(self, cases: Sequence[Bounds], best: Reading) -> Floats:
        """Return the losses over all workloads, of the worst of them or the mean."""
        spec = self._spec
        signs = np.array([1.0 if direction_of(name) == "minimize" else -1.0 for name in spec.objectives])
        losses = np.array([[best(bounds, name) for name in spec.objectives] for bounds in cases]) * signs
        return over_cases(losses, spec)


def _alone(bounds: Bounds, name: str) -> float:
    """Return a floor of a latency by its name if nobody had to wait for anybody; of other metrics nothing."""
    latency = latency_of(name)
    if latency is None:
        return -np.inf if direction_of(name) == "minimize" else np.inf
    metric, percent = latency
    if metric == "itl":
        return -np.inf if percent is None else bounds.percentile_s(metric, percent)
    values: Floats = getattr(bounds, f"{metric}_s")
    if not len(values):
        return -np.inf
    return (float(values.mean()) if percent is None else percentile(values, percent)) * (1 - SLACK)
