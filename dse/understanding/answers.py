"""What ``dse why`` answers: what was asked, the tables it leads to, and both as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dse.evaluation import Evaluation
from dse.repricing import Prices
from dse.result import StudyResult
from dse.understanding.binding import binding
from dse.understanding.difference import Difference, difference
from dse.understanding.importance import importance
from dse.understanding.picks import ends, find, need_front, role, trial_of, weighted_pick
from dse.understanding.prices import break_even, price_sensitivity, repriced
from dse.understanding.rates import FirstFailure, first_failure, need_rate, rate_of, rate_sensitivity
from dse.understanding.slices import pair_slices, slices
from dse.words import label
from simulator import SpecError, catalog

if TYPE_CHECKING:
    import pandas as pd

ELECTRICITY = "electricity"


@dataclass(frozen=True)
class Asked:
    """Questions as a person writes them.

    Attributes
    ----------
    weights
        ``objective=weight``, with commas.
    trials
        Two designs to compare, as :func:`dse.understanding.find` knows them.
    slices
        Dimensions; two with a comma are a pair.
    prices
        ``device=change``: a percentage with its sign, or USD per hour; of ``electricity`` USD per kWh.
    rates
        Changes of the rate: percentages with their signs, or requests per second.
    """

    weights: str | None = None
    trials: tuple[str, str] | None = None
    slices: tuple[str, ...] = ()
    prices: tuple[str, ...] = ()
    rates: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether something particular is asked; else the summary is."""
        return bool(self.weights is not None or self.trials or self.slices or self.prices or self.rates)


@dataclass(frozen=True, eq=False)
class Summary:
    """What every study can be asked; why there is no first failure, if there is none."""

    picks: dict[str, Evaluation]
    binding: pd.DataFrame
    importance: pd.DataFrame
    break_even: pd.DataFrame
    sensitivity: pd.DataFrame
    failure: FirstFailure | None
    no_failure: str


@dataclass(frozen=True, eq=False)
class Slice:
    """A slice by one dimension, or of one objective by a pair of them."""

    title: str
    dimensions: tuple[str, ...]
    objective: str | None
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to what was asked; the rest is None or empty."""

    result: StudyResult
    summary: Summary | None = None
    weighted: Evaluation | None = None
    difference: Difference | None = None
    slices: tuple[Slice, ...] = ()
    repriced: StudyResult | None = None
    rates: pd.DataFrame | None = None


def summarise(result: StudyResult) -> Summary:
    """Return what every study with a front can be asked; simulates about a dozen times, for the rate."""
    need_front(result)
    assert result.recommended
    failure, no_failure = None, ""
    try:
        failure = first_failure(result, result.recommended)
    except SpecError as error:
        no_failure = str(error)
    return Summary(
        picks={role(name): e for name, e in ends(result).items()},
        binding=binding(result),
        importance=importance(result),
        break_even=break_even(result),
        sensitivity=price_sensitivity(result),
        failure=failure,
        no_failure=no_failure,
    )


def answer(result: StudyResult, asked: Asked, *, summary: bool) -> Answers:
    """Return the answers to what is asked, and the summary if wanted.

    Raises
    ------
    SpecError
        If a question cannot be understood, or has no answer in this study.
    """
    weights = None if asked.weights is None else read_weights(asked.weights)
    prices = read_prices(asked.prices) if asked.prices else None
    if asked.rates:
        need_rate(result)
    factors = [read_change(text, rate_of(result), "--rate") / rate_of(result) for text in asked.rates]
    pair = None if asked.trials is None else (find(result, asked.trials[0]), find(result, asked.trials[1]))
    return Answers(
        result=result,
        weighted=None if weights is None else weighted_pick(result, weights),
        slices=tuple(each for text in asked.slices for each in sliced(result, text)),
        repriced=None if prices is None else repriced(result, prices),
        difference=None if pair is None else difference(result, *pair),
        rates=rate_sensitivity(result, factors) if factors else None,
        summary=summarise(result) if summary else None,
    )


def sliced(result: StudyResult, text: str) -> list[Slice]:
    """Return the slice by a dimension, or the best of each objective by a pair of them."""
    first, comma, second = (part.strip() for part in text.partition(","))
    if not comma:
        return [Slice(f"By {first}", (first,), None, slices(result, first))]
    pair = first, second
    return [
        Slice(f"Best {label(name)} by {first} and {second}", pair, name, pair_slices(result, *pair, name))
        for name in result.spec.objectives
    ]


def read_weights(text: str) -> dict[str, float]:
    """Return weights by objective from ``objective=weight``, with commas."""
    weights = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        weights[name.strip()] = _number(value, "--weights", part, "objective=weight") if equals else math.nan
        if not equals:
            raise SpecError(f"--weights: given {part.strip()!r}; allowed: objective=weight, with commas")
    return weights


def read_prices(texts: tuple[str, ...]) -> Prices:
    """Return prices from ``device=change``; names of hypothetical accelerators hold both signs themselves."""
    changed: dict[str, float] = {}
    electricity = 0.0
    for text in (part for whole in texts for part in catalog.split_names(whole)):
        name, equals, value = (part.strip() for part in text.rpartition("="))
        if not equals or ")" in value:
            raise SpecError(f"--prices: given {text!r}; allowed: h100-sxm=-20%, h100-sxm=2.5 or {ELECTRICITY}=0.12")
        if name == ELECTRICITY:
            electricity = _number(value, "--prices", text, f"{ELECTRICITY}=USD_per_kWh")
        else:
            changed[name] = read_change(value, catalog.device(name).price_usd_per_hour, f"--prices: {name}")
    return Prices(changed, electricity)


def read_change(text: str, today: float, where: str) -> float:
    """Return a value from a percentage with its sign (``-20%``) of today's, or as it is."""
    stripped = text.strip()
    if stripped.endswith("%"):
        if stripped[:1] not in "+-":
            raise SpecError(f"{where}: given {text!r}; a percentage needs its sign: +{stripped} or -{stripped}")
        value = today * (1 + _number(stripped[:-1], where, text, "-20%") / 100)
    else:
        value = _number(stripped, where, text, "-20%, +10% or a number")
    if value <= 0:
        raise SpecError(f"{where}: given {text!r}; nothing would be left")
    return value


