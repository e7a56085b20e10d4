"""What a person writes about numbers that vary: tokens, counts and seconds.

Wherever one of these is asked for, a bare number stands for the same value every time::

    turns: {distribution: geometric, mean: 4}         wait_s: {distribution: exponential, mean_s: 20}
    turns: 4                                          wait_s: 2.5
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from simulator.spec.base import Spec

#: Longest prompt or output accepted: beyond every context window on the market, far below int32.
MAX_TOKENS: Final = 10_000_000
#: Largest count accepted: of turns in a session, of images in a request.
MAX_COUNT: Final = 100_000
#: Longest wait accepted, in seconds: a week.
MAX_WAIT_S: Final = 7 * 86_400.0

_Z99: Final = 2.3263478740408408  # standard normal quantile at 0.99

Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
MeanTokens = Annotated[float, Field(ge=1, le=MAX_TOKENS)]


def _sigma_of(mean: float, p99: float | None, sigma: float | None) -> float:
    """Return the standard deviation of the logarithm of a lognormal.

    From ``p99 = exp(mu + z s)`` and ``mean = exp(mu + s²/2)``: ``s = z - sqrt(z² - 2 ln(p99/mean))``.
    """
    if sigma is not None:
        return sigma
    assert p99 is not None
    return _Z99 - math.sqrt(max(0.0, _Z99**2 - 2 * math.log(p99 / mean)))


def _check_shape(unit: str, mean: float, p99: float | None, sigma: float | None) -> None:
    """Refuse a lognormal with two shapes or none, or one that no lognormal has."""
    if (p99 is None) == (sigma is None):
        raise ValueError(f"give either p99_{unit} or sigma")
    if p99 is not None:
        ratio = p99 / mean
        # Solvable up to exp(z²/2): a heavier tail pulls the mean up faster than the percentile.
        if not 1 < ratio <= math.exp(_Z99**2 / 2):
            raise ValueError(
                f"p99_{unit} must be 1 to 14.96 times mean_{unit} (a lognormal allows no more), given {ratio:.4g} times"
            )


def _bare(field: str) -> Callable[[Any], Any]:
    """Return a validator that takes a bare number for a constant."""

    def constant(value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"distribution": "constant", field: value}
        return value

    return constant


# Tokens


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
        _check_shape("tokens", self.mean_tokens, self.p99_tokens, self.sigma)
        return self

    @property
    def log_sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return _sigma_of(self.mean_tokens, self.p99_tokens, self.sigma)


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
TokenNumbers = Annotated[
    TokenDistribution, BeforeValidator(_bare("tokens"), json_schema_input_type=Tokens | TokenDistribution)
]
"""A distribution of tokens, or a bare number."""


# Counts


class ConstantCount(Spec):
    """The same count every time."""

    distribution: Literal["constant"] = Field(description="the same every time")
    count: int = Field(ge=0, le=MAX_COUNT, description="the count")


class UniformCount(Spec):
    """Every count between two bounds, both included, is equally likely."""

    distribution: Literal["uniform"] = Field(description="equally likely between two bounds")
    low: int = Field(ge=0, le=MAX_COUNT, description="least count")
    high: int = Field(ge=0, le=MAX_COUNT, description="greatest count, included")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high {self.high} is below low {self.low}")
        return self


class GeometricCount(Spec):
    """After every one there is a next with the same probability; at least 1."""

    distribution: Literal["geometric"] = Field(description="geometric, at least 1")
    mean: float = Field(ge=1, le=MAX_COUNT, description="mean count")


class PoissonCount(Spec):
    """Independent rare events; 0 is possible."""

    distribution: Literal["poisson"] = Field(description="Poisson, 0 is possible")
    mean: float = Field(ge=0, le=MAX_COUNT, description="mean count")


CountDistribution = Annotated[
    ConstantCount | UniformCount | GeometricCount | PoissonCount, Field(discriminator="distribution")
]
Counts = Annotated[CountDistribution, BeforeValidator(_bare("count"), json_schema_input_type=int | CountDistribution)]
"""A distribution of counts, or a bare number."""


# Seconds


class ConstantSeconds(Spec):
    """The same time every time."""

    distribution: Literal["constant"] = Field(description="the same every time")
    seconds: float = Field(ge=0, le=MAX_WAIT_S, description="the time in seconds")


class UniformSeconds(Spec):
    """Every time between two bounds is equally likely."""

    distribution: Literal["uniform"] = Field(description="equally likely between two bounds")
    low_s: float = Field(ge=0, le=MAX_WAIT_S, description="least time in seconds")
    high_s: float = Field(ge=0, le=MAX_WAIT_S, description="greatest time in seconds")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high_s < self.low_s:
            raise ValueError(f"high_s {self.high_s:g} is below low_s {self.low_s:g}")
        return self


class ExponentialSeconds(Spec):
    """Exponential times: short ones are the most likely."""

    distribution: Literal["exponential"] = Field(description="exponential")
    mean_s: float = Field(gt=0, le=MAX_WAIT_S, description="mean in seconds")


class LognormalSeconds(Spec):
    """Lognormal times, given the mean and either the 99th percentile or sigma."""

    distribution: Literal["lognormal"] = Field(description="lognormal")
    mean_s: float = Field(gt=0, le=MAX_WAIT_S, description="mean in seconds")
    p99_s: float | None = Field(default=None, gt=0, description="99th percentile in seconds; instead of sigma")
    sigma: float | None = Field(
        default=None, gt=0, le=4, description="standard deviation of the logarithm; instead of p99_s"
    )

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        _check_shape("s", self.mean_s, self.p99_s, self.sigma)
        return self

    @property
    def log_sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return _sigma_of(self.mean_s, self.p99_s, self.sigma)


SecondsDistribution = Annotated[
    ConstantSeconds | UniformSeconds | ExponentialSeconds | LognormalSeconds, Field(discriminator="distribution")
]
Seconds = Annotated[
    SecondsDistribution, BeforeValidator(_bare("seconds"), json_schema_input_type=float | SecondsDistribution)
]
"""A distribution of seconds, or a bare number."""


def least_count(counts: CountDistribution) -> int:
    """Return the least count that a distribution gives."""
    match counts:
        case ConstantCount():
            return counts.count
        case UniformCount():
            return counts.low
        case GeometricCount():
            return 1
        case PoissonCount():
            return 0
