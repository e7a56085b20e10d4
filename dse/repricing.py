"""What evaluated designs cost at other prices, without a new simulation: prices have no influence on what happens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dse.assessment import Figures, assess, figures_of_cases
from dse.evaluation import Evaluation
from dse.objectives import per_usd
from dse.spec import StudySpec
from simulator import SpecError, catalog

DEVICES: Final = "devices."
TIERS: Final = "tiers_usd_per_hour"


@dataclass(frozen=True)
class Prices:
    """What devices and electricity cost.

    Attributes
    ----------
    usd_per_hour
        Of one device, by catalogued name, a hypothetical one's in its canonical spelling; the catalogue's where there
        is none.
    electricity_usd_per_kwh
        For the energy of all devices, besides their price; the catalogue's rents include it, so 0 unless said.
    """

    usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    electricity_usd_per_kwh: float = 0.0

    def __post_init__(self) -> None:
        """Refuse unknown devices and negative prices, and spell names as :meth:`of` looks for them."""
        spelled = dict[str, float]()
        for name, price in self.usd_per_hour.items():
            catalog.device(name)
            if not 0 <= price < math.inf:
                raise SpecError(f"prices: {name}: must be at least 0 USD per hour, given {price}")
            if spelled.setdefault(catalog.canonical_name(name), price) != price:
                raise SpecError(f"prices: {name}: given twice, once in another spelling")
        object.__setattr__(self, "usd_per_hour", spelled)
        per_kwh = self.electricity_usd_per_kwh
        if not 0 <= per_kwh < math.inf:
            raise SpecError(f"prices: electricity: must be at least 0 USD per kWh, given {per_kwh}")

    def of(self, device: str) -> float:
        """Return the price of a device, USD per hour."""
        price = self.usd_per_hour.get(catalog.canonical_name(device))
        return catalog.device(device).price_usd_per_hour if price is None else price


def reprice(evaluation: Evaluation, spec: StudySpec, prices: Prices) -> Evaluation:
    """Return an evaluation as it would be at other prices: objectives, constraints and figures.

    Parameters
    ----------
    evaluation
        Of a design of the study. One that was not simulated stays as it is, even if it was too dear only for
        ``limits.usd_per_hour``: nothing is known of it.
    spec
        The study.
    prices
        The new prices.

    Raises
    ------
    SpecError
        If the evaluation is of an earlier version, which did not note the devices.
    """
    if not evaluation.simulated:
        return evaluation
    devices = {
        name.removeprefix(DEVICES): count for name, count in evaluation.figures.items() if name.startswith(DEVICES)
    }
    if not devices:
        raise SpecError("prices: the run is of an earlier version, which did not note its devices; run it again")
    rent = sum(count * prices.of(name) for name, count in devices.items())
    cases = [_repriced(figures, rent, prices) for figures in figures_of_cases(evaluation.figures, spec)]
    assessment = assess(cases, spec)
    constraints = assessment.constraints
    limit = spec.limits.usd_per_hour
    if limit and (excess := (rent + cases[0][TIERS]) / limit - 1) > 0:
        constraints = {**constraints, "usd_per_hour": excess / (1 + excess)}
    return replace(
        evaluation,
        objectives=assessment.objectives,
        constraints=constraints,
        figures=evaluation.figures | assessment.figures,
    )


def _repriced(figures: Figures, rent: float, prices: Prices) -> Figures:
    """Return the figures of one workload with those that depend on prices computed anew.

    ``USD/h = rent of devices + tiers + electricity * mean power``.
    """
    power_kw = figures["energy_j"] / figures["span_s"] / 1e3
    usd_per_hour = rent + figures[TIERS] + prices.electricity_usd_per_kwh * power_kw
    tokens = figures["output_tokens"]
    changed = {
        "usd_per_hour": usd_per_hour,
        "usd_per_million_output_tokens": (
            usd_per_hour * figures["span_s"] / 3600 / (tokens / 1e6) if tokens else float("inf")
        ),
    }
    if "goodput_requests_per_usd" in figures:
        changed["goodput_requests_per_usd"] = per_usd(figures["goodput_rps"], usd_per_hour)
    return figures | changed
