"""The answer of a family as tables of text: what the terminal, Markdown and the page show alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dse.family.answer import Answer, FrontDesign, ScenarioFront
from dse.pareto import evenly
from dse.words import figure, heading, label, quantity, short, spoken
from search_spaces import Design

ROWS = 12
"""Designs of a front that are shown; the files hold all."""

SEEN = frozenset({"accelerator", "clients", "tp", "pp", "dp", "ep", "weights", "layout", "mixed"})
"""Choices that the hardware of a design shows already, by the last part of their names."""

UNITS = ("_tokens", "_requests")
"""Units that the names of choices end with and that go without saying."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    title
        What it shows.
    head
        Headings.
    rows
        Cells, as many in each row as headings.
    numbers
        Places of the columns that hold numbers.
    marked
        Place of the recommended row; None if there is none.
    note
        What is true of all rows; may be empty.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int]
    marked: int | None = None
    note: str = ""


def members_table(answer: Answer) -> Table:
    """Return a row for each member: how much was tried, the best of each objective, the recommended design."""
    objectives = answer.family.objectives
    kinds = answer.family.label_kinds
    head = [*kinds, "simulated", "feasible", *(f"best {heading(name)}" for name in objectives), "recommended"]
    rows = []
    for found in answer.founds:
        labels = {"scenario": found.member.scenario, "alternative": found.member.alternative}
        best = found.result.recommended
        rows.append(
            (
                *(labels[kind] for kind in kinds),
                f"{len(found.result.simulated):,}",
                f"{len(found.result.feasible):,}",
                *(figure(name, found.best(name)) for name in objectives),
                short(found.result.deployment(best)) if best else "nothing keeps the promises",
            )
        )
    first = len(kinds)
    return Table("Members", tuple(head), tuple(rows), frozenset(range(first, first + 2 + len(objectives))))


def front_table(answer: Answer, front: ScenarioFront) -> Table:
    """Return a row for each design on the front of a scenario, at most ``ROWS``; the recommended one is marked."""
    objectives, several = answer.family.objectives, bool(answer.family.alternatives)
    knee = front.designs.index(front.recommended) if front.recommended else 0
    shown = [front.designs[place] for place in evenly(len(front.designs), ROWS, knee)]
    choices, same = _further_choices(shown)
    head = [*(("alternative",) if several else ()), "clients", *map(heading, objectives), "limited by"]
    rows = []
    for design, differs in zip(shown, choices, strict=True):
        values = zip(objectives, design.evaluation.objectives, strict=True)
        rows.append(
            (
                *((design.found.member.alternative,) if several else ()),
                short(design.deployment),
                *(figure(name, value) for name, value in values),
                design.evaluation.bottleneck,
                *((differs,) if any(choices) else ()),
            )
        )
    if any(choices):
        head.append("further choices")
    first = 1 + several
    title = "Pareto front" + (f" of {front.scenario}" if front.scenario else "")
    title += " over all alternatives" if several else ""
    marked = shown.index(front.recommended) if front.recommended else None
    note = f"the same in all: {same}" if same else ""
    return Table(title, tuple(head), tuple(rows), frozenset(range(first, first + len(objectives))), marked, note)


def _further_choices(shown: Sequence[FrontDesign]) -> tuple[list[str], str]:
    """Return in words, of the choices that the hardware does not show: each design's own, and those of all designs.

    A choice that is active in some designs only and the same in all of them tells nothing of either kind.
    """
    designs = [design.evaluation.design for design in shown]
    services = {stage for design in shown for stage in design.found.member.spec.space.services}

    def is_seen(name: str) -> bool:
        return name.rpartition(".")[2] in SEEN and name.partition(".")[0] not in services

    names = list(dict.fromkeys(name for design in designs for name in design if not is_seen(name)))
    values = {name: {design[name] for design in designs if name in design} for name in names}
    telling = [name for name in names if len(values[name]) > 1]
    same = [name for name in names if len(values[name]) == 1 and all(name in design for design in designs)]
    own = [", ".join(_choice(name, design) for name in telling if name in design) for design in designs]
    return own, ", ".join(_choice(name, designs[0]) for name in same if _is_open(name, shown))


def _is_open(name: str, shown: Sequence[FrontDesign]) -> bool:
    """Return whether a space had more than one value to choose from."""
    spaces = {id(design.found): design.found.member.spec.space.space for design in shown}
    return any(len(each.values) > 1 for space in spaces.values() for each in space.dimensions if each.name == name)


def _choice(name: str, design: Design) -> str:
    said = name.removeprefix("main.")
    for unit in UNITS:
        said = said.removesuffix(unit)
    return f"{spoken(said.replace('.', ' '))} {spoken(str(design[name]))}"


def nothing_feasible(front: ScenarioFront) -> str:
    """Return what is said of a scenario in which no design keeps the promises."""
    return f"{front.scenario or 'the study'}: no design that was simulated keeps every promise"


def recommendation(answer: Answer, front: ScenarioFront) -> str:
    """Return the recommendation for a scenario in a sentence, with what it reaches of each objective."""
    best = front.recommended
    if best is None:
        return nothing_feasible(front)
    where = f"{front.scenario}: " if front.scenario else ""
    which = f"{best.found.member.alternative}, " if best.found.member.alternative else ""
    said = ", ".join(
        f"{label(name)} {quantity(name, value)}"
        for name, value in zip(answer.family.objectives, best.evaluation.objectives, strict=True)
    )
    return f"{where}{which}{short(best.deployment)} ({said})"
