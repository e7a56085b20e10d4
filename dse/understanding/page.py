"""The page of ``dse why``: one HTML document with tables and figures."""

from __future__ import annotations

from html import escape
from typing import Any

from dse import words
from dse.evaluation import Evaluation
from dse.report.document import Section, document, facts, plot, version_of
from dse.report.figures import TEMPLATE, Json
from dse.report.tables import Cell, count, share, table, text
from dse.report.tables import figure as metric_cell
from dse.result import StudyResult, compare
from dse.understanding import figures, sentences
from dse.understanding.answers import Answers, Slice, Summary, sliced
from dse.understanding.difference import Difference
from dse.understanding.importance import FRONT
from dse.understanding.picks import trial_of
from dse.understanding.resources import SHARES


def render_answers(answers: Answers, source: str = "") -> str:
    """Return answers as one self-contained HTML document; the same ones give the same text.

    Parameters
    ----------
    answers
        With their summary.
    source
        Folder of the run.
    """
    result, summary = answers.result, answers.summary
    assert summary
    payload: Json = {"shared": {"template": TEMPLATE}, "figures": {}}
    sections: list[Section] = [("bounds", "Bounds", _bounds(result, summary))]
    if answers.weighted:
        sections.append(("weights", "Weights", _weighted(result, answers.weighted)))
    if answers.difference:
        sections.append(("difference", "Difference", _difference(result, answers.difference, payload)))
    sections.append(("importance", "Importance", _importance(summary, payload)))
    sections.append(("slices", "Slices", _slices(result, answers, payload)))
    sections.append(("prices", "Prices", _prices(answers, summary)))
    sections.append(("rate", "Rate", _rate(answers, summary)))
    about = facts(
        [
            ("Run", source or result.spec.name),
            ("Workload", words.workload_words(result.spec.workload, result.requests)),
            ("Designs", f"{len(result.simulated):,} simulated, {len(result.feasible):,} feasible"),
            ("Version", f"dse-llm {version_of('dse-llm')}"),
        ]
    )
    return document(
        title=f"{result.spec.name}: why",
        kicker="Design-space exploration of LLM inference",
        name=f"{result.spec.name}: why these designs",
        lede=result.spec.question,
        about=about,
        sections=sections,
        payload=payload,
    )


def _note(said: str) -> str:
    return f'<p class="note">{escape(said)}</p>'


