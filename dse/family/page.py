"""The answer of a family as a page of its own, which leads to the reports of its members."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from typing import Any

from dse import words
from dse.family.answer import Answer, Found, FrontDesign, ScenarioFront
from dse.family.tables import Table, front_table, members_table, nothing_feasible, recommendation
from dse.library import family_names, load_family
from dse.report.document import Section, document, facts, plot, version_of
from dse.report.figures import PALETTE, TEMPLATE, rounded
from dse.report.page import KICKER
from dse.report.tables import Cell, table, text

HEIGHT = 460
"""Of a figure, pixels."""


def render_family(answer: Answer, runs: str = "") -> str:
    """Return the answer as one self-contained HTML document.

    Parameters
    ----------
    answer
        What the studies of a family found. Their reports are linked where ``dse run`` puts them.
    runs
        The way from the page to the folder of the family's run, as in an address: with ``/`` at its end, or empty.

    Returns
    -------
    str
        HTML, to be written to a file as UTF-8.
    """
    payload: dict[str, Any] = {"shared": {"template": TEMPLATE}, "figures": {}}
    family = answer.family
    sections = [
        ("answer", "In short", _short(answer)),
        ("members", "Members", _members(answer, runs)),
        *(_front(answer, place, front, payload) for place, front in enumerate(answer.fronts)),
        ("reproduce", "Reproduce", _reproduce(answer)),
    ]
    models = dict.fromkeys(name for found in answer.founds for name in found.member.spec.models.values())
    kinds = {"scenarios": family.scenarios, "alternatives": family.alternatives}
    about = facts(
        [
            ("Model", ", ".join(models)),
            *((title.capitalize(), ", ".join(labels)) for title, labels in kinds.items() if labels),
            ("Objectives", ", ".join(words.label(name) for name in family.objectives)),
            ("Promises", _promises(answer.founds) or "not the same in all members"),
            *([("Changed on the command line", answer.command_options)] if answer.options else []),
        ]
    )
    return document(
        title=f"{family.name}: design-space exploration",
        kicker=KICKER,
        name=family.name,
        lede=family.question,
        about=about,
        sections=sections,
        payload=payload,
    )


def _promises(founds: Sequence[Found]) -> str:
    """Return the SLOs of some members in words; empty if they are not the same in all."""
    given = {found.member.spec.slos for found in founds}
    return ("; ".join(map(words.slo_words, given.pop())) or "none") if len(given) == 1 else ""


def _short(answer: Answer) -> str:
    """Return the HTML of the recommendation of each scenario."""
    said = "".join(f"<li>{escape(recommendation(answer, front))}</li>" for front in answer.fronts)
    note = (
        "Recommended is the knee of each front: nearest to the best of every objective in units of the front's range."
    )
    return f'<h2>In short</h2><ul>{said}</ul><p class="note">{note}</p>'


def _members(answer: Answer, runs: str) -> str:
    """Return the HTML of a row for each member, with the way to its report."""
    shown = members_table(answer)
    links = [f"{runs}{found.member.label}/report.html" for found in answer.founds]
    rows = [[*_cells(shown, place), Cell(f'<a href="{escape(link)}">report</a>')] for place, link in enumerate(links)]
    return f"<h2>Members</h2>{table(shown.title, (*shown.head, 'In full'), rows, quiet=True)}"


def _cells(shown: Table, place: int) -> list[Cell]:
    return [text(cell, "number" if at in shown.numbers else "") for at, cell in enumerate(shown.rows[place])]


def _front(answer: Answer, place: int, front: ScenarioFront, payload: dict[str, Any]) -> Section:
    """Return the card of a scenario: its front drawn and as a table."""
    own = [found for found in answer.founds if found.member.scenario == front.scenario]
    # Where the head of the page says the promises of all members, they need not be said again.
    promised = "" if _promises(answer.founds) else _promises(own)
    about_it = f'<p class="note">{escape(f"Promised: {promised}.")}</p>' if promised else ""
    key = f"front-{place}"
    title = f"Front{f' of {front.scenario}' if front.scenario else ''}"
    if front.recommended is None:
        return key, title, f"<h2>{escape(title)}</h2>{about_it}<p>{escape(nothing_feasible(front))}.</p>"
    shown = front_table(answer, front)
    rows = [_cells(shown, row) for row in range(len(shown.rows))]
    if shown.marked is not None:
        best = rows[shown.marked][0]
        rows[shown.marked][0] = Cell(f'{best.html} <span class="badge">recommended</span>')
    note = f'<p class="note">{escape(shown.note)}</p>' if shown.note else ""
    drawn = ""
    if len(answer.family.objectives) > 1:
        payload["figures"][key] = _figure(answer, front)
        about = f"{title}: the front of each member by the first two objectives; the table holds the values"
        drawn = plot(key, about, "Star: recommended. Lines: the front of each member alone.", height=HEIGHT)
    return (
        key,
        title,
        f"<h2>{escape(title)}</h2>{about_it}{drawn}{table(shown.title, shown.head, rows, quiet=True)}{note}",
    )


def _figure(answer: Answer, front: ScenarioFront) -> dict[str, Any]:
    """Return the fronts of a scenario's members by the first two objectives, and the recommended design."""
    traces = []
    for place, found in enumerate(each for each in answer.founds if each.member.scenario == front.scenario):
        designs = [FrontDesign(found, evaluation) for evaluation in found.result.front]
        colour = PALETTE[place % len(PALETTE)]
        line = {"shape": "hv", "width": 1.5, "color": colour, "dash": "dot"}
        name = escape(found.member.alternative or "front")
        # With more objectives a front is no line.
        mode = "lines+markers" if len(answer.family.objectives) == 2 else "markers"
        traces.append(
            {**_points(designs), "mode": mode, "name": name, "line": line, "marker": {"color": colour, "size": 9}}
        )
    assert front.recommended
    star = {"symbol": "star", "size": 19, "color": "--star", "line": {"width": 1.2, "color": "--ink"}}
    traces.append({**_points([front.recommended]), "mode": "markers", "name": "recommended", "marker": star})
    axes = {
        f"{axis}axis": {"title": {"text": escape(words.axis_title(name))}, "rangemode": "normal"}
        for axis, name in zip("xy", answer.family.objectives, strict=False)
    }
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    layout = {"template": {"$": "template"}, "height": HEIGHT, **axes, "legend": legend}
    return {"data": traces, "layout": layout | {"margin": {"l": 60, "r": 34, "t": 40, "b": 52}}}