def _number(text: str, where: str, given: str, allowed: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SpecError(f"{where}: given {given.strip()!r}; allowed: {allowed}")
    return value


def to_json(answers: Answers) -> dict[str, Any]:
    """Return answers as plain data; what is not finite is null."""
    result, found = answers.result, dict[str, Any]()
    found["study"] = result.spec.name
    found["recommended"] = _design(result, result.recommended)
    if summary := answers.summary:
        found["picks"] = {name: _design(result, e) for name, e in summary.picks.items()}
        found["binding"] = _records(summary.binding)
        found["importance"] = _records(summary.importance)
        found["break_even"] = _records(summary.break_even)
        found["price_sensitivity"] = _records(summary.sensitivity)
        failure = summary.failure
        found["first_failure"] = failure and {name: _plain(value) for name, value in vars(failure).items()}
    if answers.weighted:
        found["weighted"] = _design(result, answers.weighted)
    if answers.slices:
        found["slices"] = {each.title: _records(each.table) for each in answers.slices}
    if answers.repriced is not None:
        found["repriced"] = {
            "recommended": _design(answers.repriced, answers.repriced.recommended),
            "front": [_design(answers.repriced, e) for e in answers.repriced.front],
        }
    if answers.rates is not None:
        found["rates"] = _records(answers.rates)
    if each := answers.difference:
        found["difference"] = {
            "trials": [trial_of(result, each.first), trial_of(result, each.second)],
            **{name: _records(getattr(each, name)) for name in ("choices", "measures", "effects", "resources")},
            **{name: getattr(each, name) for name in ("simulated", "impossible", "exact")},
        }
    return found


def _design(result: StudyResult, evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    return {
        "trial": trial_of(result, evaluation),
        "design": dict(evaluation.design),
        "objectives": dict(zip(result.spec.objectives, map(_plain, evaluation.objectives), strict=True)),
        "bottleneck": evaluation.bottleneck,
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    frame = table.reset_index()
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it."""
    import pandas as pd

    if value is None or value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