def _lines(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _bounds(result: StudyResult, summary: Summary) -> str:
    best = result.recommended
    assert best
    bounds = sentences.bounds_of(summary.binding)
    own = bounds[trial_of(result, best)]
    roles = {id(e): name for name, e in summary.picks.items()} | {id(best): "recommended"}
    rows = []
    for e in result.front:
        trial = trial_of(result, e)
        row = bounds[trial]
        said = f"trial {trial}{', ' if id(e) in roles else ''}{roles.get(id(e), '')}"
        pairs = zip(result.spec.objectives, e.objectives, strict=True)
        rows.append(
            [
                Cell(
                    f"<b>{escape(said)}</b><small>{escape(words.short(result.deployment(e)))}</small>", trial, "design"
                ),
                *(metric_cell(name, value) for name, value in pairs),
                text(words.label(row["slo"]) if row["slo"] else "–"),
                share(row["slack"]),
                text(e.bottleneck),
                text(sentences.relaxed(row), "long"),
            ]
        )
    objectives = [words.label(name) for name in result.spec.objectives]
    head = ["Design", *(name[0].upper() + name[1:] for name in objectives), "Tightest SLO", "Slack", "Limited by"]
    return (
        "<h2>What bounds the front</h2>"
        f"<p>{escape(f'The recommended design is {sentences.named(result, best)}: {sentences.bound(own)}.')}</p>"
        + table("The front", [*head, "Would help"], rows, sortable=True, tall=True)
    )


def _weighted(result: StudyResult, pick: Evaluation) -> str:
    best = result.recommended
    assert best
    said = f"{sentences.named(result, pick)}: {sentences.objectives(result, pick)}"
    rest = "It is the recommended design." if pick is best else f"Against it: {compare(result.spec, pick, best)}."
    return f"<h2>By the weights asked for</h2><p>{escape(said)}</p>{_note(rest)}"


def _importance(summary: Summary, payload: Json) -> str:
    found = summary.importance
    if found.empty:
        return "<h2>Which choices matter</h2><p>Too few designs to tell.</p>"
    payload["figures"]["importance"] = figures.importance(found)
    shown = plot(
        "importance",
        "Importance of every choice; the table holds the values",
        "How differently a choice is made among the best designs than among all, above what chance gives.",
        height=payload["figures"]["importance"]["layout"]["height"],
    )
    rows = [
        [
            text(row["dimension"]),
            text(sentences.question(row["question"]), "long"),
            share(row["importance"]),
            text(str(row["favoured"]) if row["favoured"] is not None else "–"),
            share(row["share_of_best"]),
            share(row["share_of_all"]),
            share(row["p_value"]),
        ]
        for row in sentences.rows_of(found[found["importance"] > 0])
    ]
    head = ("Choice", "Matters", "Importance", "Favours", "Of the best", "Of all", "As much by chance")
    return f"<h2>Which choices matter</h2>{shown}{table('Importance', head, rows, sortable=True, tall=True)}"


def _slices(result: StudyResult, answers: Answers, payload: Json) -> str:
    shown = list(answers.slices)
    if not shown and answers.summary and FRONT in answers.summary.importance.index.get_level_values("question"):
        leading = list(answers.summary.importance.loc[FRONT].index[: sentences.LEADING])
        shown = [each for name in leading for each in sliced(result, str(name))]
    body = "<h2>What designs reach by a choice</h2>"
    body += _note("Among feasible designs; all other choices vary freely within a value.")
    for place, each in enumerate(shown):
        body += f"<h3>{escape(each.title)}</h3>"
        if each.objective:
            body += _plotted(f"pair-{place}", figures.by_pair(each), each.title, payload)
            continue
        for name in result.spec.objectives:
            said = f"{each.title}: {words.label(name)}; the table holds the values"
            body += _plotted(f"slice-{place}-{name}", figures.by_value(each, name), said, payload)
        body += _slice_table(each, result)
    return body


def _plotted(key: str, figure: Json, said: str, payload: Json) -> str:
    payload["figures"][key] = figure
    return plot(key, said, height=figure["layout"]["height"])


def _slice_table(each: Slice, result: StudyResult) -> str:
    rows = [
        [
            text(str(value)),
            count(row["simulated"]),
            count(row["feasible"]),
            *(metric_cell(n, row[f"{n}_{kind}"]) for n in result.spec.objectives for kind in ("best", "median")),
        ]
        for value, row in each.table.iterrows()
    ]
    head = [each.dimensions[0], "Simulated", "Feasible"]
    head += [f"{kind} {words.label(name)}" for name in result.spec.objectives for kind in ("Best", "Median")]
    return table(each.title, head, rows, quiet=True)


def _prices(answers: Answers, summary: Summary) -> str:
    result = answers.result
    body = "<h2>Prices</h2>" + _lines(sentences.prices(result, summary.break_even))
    body += _note(
        "Recomputed from the designs that were simulated: what was not searched at today's prices is not found."
    )
    changed = answers.repriced
    if changed is not None:
        best, said = changed.recommended, "nothing, as nothing is feasible"
        if best:
            said = f"{sentences.named(changed, best)}: {sentences.objectives(changed, best)}"
        body += f"<p><b>At the prices asked for, recommended:</b> {escape(said)}</p>"
    rows = []
    for row in sentences.rows_of(summary.sensitivity):
        pairs = ((name, float(row[name])) for name in result.spec.objectives)
        rows.append(
            [
                text(row["device"]),
                text(sentences.changed_by(row["factor"], 1.0)),
                metric_cell("usd_per_hour", row["device_usd_per_hour"]),
                count(row["front"]),
                count(row["joined"]),
                count(row["left"]),
                text(_recommended(row)),
                *(metric_cell(name, value) for name, value in pairs),
            ]
        )
    head = ["Device", "Change", "Price per hour", "Front", "Joined", "Left", "Recommended"]
    head += [words.label(name) for name in result.spec.objectives]
    return body + table("Front and recommendation at other prices", head, rows, sortable=True, tall=True)


def _recommended(row: dict[str, Any]) -> str:
    import pandas as pd

    if pd.isna(row["recommended"]):
        return "nothing feasible"
    return f"trial {row['recommended']}{', another' if row['changed'] else ''}"


def _rate(answers: Answers, summary: Summary) -> str:
    result = answers.result
    known = summary.failure
    said = f"The recommended design {sentences.failure(known)}" if known else f"Not known: {summary.no_failure}"
    body = f"<h2>Rate</h2><p>{escape(said)}.</p>"
    if answers.rates is None:
        return body
    rows = [
        [
            text(f"trial {row['trial']}"),
            count(row["rate_rps"]),
            text(_kept(row), "good" if row["feasible"] else "bad"),
            text(sentences.broken(row["broken"]) or "–"),
            share(row["least_slack"]),
            *(metric_cell(name, float(row[name])) for name in result.spec.objectives),
        ]
        for row in sentences.rows_of(answers.rates)
    ]
    head = ["Design", "Requests per second", "SLOs", "Broken", "Least slack"]
    head += [words.label(name) for name in result.spec.objectives]
    return body + table("The front at other rates", head, rows, sortable=True, tall=True)


def _kept(row: dict[str, Any]) -> str:
    if not row["feasible"]:
        return "broken"
    return "hard ones kept" if row["least_slack"] < 0 else "kept"


def _difference(result: StudyResult, found: Difference, payload: Json) -> str:
    body = f"<h2>Why one is better</h2><p>{escape(sentences.trade(result, found))}.</p>"
    body += _lines([f"{who}: {sentences.named(result, e)}" for who, e in _both(found)])
    for place, name in enumerate(map(str, found.measures.index)):
        body += f"<h3>{escape(words.label(name))}</h3><p>{escape(sentences.explained(found, name))}.</p>"
        if len(found.effects):
            said = f"{words.label(name)} from the first design to the second, choice by choice"
            body += _plotted(f"effects-{place}", figures.waterfall(found, name, result), said, payload)
    body += _note(f"{sentences.method(found)[0].upper()}{sentences.method(found)[1:]}.")
    rows = [
        [text(row["choice"]), text(_said(row["first"])), text(_said(row["second"]))]
        for row in sentences.rows_of(found.choices)
    ]
    body += table("Choices that differ", ("Choice", "First", "Second"), rows)
    head = ["Resource", *(f"{design}: {pool}" for design, pool in found.resources.index)]
    cells = [
        [text(words.spoken(str(name))), *(_resource(str(name), value) for value in found.resources[name])]
        for name in found.resources.columns
    ]
    return body + table("What the pools did", head, cells)


def _both(found: Difference) -> tuple[tuple[str, Evaluation], tuple[str, Evaluation]]:
    return ("First", found.first), ("Second", found.second)


def _said(value: object) -> str:
    return "–" if value is None else str(value)


def _resource(name: str, value: object) -> Cell:
    if isinstance(value, str):
        return text(value)
    shown = float(value)  # type: ignore[arg-type]
    return share(shown) if name in (*SHARES, "share_of_cost") else count(shown)
