"""What other prices do to front and recommendation: recomputed by :mod:`dse.repricing`, without any simulation.

What was *searched* does not change: a design that nobody proposed at today's prices, or that was excluded because it
was too dear, is not found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from dse.evaluation import Evaluation
from dse.objectives import direction_of
from dse.pareto import losses, non_dominated
from dse.repricing import DEVICES, TIERS, Prices, reprice
from dse.result import SAME, StudyResult
from dse.understanding.picks import need_front, trial_of
from dse.understanding.price_scan import PRICED, PriceScan, first_figure
from simulator import SpecError, catalog
from simulator.catalog import Accelerator

if TYPE_CHECKING:
    import pandas as pd

FACTORS: Final = (0.5, 0.8, 0.9, 1.1, 1.2, 1.5)
"""Changes of a price that are looked at."""
LEAST_FACTOR, MOST_FACTOR = 0.1, 10.0
"""Break-even prices are sought from a tenth to ten times today's."""
STEP = 1.05
"""Ratio of the prices at which the recommendation is first looked at; bisection narrows it down."""
PRECISION = 1e-6
"""Relative width to which a break-even price is found."""


def repriced(result: StudyResult, prices: Prices) -> StudyResult:
    """Return a study's result at other prices, as simulations at those prices would give it, without any.

    Parameters
    ----------
    result
        Of a study.
    prices
        USD per hour of devices, and USD per kWh.

    Raises
    ------
    SpecError
        As :func:`dse.repricing.reprice`.

    Examples
    --------
    >>> from dse.repricing import Prices
    >>> repriced(result, Prices({"h100-sxm": 2.0})).recommended  # doctest: +SKIP
    """
    return replace(result, evaluations=tuple(reprice(e, result.spec, prices) for e in result.evaluations))


