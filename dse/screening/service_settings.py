"""Services around the LLM that designs choose: what they cost, and whether they can run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dse.screening.distinct import distinct
from dse.screening.pool_settings import Floats
from search_spaces import Space
from search_spaces.codes import Codes
from search_spaces.services import ServiceSpace, services_of
from simulator import catalog
from simulator.performance.price import service_usd_per_hour
from simulator.performance.service_cost import refusal
from simulator.spec.pipeline_plan import PipelinePlan
from simulator.spec.stages import Service

FIGURES = ("usd_per_hour", "tdp_w", "idle_w", "impossible")
"""What is added up over the services of a design; the last counts those that their devices cannot run."""


class ServiceSettings:
    """Price and power of services, those that all designs share and those that each chooses, and those that cannot be.

    Parameters
    ----------
    space, varied
        Of the designs, and what may vary by stage.
    fixed
        Services of every design.
    plan
        Stages of the workload.
    """

    def __init__(
        self, space: Space, varied: dict[str, ServiceSpace], fixed: Sequence[Service], plan: PipelinePlan
    ) -> None:
        self._space, self._varied, self._plan = space, varied, plan
        self._fixed = self._figures(fixed)
        names = [dimension.name for dimension in space.closed]
        self._columns = [column for column, name in enumerate(names) if name.rpartition(".")[0] in varied]

    def of(self, codes: Codes) -> Floats:
        """Return ``FIGURES`` of the services of designs, shape (figures, rows)."""
        if not self._columns:
            return np.repeat(self._fixed[:, None], len(codes), axis=1)
        different = distinct(codes, self._columns)
        each = [
            self._fixed + self._figures(services_of(self._space.design_of(codes[row]), self._varied))
            for row in different.first
        ]
        return np.asarray(np.array(each).reshape(-1, len(FIGURES)).T[:, different.of_row])

    def _figures(self, services: Sequence[Service]) -> Floats:
        found = np.zeros(len(FIGURES))
        for service in services:
            stage, device = self._plan.service(service.stage), catalog.device(service.device)
            devices = service.devices_in_all(stage)
            found += [
                service_usd_per_hour(service, stage),
                devices * device.tdp_w,
                devices * device.idle_w,
                bool(refusal(stage, service)),
            ]
        return found
