"""What a person writes about when requests arrive."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from simulator.errors import unknown_name
from simulator.spec.base import Spec
from simulator.spec.file_names import asked

#: Statistics files that come with the package, see ``simulator/workload/learned``.
SHIPPED_STATISTICS: Final = ("azure-2023-code", "azure-2023-conversation")


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
    asked("statistics", ".json"),
]
RateRps = Annotated[float, Field(gt=0, description="mean rate in requests per second")]


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