def _points(designs: Sequence[FrontDesign]) -> dict[str, Any]:
    """Return a trace of designs by the first two objectives."""
    return {
        "type": "scatter",
        "x": rounded(design.evaluation.objectives[0] for design in designs),
        "y": rounded(design.evaluation.objectives[1] for design in designs),
        "hovertext": [_hover(design) for design in designs],
        "hoverinfo": "text",
    }


def _hover(design: FrontDesign) -> str:
    """Return a design with its objectives, for the box at the pointer."""
    values = zip(design.found.member.spec.objectives, design.evaluation.objectives, strict=True)
    lines = [f"{words.label(name)}: {words.quantity(name, value)}" for name, value in values]
    return "<br>".join([f"<b>{escape(words.short(design.deployment))}</b>", *map(escape, lines)])


def _reproduce(answer: Answer) -> str:
    """Return the HTML of how to run the family again."""
    family = answer.family
    shipped = family.name in family_names() and load_family(family.name) == family
    source = family.name if shipped else f"{family.name}.yaml"
    how = "The studies come with dse-llm." if shipped else f"Save the studies below as {source} first."
    command = shlex.join(["dse", "run", source, *answer.options])
    commands = f"# with dse-llm {version_of('dse-llm')}\n{command}"
    studies = f"The studies as YAML{', without what the command line changed' if answer.options else ''}"
    return (
        f"<h2>Reproduce</h2><p>{escape(how)} The same seed and versions give the same designs, on any number of "
        f"processes.</p><pre><code>{escape(commands)}</code></pre>"
        f"<details><summary>{studies}</summary><pre><code>{escape(family.to_yaml())}</code></pre></details>"
    )
