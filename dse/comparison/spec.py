"""A comparison as a person writes it: a base, the cases that differ from it, figures, and claims to check.

::

    name: batch-limit
    deployment: {pools: [{model: llama-3.1-8b, accelerator: h100-sxm}]}
    workload:
      requests: 1000
      arrivals: {process: poisson, rate_rps: 10}
      lengths: {statistics: azure-2023-conversation}
    cases:
      - {name: small, set: {deployment.pools.0.batching.max_batch_requests: 8}}
      - {name: large, set: {deployment.pools.0.batching.max_batch_requests: 256}}
    figures: [ttft_p90_s, output_tokens_per_s]
    expect:
      - claim: a small batch makes requests wait
        left: {case: small, figure: ttft_p90_s}
        relation: ">"
        right: {case: large, figure: ttft_p90_s, times: 2}

In the place of a case may stand a grid, whose cases are named after their labels, ``small/bf16``::

    cases:
      grid:
        batch:
          small: {deployment.pools.0.batching.max_batch_requests: 8}
          large: {deployment.pools.0.batching.max_batch_requests: 256}
        weights:
          bf16: {}
          fp8: {deployment.pools.0.weights: fp8}
"""

from __future__ import annotations

from functools import cached_property
from itertools import product
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from dse.changes import check_root, with_changes
from dse.comparison.figures import check_figure
from simulator import SLO, Deployment, SpecError, Workload
from simulator.errors import unknown_name
from simulator.spec.base import Spec

Relation = Literal["<", "<=", ">", ">="]

ROOTS: Final = ("deployment", "workload", "slos")
"""What the path of a change may start with."""

#: Most cases of a comparison.
MAX_CASES: Final = 10_000

Changes = Annotated[dict[str, Any], Field(description="value of each path, e.g. deployment.pools.0.clients: 4")]


def _check_paths(changes: dict[str, Any]) -> None:
    for path in changes:
        check_root(path, ROOTS, "deployment.pools.0.clients or workload.classes.*.share")


class Case(Spec):
    """One variation of the base."""

    name: str = Field(min_length=1, description="name of the case, unique in a comparison")
    set: Changes = Field(
        default_factory=dict, description="value of each path, e.g. deployment.pools.0.clients: 4; null: take it away"
    )

    @model_validator(mode="after")
    def _paths(self) -> Self:
        _check_paths(self.set)
        return self


class Grid(Spec):
    """Every combination of the labels of some axes; a case's name is its labels with ``/`` between."""

    grid: dict[str, Annotated[dict[str, Changes], Field(min_length=1)]] = Field(
        min_length=1, description="for each axis its labels, and for each label the value of each path"
    )
    set: Changes = Field(default_factory=dict, description="value of each path in all cases of the grid, set first")

    @model_validator(mode="after")
    def _paths(self) -> Self:
        for changes in (self.set, *(each for axis in self.grid.values() for each in axis.values())):
            _check_paths(changes)
        return self


def _kind(given: object) -> str:
    """Return which of the two an entry of ``cases`` is meant to be."""
    has_grid = "grid" in given if isinstance(given, dict) else isinstance(given, Grid)
    return "a grid" if has_grid else "a case"


Entry = Annotated[Annotated[Case, Tag("a case")] | Annotated[Grid, Tag("a grid")], Discriminator(_kind)]
"""A case, or a grid of cases."""


def _as_tuple(value: Any) -> Any:
    """Return cases as a tuple, also if only a grid is given."""
    return (value,) if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value


class Operand(Spec):
    """A side of a claim: a figure of a case, or a number."""

    case: str | None = Field(default=None, description="name of a case")
    figure: str | None = Field(default=None, description="figure of that case")
    value: float | None = Field(default=None, description="a number, instead of case and figure")
    times: float = Field(default=1.0, gt=0, description="factor that the figure is multiplied by")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        figure = self.case is not None and self.figure is not None and self.value is None
        number = self.case is None and self.figure is None and self.value is not None
        if not figure and not number:
            raise ValueError("give either case and figure, or value")
        return self


class Claim(Spec):
    """What is expected to come out."""

    claim: str = Field(min_length=1, description="the claim in words")
    left: Operand = Field(description="left side: a figure of a case")
    relation: Relation = Field(description="how left stands to right: <, <=, > or >=")
    right: Operand = Field(description="right side: a figure of a case, perhaps times a factor, or a value")
    differs: str | None = Field(
        default=None,
        min_length=1,
        description="why the claim, though published, is known not to come out; it is then no failure",
    )


