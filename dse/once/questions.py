"""Questions that are answered at once: about one deployment, without a study."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from dse.explain.breakdown import STEPS, StepKind
from dse.spec import check_session_metrics
from simulator.errors import SpecError
from simulator.spec.base import Spec
from simulator.spec.deployment import Deployment
from simulator.spec.distributions import MAX_TOKENS
from simulator.spec.slo import SLO
from simulator.spec.workload import Workload

MOST_SLOS: Final = 100

Promises = Annotated[tuple[SLO, ...], Field(max_length=MOST_SLOS)]
Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class SimulationQuestion(Spec):
    """What happens when a deployment serves a workload?"""

    deployment: Deployment = Field(description="the system: pools, services, routers, tiers")
    workload: Workload = Field(description="what arrives, and the stages it passes")
    slos: Promises = Field(default=(), description="promises to hold the outcome against")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_session_metrics((slo.name for slo in self.slos), self.workload)
        return self


class CapacityQuestion(SimulationQuestion):
    """Which rate does a deployment sustain within its promises?"""

    tolerance: float = Field(default=0.01, ge=0.001, le=1, description="how exact the rate is to be, a share of it")
    replications: int = Field(default=1, ge=1, le=20, description="draws of the load, each with an answer of its own")


class ExplanationQuestion(Spec):
    """Where does the time of a step go?"""

    deployment: Deployment = Field(description="the system; one client of each pool is taken apart")
    workload: Workload | None = Field(
        default=None, description="its pipeline has the service stages; without it services are left out"
    )
    pool: str | None = Field(default=None, description="the only pool to look at; all pools and services if absent")
    prompt_tokens: Tokens = Field(default=1024, description="prompt as the LLM reads it")
    context_tokens: int = Field(
        default=1024, ge=0, le=MAX_TOKENS, description="tokens whose KV each decoding request has"
    )
    output_tokens: Tokens = Field(default=256, description="answer, for services after the LLM")
    batch: int = Field(default=32, ge=1, le=65_536, description="requests that decode at once")
    steps: tuple[StepKind, ...] = Field(
        default=STEPS[:2],
        min_length=1,
        max_length=len(STEPS),
        description="prefill: a lone prompt; decode: a batch; mixed: a prompt beside a batch",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [pool.name for pool in self.deployment.pools]
        if self.pool is not None and self.pool not in names:
            raise SpecError(f"pool: no pool {self.pool!r}; given: {', '.join(names)}")
        if len(set(self.steps)) < len(self.steps):
            raise SpecError(f"steps: must differ, given {', '.join(self.steps)}")
        return self
