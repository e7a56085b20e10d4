"""Why one design is better than another: what each choice that differs contributes to every difference.

Of two designs A and B, change the differing choices one at a time from A's value to B's, and simulate every design on
the way. What a measure gains in a step is the effect of the choice that changed *there*: it depends on what was changed
before. So effects are averaged over all orders. That is the Shapley value (Shapley, "A Value for n-Person Games",
1953): the only rule by which effects add up to the whole difference, choices without any influence get nothing, and
choices with the same influence get the same.

Orders through designs that cannot be simulated (memory, contradictions, overload, rejected requests) are not walked.
Where no order is free of them, the choices around such a design change together, in as many steps as possible, and
share the effect of a common step equally; ``alone`` says in which share of the steps a choice changed alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dse.evaluation import Evaluation, evaluate, precheck
from dse.result import StudyResult
from dse.spec import Limits, StudySpec
from dse.understanding.resources import resources
from search_spaces import Design
from search_spaces.dimension import Value
from simulator import SpecError

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Measure = Callable[[int], "Floats | None"]
"""Values of the measures where the choices of a bit mask are B's, shape (measures,); None if there is no simulation."""

EXACT = 7
"""Differing choices up to which all orders are walked: at most 2**7 designs."""
ORDERS = 16
"""Random orders beyond that; each is walked backwards too."""


@dataclass(frozen=True, eq=False)
class Difference:
    """What distinguishes two designs, and what each choice contributes.

    Attributes
    ----------
    first, second
        The designs, A and B.
    choices
        By dimension: values ``first`` and ``second``, None where a design has no such choice.
    measures
        By objective and SLO (value reached, seconds): ``first``, ``second``, ``change`` (second less first).
    effects
        By choice that both designs make differently, a column for each measure: what it contributes to ``change``, in
        the measure's unit; the columns add up to ``change``. And ``alone``, the share of the steps in which it
        changed alone. What only one design chooses (pools of another layout) is part of the choice that decides so.
    resources
        By design (``first``, ``second``) and pool, see :func:`dse.understanding.resources`.
    simulated, impossible
        Designs between the two that were simulated (found among the trials included), and that could not be.
    exact
        Whether all orders were walked, and not a sample.
    """

    first: Evaluation
    second: Evaluation
    choices: pd.DataFrame
    measures: pd.DataFrame
    effects: pd.DataFrame
    resources: pd.DataFrame
    simulated: int
    impossible: int
    exact: bool


def measured(spec: StudySpec, evaluation: Evaluation) -> dict[str, float]:
    """Return a design's objectives and the values that its SLOs hold against their limits, by name."""
    found = dict(zip(spec.objectives, evaluation.objectives, strict=True))
    for slo in spec.slos:
        found.setdefault(slo.name, (1 + evaluation.figures[f"{slo.name}_excess"]) * slo.limit_s)
    return found


class Between:
    """The designs between two: each is the first one with some of the second one's choices."""

    def __init__(self, result: StudyResult, first: Evaluation, second: Evaluation) -> None:
        self.result, self.first, self.second = result, first, second
        space = result.spec.space.space
        self.defaults = {dimension.name: next(iter(dimension.values)) for dimension in space.dimensions}
        a, b = first.design, second.design
        self.players = [name for name in self.defaults if name in a and name in b and a[name] != b[name]]
        self.known = {e.design: e for e in result.evaluations if e.simulated}
        # Limits of what a design may use are no obstacle here: it need not be allowed to be informative.
        self.spec = result.spec.model_copy(update={"limits": Limits()})
        self.space = space
        self.simulated = self.impossible = 0
        self._values: dict[int, Floats | None] = {}

    def design(self, mask: int) -> Design:
        """Return the design in which the players of a bit mask have the second one's values."""
        # What neither has is active only in between: then it has the first value allowed.
        values: dict[str, Value] = {**self.defaults, **self.second.design, **self.first.design}
        values |= {name: self.second.design[name] for bit, name in enumerate(self.players) if mask >> bit & 1}
        return self.space.design(values)

    def __call__(self, mask: int) -> Floats | None:
        """Return the measures of a design between, None if it cannot be simulated; kept once known."""
        if mask not in self._values:
            self._values[mask] = self._measure(mask)
        return self._values[mask]

    def _measure(self, mask: int) -> Floats | None:
        try:
            design = self.design(mask)
        except SpecError:
            self.impossible += 1
            return None
        known = self.known.get(design) or precheck(design, self.spec)
        evaluation = known or evaluate(design, self.spec, self.result.load)
        values = None
        if evaluation.simulated:
            values = np.array(list(measured(self.spec, evaluation).values()))
            values = values if np.isfinite(values).all() else None
        if 0 < mask < (1 << len(self.players)) - 1:
            self.simulated += values is not None
            self.impossible += values is None
        return values