class Promises(Spec):
    """The promises of a case."""

    slos: tuple[SLO, ...] = Field(default=(), description="promises for the figure sustained_rps")


class Variation(NamedTuple):
    """A case with all that is simulated.

    Attributes
    ----------
    name
        Of the case.
    labels
        For each axis of its grid, the label; empty for a case that stands alone.
    deployment, workload
        The base with the case's changes.
    slos
        Within which a rate must be sustained, with the case's changes.
    """

    name: str
    labels: dict[str, str]
    deployment: Deployment
    workload: Workload
    slos: tuple[SLO, ...] = ()


class Comparison(Spec):
    """A base, variations of it, and what is expected of them."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="short name")
    question: str = Field(default="", description="what the comparison is to answer")
    published: str = Field(default="", description="what was published, and where: paper, figure")
    deployment: dict[str, Any] = Field(description="deployment that cases vary")
    workload: dict[str, Any] = Field(description="workload that cases vary")
    slos: tuple[SLO, ...] = Field(
        default=(), description="promises for the figure sustained_rps; cases may vary them, e.g. slos.0.limit_s: 0.2"
    )
    cases: Annotated[tuple[Entry, ...], BeforeValidator(_as_tuple)] = Field(
        min_length=1, description="variations: a list of cases and grids, or one grid"
    )
    figures: tuple[str, ...] = Field(min_length=1, description="figures to show for each case")
    expect: tuple[Claim, ...] = Field(default=(), description="claims to check")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.figures)) < len(self.figures):
            raise ValueError(f"figures: must differ, given {', '.join(self.figures)}")
        for name in self.figures:
            check_figure(name, self.variations, "figures")
        by_name = {each.name: each for each in self.variations}
        for place, claim in enumerate(self.expect):
            for side in ("left", "right"):
                operand: Operand = getattr(claim, side)
                if operand.case is None or operand.figure is None:
                    continue
                where = f"expect.{place}.{side}"
                if operand.case not in by_name:
                    raise unknown_name(f"{where}.case", operand.case, by_name)
                check_figure(operand.figure, [by_name[operand.case]], f"{where}.figure")
        return self

    @cached_property
    def variations(self) -> tuple[Variation, ...]:
        """All cases in order, each with its deployment and workload.

        Raises
        ------
        SpecError
            Naming the case and field, if one is impossible or two have the same name.
        """
        named = [(name, labels, changes) for each in self.cases for name, labels, changes in _cases_of(each)]
        names = [name for name, _, _ in named]
        twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
        if twice is not None:
            raise SpecError(f"cases: names must differ, given {twice} twice")
        if len(names) > MAX_CASES:
            raise SpecError(f"cases: {len(names):,} cases; at most {MAX_CASES:,}")
        return tuple(self._variation(name, labels, changes) for name, labels, changes in named)

    def _variation(self, name: str, labels: dict[str, str], changes: list[dict[str, Any]]) -> Variation:
        slos = [slo.model_dump() for slo in self.slos]
        data = {"deployment": self.deployment, "workload": self.workload, "slos": slos}
        try:
            for each in changes:
                data = with_changes(data, each)
        except SpecError as error:
            raise SpecError(f"case {name}: {error}") from None
        deployment = Deployment.parse(data["deployment"], source=f"case {name}: deployment")
        workload = Workload.parse(data["workload"], source=f"case {name}: workload")
        promises = Promises.parse({"slos": data.get("slos", [])}, source=f"case {name}").slos
        return Variation(name, labels, deployment, workload, promises)

    @property
    def wanted_figures(self) -> tuple[str, ...]:
        """Figures to show, then those that only claims need."""
        claimed = (operand.figure for each in self.expect for operand in (each.left, each.right))
        return tuple(dict.fromkeys([*self.figures, *(name for name in claimed if name)]))


def _cases_of(each: Case | Grid) -> list[tuple[str, dict[str, str], list[dict[str, Any]]]]:
    """Return name, labels and changes of each case that an entry of ``cases`` stands for."""
    if isinstance(each, Case):
        return [(each.name, {}, [each.set])]
    found = []
    for labels in product(*each.grid.values()):
        chosen = dict(zip(each.grid, labels, strict=True))
        changes = [each.set, *(each.grid[axis][label] for axis, label in chosen.items())]
        found.append(("/".join(labels), chosen, changes))
    return found
