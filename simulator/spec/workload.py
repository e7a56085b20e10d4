"""What a person writes about the load: when requests arrive and how long they are.

Two short forms::

    requests: 10000                                   requests: 10000   # optional: the first N rows
    arrivals: {process: poisson, rate_rps: 8}         trace: {path: my_trace.csv, rate_rps: 8}
    lengths: {statistics: azure-2023-conversation}
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from simulator.errors import unknown_name
from simulator.spec.base import Spec
from simulator.spec.stages import LLM_ALONE, Stage, check_pipeline

#: Statistics files that come with the package, see ``simulator/workload/learned``.
SHIPPED_STATISTICS: Final = ("azure-2023-code", "azure-2023-conversation")
#: Longest prompt or output accepted: beyond every context window on the market, far below int32.
MAX_TOKENS: Final = 10_000_000
#: Requests generated where the specification names no number.
DEFAULT_REQUESTS: Final = 10_000

_Z99: Final = 2.3263478740408408  # standard normal quantile at 0.99


def _known_statistics(value: str) -> str:
    if value not in SHIPPED_STATISTICS and not value.endswith(".json"):
        raise unknown_name("statistics (or a path ending in .json)", value, SHIPPED_STATISTICS)
    return value


StatisticsName = Annotated[
    str,
    Field(
        description="name of shipped statistics (azure-2023-conversation, azure-2023-code), "
        "or the path of a .json file learned by `python -m simulator.workload.statistics`"
    ),
    AfterValidator(_known_statistics),
]
RateRps = Annotated[float, Field(gt=0, description="mean rate in requests per second")]
Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
MeanTokens = Annotated[float, Field(ge=1, le=MAX_TOKENS)]


class ConstantArrivals(Spec):
    """Requests arrive at equal gaps."""

    process: Literal["constant"] = Field(description="equal gaps")
    rate_rps: RateRps


class PoissonArrivals(Spec):
    """Independent users: exponential gaps, coefficient of variation 1."""

    process: Literal["poisson"] = Field(description="exponential gaps")
    rate_rps: RateRps


class GammaArrivals(Spec):
    """Bursty or smoothed arrivals: independent gamma gaps."""

    process: Literal["gamma"] = Field(description="gamma-distributed gaps")
    rate_rps: RateRps
    burstiness_cv: float = Field(
        ge=0.001,
        le=20,
        description="coefficient of variation of the gaps: below 1 smoother than Poisson, above 1 burstier",
    )


class StatisticsArrivals(Spec):
    """Arrivals with the bursts learned from a real trace."""

    process: Literal["statistics"] = Field(description="bursts as learned from a trace")
    statistics: StatisticsName
    rate_rps: RateRps | None = Field(
        default=None,
        description="mean rate in requests per second, reached by stretching time; if absent, as learned",
    )


Arrivals = Annotated[
    ConstantArrivals | PoissonArrivals | GammaArrivals | StatisticsArrivals, Field(discriminator="process")
]


class ConstantTokens(Spec):
    """Every request has the same number of tokens."""

    distribution: Literal["constant"] = Field(description="the same for every request")
    tokens: Tokens = Field(description="number of tokens")


class UniformTokens(Spec):
    """Every whole number between two bounds, both included, is equally likely."""

    distribution: Literal["uniform"] = Field(description="equally likely between two bounds")
    low_tokens: Tokens = Field(description="least number of tokens")
    high_tokens: Tokens = Field(description="greatest number of tokens, included")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high_tokens < self.low_tokens:
            raise ValueError(f"high_tokens {self.high_tokens} is below low_tokens {self.low_tokens}")
        return self


class LognormalTokens(Spec):
    """Lognormal lengths, given the mean and either the 99th percentile or sigma."""

    distribution: Literal["lognormal"] = Field(description="lognormal")
    mean_tokens: MeanTokens = Field(description="mean before rounding and clipping")
    p99_tokens: MeanTokens | None = Field(default=None, description="99th percentile; instead of sigma")
    sigma: float | None = Field(
        default=None, gt=0, le=4, description="standard deviation of the logarithm; instead of p99_tokens"
    )

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if (self.p99_tokens is None) == (self.sigma is None):
            raise ValueError("give either p99_tokens or sigma")
        if self.p99_tokens is not None:
            ratio = self.p99_tokens / self.mean_tokens
            # Solvable up to exp(z²/2): a heavier tail pulls the mean up faster than the percentile.
            if not 1 < ratio <= math.exp(_Z99**2 / 2):
                raise ValueError(
                    f"p99_tokens must be 1 to 14.96 times mean_tokens (a lognormal allows no more), "
                    f"given {ratio:.4g} times"
                )
        return self

    @property
    def log_sigma(self) -> float:
        """Standard deviation of the logarithm.

        From ``p99 = exp(mu + z s)`` and ``mean = exp(mu + s²/2)``: ``s = z - sqrt(z² - 2 ln(p99/mean))``.
        """
        if self.sigma is not None:
            return self.sigma
        assert self.p99_tokens is not None
        return _Z99 - math.sqrt(max(0.0, _Z99**2 - 2 * math.log(self.p99_tokens / self.mean_tokens)))


class ExponentialTokens(Spec):
    """Exponential lengths, rounded to whole tokens."""

    distribution: Literal["exponential"] = Field(description="exponential, rounded")
    mean_tokens: MeanTokens = Field(description="mean before rounding and clipping")


class GeometricTokens(Spec):
    """Geometric lengths: after every token the request ends with the same probability."""

    distribution: Literal["geometric"] = Field(description="geometric, at least 1")
    mean_tokens: MeanTokens = Field(description="mean before clipping")


TokenDistribution = Annotated[
    ConstantTokens | UniformTokens | LognormalTokens | ExponentialTokens | GeometricTokens,
    Field(discriminator="distribution"),
]


class Lengths(Spec):
    """Prompt and output tokens: learned together from a trace, or each from its own distribution."""

    statistics: StatisticsName | None = Field(
        default=None,
        description="learned joint distribution of prompt and output: a shipped name or a .json path",
    )
    prompt: TokenDistribution | None = Field(default=None, description="prompt tokens; needs output too")
    output: TokenDistribution | None = Field(default=None, description="output tokens; needs prompt too")
    max_prompt_tokens: Tokens | None = Field(
        default=None, description="longer prompts are cut to this many tokens; no limit if absent"
    )
    max_output_tokens: Tokens | None = Field(
        default=None, description="longer outputs are cut to this many tokens; no limit if absent"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        separate = (self.prompt is not None, self.output is not None)
        if separate != ((False, False) if self.statistics is not None else (True, True)):
            raise ValueError("give either statistics, or both prompt and output")
        return self


class Trace(Spec):
    """A file of recorded requests, replayed as it is or at another rate."""

    path: Annotated[Path, Field(strict=False)] = Field(description="file to read, relative to the working directory")
    format: Literal["auto", "azure", "mooncake", "csv"] = Field(
        default="auto",
        description="azure: TIMESTAMP,ContextTokens,GeneratedTokens; mooncake: JSON lines; "
        "csv: arrival_s,prompt_tokens,output_tokens; auto: told from the first line",
    )
    rate_rps: RateRps | None = Field(
        default=None,
        description="mean rate in requests per second, reached by stretching time; as recorded if absent",
    )
    start_s: float = Field(default=0.0, ge=0, description="skip requests before this time of the recording")
    duration_s: float | None = Field(
        default=None, gt=0, description="keep this many seconds of the recording; all of it if absent"
    )


class Workload(Spec):
    """A load of requests: recorded (``trace``), or generated (``arrivals`` and ``lengths``)."""

    pipeline: tuple[Stage, ...] = Field(
        default=LLM_ALONE, description="stages of every request, in order: services around prefill, decode"
    )
    requests: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="number of requests: to generate (10 000 if absent), or the first of the trace (all)",
    )
    seed: int = Field(default=0, ge=0, description="seed of the generator; a trace needs none")
    arrivals: Arrivals | None = Field(default=None, description="when generated requests arrive")
    lengths: Lengths | None = Field(default=None, description="how long generated requests are")
    trace: Trace | None = Field(default=None, description="recorded requests, instead of arrivals and lengths")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        check_pipeline(self.pipeline)
        generated = (self.arrivals is not None, self.lengths is not None)
        if generated != ((False, False) if self.trace is not None else (True, True)):
            raise ValueError("give either trace, or both arrivals and lengths")
        return self