def shapley(players: int, measure: Measure) -> tuple[Floats, Floats]:
    """Return what each player contributes to the change from no player to all, averaged over all orders.

    Parameters
    ----------
    players
        Number of them.
    measure
        Values of a set of players, a bit mask; None where the set is impossible. The empty and the full set are not.

    Returns
    -------
    effects : ndarray, shape (players, measures)
        Columns add up to ``measure(all) - measure(none)``.
    alone : ndarray, shape (players,)
        Share of the orders in which the player moved alone.

    Notes
    -----
    An order is a chain of possible sets, each larger than the one before. Chains with the most steps count, each the
    same; if all sets are possible they are the n! orders of Shapley's value. What a step of several players changes is
    divided among them equally.
    """
    full = (1 << players) - 1
    values = {mask: found for mask in range(full + 1) if (found := measure(mask)) is not None}
    masks = sorted(values, key=int.bit_count)
    up = {0: (0, 1)}  # longest chain from no player to this set, and how many are so long
    for mask in masks[1:]:
        up[mask] = _longest([up[below] for below in masks if below in up and below != mask and below & mask == below])
    down = {full: (0, 1)}
    for mask in masks[-2::-1]:
        above = [down[larger] for larger in masks if larger in down and larger != mask and larger & mask == mask]
        down[mask] = _longest(above)
    length, chains = up[full]
    effects, alone = np.zeros((players, len(values[0]))), np.zeros(players)
    for low in masks:
        for high in masks:
            if low == high or low & high != low or up[low][0] + 1 + down[high][0] != length:
                continue
            weight = up[low][1] * down[high][1] / chains
            moved = [player for player in range(players) if (high ^ low) >> player & 1]
            effects[moved] += weight * (values[high] - values[low]) / len(moved)
            alone[moved] += weight * (len(moved) == 1)
    return effects, alone


def _longest(chains: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return length and number of the longest chains that go on from some by one step."""
    steps = max(length for length, _ in chains)
    return steps + 1, sum(count for length, count in chains if length == steps)


def sampled_shapley(players: int, measure: Measure, orders: int = ORDERS, seed: int = 0) -> tuple[Floats, Floats]:
    """Return what each player contributes, averaged over random orders and their reverses; see :func:`shapley`.

    Sets that are impossible are passed over: the players around them move together.
    """
    full = (1 << players) - 1
    source = random.Random(seed)
    start, end = measure(0), measure(full)
    assert start is not None
    assert end is not None
    effects, alone = np.zeros((players, len(start))), np.zeros(players)
    for _ in range(orders):
        order = list(range(players))
        source.shuffle(order)
        for way in (order, order[::-1]):
            mask, before, moved = 0, start, list[int]()
            for player in way:
                mask |= 1 << player
                moved.append(player)
                here = measure(mask)
                if here is None:
                    continue
                effects[moved] += (here - before) / len(moved)
                alone[moved] += len(moved) == 1
                before, moved = here, []
    return effects / (2 * orders), alone / (2 * orders)


def difference(result: StudyResult, first: Evaluation, second: Evaluation) -> Difference:
    """Return what distinguishes two designs and what each choice contributes; simulates the designs between them.

    With n differing choices these are at most 2**n − 2 for n up to 7, and at most 32 (n − 1) beyond, where orders are
    drawn at random with a fixed seed. What is known from the trials is not simulated again.

    Parameters
    ----------
    result
        The study they are from.
    first, second
        Two simulated designs.

    Raises
    ------
    SpecError
        If they are the same, or one has no finite value of a measure (it rejected requests).
    """
    import pandas as pd

    if first.design == second.design:
        raise SpecError("both are the same design: nothing to explain")
    between = Between(result, first, second)
    measures = [measured(result.spec, e) for e in (first, second)]
    for number, each in zip(("first", "second"), measures, strict=True):
        lost = [name for name, value in each.items() if not math.isfinite(value)]
        if lost:
            raise SpecError(f"the {number} design has no finite {lost[0]}: there is no difference to explain")
    names, players = list(measures[0]), between.players
    exact = len(players) <= EXACT
    if players:
        effects, alone = (shapley if exact else sampled_shapley)(len(players), between)
    else:
        effects, alone = np.zeros((0, len(names))), np.zeros(0)
    table = pd.DataFrame(effects, columns=names, index=pd.Index(players, name="choice"))
    table["alone"] = alone
    compared = pd.DataFrame({"first": measures[0], "second": measures[1]}).rename_axis("measure")
    compared["change"] = compared["second"] - compared["first"]
    return Difference(
        first=first,
        second=second,
        choices=_choices(between),
        measures=compared,
        effects=table,
        resources=pd.concat(
            {who: resources(result.simulate(e)) for who, e in (("first", first), ("second", second))}, names=["design"]
        ),
        simulated=between.simulated,
        impossible=between.impossible,
        exact=exact,
    )


def _choices(between: Between) -> pd.DataFrame:
    import pandas as pd

    a, b = between.first.design, between.second.design
    differing = [name for name in between.defaults if a.get(name) != b.get(name)]
    index = pd.Index(differing, name="choice")
    sides = {who: pd.Series([d.get(n) for n in differing], index, object) for who, d in (("first", a), ("second", b))}
    return pd.DataFrame(sides)


def order_of(effects: pd.DataFrame, measure: str) -> Sequence[str]:
    """Return the choices by the size of what they contribute to a measure, the largest first."""
    return list(effects[measure].abs().sort_values(ascending=False, kind="stable").index)