def price_sensitivity(
    result: StudyResult, factors: Sequence[float] = FACTORS, devices: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return what another price of each accelerator type does to front and recommendation, without any simulation.

    Parameters
    ----------
    result
        A study with a front.
    factors
        New price by today's.
    devices
        Types to look at; the accelerators that designs without a broken promise use if absent.

    Returns
    -------
    pandas.DataFrame
        By ``device`` and ``factor``: ``device_usd_per_hour``, ``front`` (designs on it), ``joined`` and ``left``
        (designs that come to and go from today's front), ``recommended`` (trial), ``changed`` (whether that is another
        design, which differs from today's by more than 0.5 % in an objective), and its objectives at that price.

    Raises
    ------
    SpecError
        If nothing is feasible, or no design uses a type.
    """
    import pandas as pd

    need_front(result)
    contenders = Contenders(result)
    unchanged = contenders.at(Prices())
    today = {id(contenders.original(e, unchanged)) for e in unchanged.front}
    rows = []
    for name in contenders.accelerators if devices is None else devices:
        price = contenders.price(name)
        for factor in factors:
            found = contenders.at(Prices({name: price * factor}))
            front = {id(contenders.original(e, found)) for e in found.front}
            best = found.recommended
            row: dict[str, object] = {
                "device": name,
                "factor": factor,
                "device_usd_per_hour": price * factor,
                "front": len(front),
                "joined": len(front - today),
                "left": len(today - front),
                "recommended": contenders.trial(best, found),
                "changed": contenders.changed(found),
            }
            values = best.objectives if best else (math.nan,) * len(result.spec.objectives)
            rows.append(row | dict(zip(result.spec.objectives, values, strict=True)))
    columns = ["device", "factor", "device_usd_per_hour", "front", "joined", "left", "recommended", "changed"]
    frame = pd.DataFrame(rows, columns=[*columns, *result.spec.objectives])
    return frame.astype({"recommended": "Int64"}).set_index(["device", "factor"])


def break_even(result: StudyResult) -> pd.DataFrame:
    """Return the prices of each accelerator type at which the recommendation changes, without any simulation.

    Sought from a tenth to ten times today's price: in steps of 5 %, then by bisection to a millionth. So a change that
    is taken back within 5 % may be missed.

    Returns
    -------
    pandas.DataFrame
        By ``device``: ``usd_per_hour`` today; ``below`` (``above``), the price under (over) which another design is
        recommended, NaN if none in the range; ``trial_below`` (``trial_above``), that design, none if then nothing
        is feasible.

    Raises
    ------
    SpecError
        If nothing is feasible.
    """
    import pandas as pd

    need_front(result)
    contenders = Contenders(result)
    rows = []
    for name in contenders.accelerators:
        row: dict[str, object] = {"device": name, "usd_per_hour": contenders.price(name)}
        for side, last in (("below", LEAST_FACTOR), ("above", MOST_FACTOR)):
            row[side], row[f"trial_{side}"] = _first_change(contenders, name, last)
        rows.append(row)
    columns = ["device", "usd_per_hour", "below", "trial_below", "above", "trial_above"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"trial_below": "Int64", "trial_above": "Int64"}).set_index("device")


def depends_on_prices(result: StudyResult) -> bool:
    """Return whether prices have any influence on what is feasible or recommended."""
    spec = result.spec
    return any(name in PRICED for name in spec.objectives) or _bounds_prices(result)


def _bounds_prices(result: StudyResult) -> bool:
    """Return whether prices decide what is allowed."""
    spec = result.spec
    return spec.limits.usd_per_hour is not None or any(bound.metric in PRICED for bound in spec.constraints)


class Contenders:
    """The designs that can be on the front at some prices.

    Parameters
    ----------
    result
        Of a study.
    electricity
        Whether electricity may have a price too. Then every design that keeps its promises is a contender: which ones
        cannot come to the front is only known of the prices of devices.

    Attributes
    ----------
    evaluations
        The designs.
    devices, accelerators
        Names of what they use, and of those that are no processors.
    """

    def __init__(self, result: StudyResult, *, electricity: bool = False) -> None:
        self.result = result
        kept = [e for e in result.simulated if not _fails_otherwise(e)]
        if kept:
            reprice(kept[0], result.spec, Prices())  # refuses runs of versions that did not note their devices
        if kept and not electricity and not _bounds_prices(result):
            kept = [kept[place] for place in sorted(_unbeaten(kept, result))]
        self.evaluations = tuple(kept)
        used = (name.removeprefix(DEVICES) for e in kept for name in e.figures if name.startswith(DEVICES))
        self.devices = tuple(dict.fromkeys(used))
        self.accelerators = tuple(name for name in self.devices if isinstance(catalog.device(name), Accelerator))
        self._today = result.recommended

    @cached_property
    def scan(self) -> PriceScan | None:
        """What finds recommendations at many prices quickly; None where prices also decide what is allowed."""
        if self._today is None or not self.evaluations or _bounds_prices(self.result):
            return None
        scan = PriceScan(self.evaluations, self.result.spec, self._today)
        return scan if scan.knows else None

    def price(self, name: str) -> float:
        """Return today's price of a device, USD per hour.

        Raises
        ------
        SpecError
            If no design uses it.
        """
        if name not in self.devices:
            known = ", ".join(sorted(self.devices))
            raise SpecError(f"prices: no design that keeps every SLO uses {name!r}; used: {known}")
        return catalog.device(name).price_usd_per_hour

    def at(self, prices: Prices) -> StudyResult:
        """Return front and recommendation at other prices: a result that holds the contenders alone."""
        return repriced(replace(self.result, evaluations=self.evaluations), prices)

    def original(self, evaluation: Evaluation, found: StudyResult) -> Evaluation:
        """Return a contender as it was simulated, from its evaluation at other prices."""
        return self.evaluations[trial_of(found, evaluation)]

    def trial(self, evaluation: Evaluation | None, found: StudyResult) -> int | None:
        """Return the number of a contender among all trials."""
        return None if evaluation is None else trial_of(self.result, self.original(evaluation, found))

    def changed(self, found: StudyResult) -> bool:
        """Return whether another design than today's is recommended, and not just a twin of it."""
        best, today = found.recommended, self._today
        if best is None or today is None:
            return True
        if best.design == today.design:
            return False
        same = next((e for e in found.evaluations if e.design == today.design), None)
        # A design that no price brings to the front is not among the contenders: today's always is, or an equal.
        return same is None or not same.feasible or not np.allclose(best.objectives, same.objectives, rtol=SAME, atol=0)


def _fails_otherwise(evaluation: Evaluation) -> bool:
    """Return whether a design breaks something that has nothing to do with prices."""
    return any(
        violation > 0 and name.removesuffix("_at_most").removesuffix("_at_least") not in PRICED
        for name, violation in evaluation.constraints.items()
    )


def _unbeaten(evaluations: Sequence[Evaluation], result: StudyResult) -> Sequence[int]:
    """Return the places of the designs that can be on a front at some prices.

    A figure in USD is proportional to what a design costs an hour, the sum over its devices of price times number. A
    design that another beats in everything without a price and, device by device, in every figure in USD loses at all
    prices.
    """
    names = sorted({n for e in evaluations for n in e.figures if n.startswith(DEVICES)})
    prices = np.array([catalog.device(name.removeprefix(DEVICES)).price_usd_per_hour for name in names])
    counts = np.array([[e.figures.get(name, 0.0) for name in names] for e in evaluations])
    tiers = np.array([first_figure(e, TIERS) for e in evaluations])
    parts = np.column_stack([counts * prices, tiers])
    parts /= np.maximum(parts.sum(axis=1, keepdims=True), 1e-300)
    points = losses(np.array([e.objectives for e in evaluations]), result.spec.objectives)
    columns = []
    for name, column in zip(result.spec.objectives, points.T, strict=True):
        if name not in PRICED:
            columns.append(column[:, None])
        elif direction_of(name) == "minimize":
            columns.append(parts * column[:, None])
        else:
            columns.append(parts / np.maximum(-column, 1e-300)[:, None])
    return [int(place) for place in non_dominated(np.column_stack(columns))]


def _first_change(contenders: Contenders, name: str, last: float) -> tuple[float, int | None]:
    """Return the price nearest to today's, on the way to ``last`` times it, at which the recommendation changes.

    NaN and None if it never does; and the trial that is recommended then.
    """
    price = contenders.price(name)

    def prices(factor: float) -> Prices:
        return Prices({name: price * factor})

    def looked(factor: float) -> bool:
        return contenders.changed(contenders.at(prices(factor)))

    if not depends_on_prices(contenders.result):
        return math.nan, None
    scan = contenders.scan
    if scan is not None:
        found = _crossing(lambda factor: scan.changed(prices(factor)), last)
        # Arrays round otherwise than evaluations one by one, which is what counts.
        if found is not None and (looked(found[0]) or not looked(found[1])):
            found = _crossing(looked, last)
    else:
        found = _crossing(looked, last)
    if found is None:
        return math.nan, None
    other = found[1]
    best = contenders.at(prices(other))
    return price * other, contenders.trial(best.recommended, best)


def _crossing(changed: Callable[[float], bool], last: float) -> tuple[float, float] | None:
    """Return the factors between which the recommendation first changes on the way to ``last``; None if it does not."""
    steps = math.ceil(abs(math.log(last)) / math.log(STEP))
    factors = [float(factor) for factor in np.geomspace(1.0, last, steps + 1)]
    first = next((place for place, factor in enumerate(factors) if place and changed(factor)), None)
    if first is None:
        return None
    same, other = factors[first - 1], factors[first]
    while abs(other / same - 1) > PRECISION:
        middle = math.sqrt(same * other)
        same, other = (same, middle) if changed(middle) else (middle, other)
    return same, other
