"""The report: one document from a study's result, in HTML or Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from dse import words
from dse.drawing import draw_deployment
from dse.provenance import caveat, front_caveat
from dse.report import figures, limits, origin, outlook, promises, spending, stays, summary, tables
from dse.report.chosen import LEAST, Chosen, Named
from dse.report.document import Section, document, plot, version_of
from dse.report.figures import Json
from dse.report.markdown import markdown, plain
from dse.result import StudyResult

KICKER = "Design-space exploration of LLM inference"


@dataclass(frozen=True)
class Contents:
    """What a report says, before it is a file.

    Attributes
    ----------
    name, question, about
        Name and question of the study as plain text; what was studied as HTML.
    sections
        Anchor, title and HTML of each.
    payload
        Figures, for the script.
    """

    name: str
    question: str
    about: str
    sections: tuple[Section, ...]
    payload: Json


def render_report(result: StudyResult) -> str:
    """Return a study's result as one self-contained HTML document.

    The document holds Plotly's script and asks nothing of any network. The same result gives the same text.

    Parameters
    ----------
    result
        What a study found; it may have no feasible design, or no simulated one.

    Returns
    -------
    str
        HTML, to be written to a file as UTF-8.

    Examples
    --------
    >>> from dse import run_study
    >>> from dse.report import render_report
    >>> html = render_report(run_study("chat"))  # doctest: +SKIP
    """
    found = contents(result)
    return document(
        title=f"{found.name}: design-space exploration",
        kicker=KICKER,
        name=found.name,
        lede=found.question,
        about=found.about,
        sections=found.sections,
        payload=found.payload,
    )


def render_markdown(result: StudyResult) -> str:
    """Return the report as Markdown: the sentences and tables of :func:`render_report`, without its figures.

    Parameters
    ----------
    result
        As for :func:`render_report`.

    Returns
    -------
    str
        Markdown with tables as GitHub and MkDocs read them.
    """
    found = contents(result)
    parts = [f"# {plain(found.name)}", plain(found.question), markdown(found.about)]
    parts += [markdown(body) for _, _, body in found.sections]
    parts.append(f"Written by dse-llm {version_of('dse-llm')}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def contents(result: StudyResult) -> Contents:
    """Return what the report of a result says, with the simulations that it takes."""
    chosen = Chosen(result)
    drawn = figures.Drawn(chosen)
    payload: Json = {"shared": {"template": figures.TEMPLATE, "designs": drawn.texts}, "figures": {}}
    best, sections = chosen.recommended, list[Section]()
    found = outlook.outlook(chosen) if best else None
    if best and found:
        sections.append(("short", "In short", summary.section(chosen, found)))
    sections += [
        ("answer", "Recommendation", _answer(chosen)),
        ("front", "Front", _front(chosen, drawn, payload)),
    ]
    if best and found:
        sections += [
            ("spending", "Cost and power", spending.section(chosen, best, payload)),
            ("latency", "Latency", stays.section(chosen, best, payload)),
            ("bottlenecks", "Bottlenecks", _bottlenecks(chosen, best)),
            ("outlook", "Sensitivity", outlook.section(chosen, found, payload)),
        ]
    sections += [
        ("designs", "Designs", _designs(chosen, payload)),
        ("search", "Search", _search(chosen, payload)),
        ("provenance", "Provenance", origin.provenance_section(chosen)),
        ("reproduce", "Reproduce", origin.reproduce(result)),
    ]
    return Contents(result.spec.name, result.spec.question, origin.about(result), tuple(sections), payload)


def _tiles(design: Named, objectives: Iterable[str]) -> str:
    values = {
        **design.evaluation.figures,
        **dict(zip(objectives, design.evaluation.objectives, strict=True)),
    }
    names = (
        "usd_per_hour",
        "usd_per_million_output_tokens",
        "energy_j_per_output_token",
        "output_tokens_per_s",
        *objectives,
    )
    return "".join(
        f"<li><b>{escape(words.quantity(name, values[name]))}</b><span>{escape(words.label(name))}</span></li>"
        for name in dict.fromkeys(names)
    )


def _answer(chosen: Chosen) -> str:
    best, spec = chosen.recommended, chosen.result.spec
    if best is None:
        return _no_answer(chosen)
    if len(spec.objectives) == 1:
        several = words.plural(len(chosen.result.feasible), "feasible design")
        why = f"It has the best {words.label(spec.objectives[0])} of {several}."
    else:
        several = words.plural(len(chosen.front), "design")
        why = (
            f"The knee of a front of {several}: nearest to the ideal, which has the best value of every objective; "
            "each objective is measured in units of its range on the front."
        )
    parts = [
        "<h2>Recommendation</h2>",
        f'<p class="design-name">{escape(words.short(best.deployment))}</p>',
        f"<p>{escape(words.sentence(best.deployment))}</p>",
        f'<ul class="tiles">{_tiles(best, spec.objectives)}</ul>',
        f'<p class="note">{escape(f"This is {best.tag} in the figures and tables below. {why}")}</p>',
        *_promises(chosen, best),
        tables.pools(best),
        _drawing(chosen, best),
        _note("Its ", caveat(best.deployment.pools)),
    ]
    if chosen.rivals:
        many = len(spec.objectives) > 1
        parts.append(f"<h3>{'Why the neighbours lost' if many else 'Runners-up'}</h3>")
        if many:
            own = f"{chosen.distance(best):.3f}"
            parts.append(
                f'<p class="note">{best.tag} is {own} away from the ideal. Each of these is better in one objective '
                "but ends farther away, for what it gives up in another. The distance counts every objective by its "
                "range on the front: take a neighbour if one of them matters more to you.</p>"
            )
        parts.append(tables.rivals(chosen))
    return "".join(parts)


def _promises(chosen: Chosen, best: Named) -> list[str]:
    spec = chosen.result.spec
    if not spec.promises:
        return ['<p class="note">The study has no SLOs.</p>']
    none = [] if spec.slos else ['<p class="note">The study has no SLOs.</p>']
    return [*none, promises.promises(chosen, best), f'<p class="note">{escape(promises.how_sure(chosen, best))}</p>']


def _drawing(chosen: Chosen, best: Named) -> str:
    drawn = draw_deployment(best.deployment, chosen.simulation(best).lowered.plan)
    # Within HTML a drawing needs no name space: the page holds no address at all.
    drawn = drawn.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    caption = f"{best.tag} as it is deployed: every square is an accelerator or processor."
    return f'<figure class="drawing">{drawn}<figcaption>{escape(caption)}</figcaption></figure>'


def _bottlenecks(chosen: Chosen, best: Named) -> str:
    """Return the HTML of what limits the recommended design, with each workload, and the front."""
    body = f"<h2>Bottlenecks</h2><p>{best.tag} is limited by {escape(best.evaluation.bottleneck)}.</p>"
    for place, case in enumerate(chosen.cases):
        simulation = chosen.simulation(best, place)
        if len(chosen.cases) > 1:
            body += f"<h3>Workload {escape(case.name)}</h3><p>Limited by {escape(simulation.bottleneck)}.</p>"
        body += tables.use(best, simulation.pools) + tables.services(chosen, simulation)
    counted = Counter(design.evaluation.bottleneck for design in chosen.front).most_common()
    said = ", ".join(f"{limit} ({number:,})" for limit, number in counted)
    return body + f'<p class="note">{escape(f"Designs on the front are limited by: {said}.")} {RESOURCES}</p>'


RESOURCES = (
    "Compute, memory bandwidth and links: share of the time in which that resource alone, at the rate it can reach, "
    "would have been busy. What is left of “busy” is the engine's own overhead."
)


def _no_answer(chosen: Chosen) -> str:
    result = chosen.result
    parts = [
        "<h2>No feasible design</h2>",
        f'<p class="alarm"><b>{escape(_verdict(result))}</b> There is nothing to recommend.</p>',
    ]
    if chosen.nearest:
        best = chosen.nearest[0]
        parts += [
            "<h3>Nearest to feasible</h3>",
            f'<p class="design-name">{escape(words.short(best.deployment))}</p>',
            f"<p>{escape(words.sentence(best.deployment))}</p>",
            _to_relax(result, best),
            promises.promises(chosen, best) if result.spec.promises else "",
            f'<p class="note">The least violating designs (at most {LEAST}) and how far each misses:</p>',
            tables.front(chosen),
        ]
    else:
        parts.append("<p>None passed the checks before simulation: see why below.</p>")
    kinds = {kind for e in result.evaluations if not e.simulated for kind in e.constraints}
    excluding = [f"limits.{kind}" for kind in ("accelerators", "usd_per_hour") if kind in kinds]
    if excluding:
        parts.append(
            f"<p>Designs were excluded by {escape(' and '.join(excluding))}: a higher limit lets larger ones in.</p>"
        )
    if len(result.simulated) >= result.spec.budget.trials:
        parts.append("<p>All of the budget was used: more trials, or a wider space, may find one.</p>")
    return "".join(parts)


def _to_relax(result: StudyResult, nearest: Named) -> str:
    """Return the HTML of which limits would make a design feasible; if none would, of what it misses."""
    reached = nearest.evaluation.figures
    excesses = [(each, reached[f"{each.name}_excess"]) for each in limits.hard(result.spec)]
    missed = [(each, excess) for each, excess in excesses if excess > 0]
    # Where requests were rejected a latency is infinite, and no limit holds it.
    if "finite" in nearest.evaluation.constraints or not all(math.isfinite(excess) for _, excess in missed):
        names = ", ".join(words.promise(name) for name in nearest.evaluation.broken)
        why = f"No limit holds what is not finite: relaxed promises alone do not make {nearest.tag} feasible."
        return f"<p><b>It misses:</b> {escape(names)}. {escape(why)}</p>"
    relax = [
        f"{words.promise(each.name)} to {limits.said(each, excess)} (now {limits.said(each)})"
        for each, excess in missed
    ]
    return f"<p><b>To relax:</b> {escape(' and '.join(relax))} would make {nearest.tag} feasible.</p>"


def _verdict(result: StudyResult) -> str:
    if not result.simulated:
        return "No design could be simulated."
    return f"None of {words.plural(len(result.simulated), 'simulated design')} is feasible."


def _select(key: str, label: str, options: Iterable[tuple[str, str, bool]]) -> str:
    items = "".join(
        f'<option value="{escape(value)}"{" selected" if chosen else ""}>{escape(title)}</option>'
        for value, title, chosen in options
    )
    return (
        f'<div class="pick"><label for="{key}">{escape(label)}</label>'
        f'<select class="switch" id="{key}" autocomplete="off">{items}</select></div>'
    )


def _front(chosen: Chosen, drawn: figures.Drawn, payload: Json) -> str:
    result, spec = chosen.result, chosen.result.spec
    if not result.simulated:
        return "<h2>Front</h2><p>Nothing was simulated.</p>"
    several = len(spec.objectives) > 2
    plots = figures.front_figures(drawn)
    caption = (
        "Filled: feasible (strong: on the front; pale: dominated). Hollow grey: breaks a promise. "
        "Circles: colocated; diamonds: disaggregated. Point at a design to see all of it; click one of the front "
        "for its latencies; click in the legend to hide a group; double-click in the plot to see far designs too."
    )
    if several:
        caption += " With more than two objectives a front design may look dominated in one pair: it wins in another."
    if drawn.left_out:
        caption += f" {drawn.left_out:,} designs are not drawn, to keep the file small; the whole front is."
    body = "<h2>Front</h2>"
    if several:
        keys = enumerate(plots.items())
        body += _select("pair", "Objectives", [(key, title, i == 0) for i, (key, (title, _)) in keys])
    for key, (title, figure) in plots.items():
        payload["figures"][key] = figure
        infeasible = len(result.simulated) - len(result.feasible)
        about = (
            f"{title}: {len(result.feasible)} feasible and {infeasible} infeasible designs, "
            f"{len(chosen.front)} on the front. The table of the front holds the values."
        )
        shown = plot(key, about, caption, height=figure["layout"]["height"])
        body += f'<div data-group="pair" data-panel="{key}">{shown}</div>' if several else shown
    return body + (tables.front(chosen) if chosen.front else "") + _note("On the front, ", front_caveat(result))


def _note(who: str, what: str) -> str:
    """Return a note, empty if there is nothing to say."""
    return f'<p class="note">{escape(who + what)}.</p>' if what else ""


def _designs(chosen: Chosen, payload: Json) -> str:
    if not chosen.shown:
        return "<h2>Designs one by one</h2><p>Nothing was simulated.</p>"
    shared = figures.curves(chosen)
    payload["shared"] |= shared
    spans = figures.latency_spans(chosen, shared)
    total, shown = len(chosen.front or chosen.nearest), len(chosen.shown)
    note = "Latency distributions of all requests, and what the pools did."
    if shown < total:
        note += f" {shown} of the {total} designs on the front: the recommended one, its neighbours, and some between."
    start = chosen.recommended or chosen.shown[0]
    options = [
        (d.tag, f"{d.tag}  {words.short(d.deployment)}{'  (recommended)' if d.recommended else ''}", d is start)
        for d in chosen.shown
    ]
    panels = "".join(_panel(chosen, design, spans, payload) for design in chosen.shown)
    return f'<h2>Designs one by one</h2><p class="note">{note}</p>{_select("design", "Design", options)}{panels}'


def _panel(chosen: Chosen, design: Named, spans: dict[str, tuple[float, float]], payload: Json) -> str:
    best = chosen.recommended
    plots = ""
    for metric in figures.latencies(chosen):
        meaning = words.METRICS[metric]
        title = f"<h4>{words.metric_name(metric)} <span>{escape(meaning)}</span></h4>"
        key = figures.curve_key(design, metric)
        if payload["shared"][key] is None:
            plots += f'<div>{title}<p class="note">No request has it.</p></div>'
            continue
        payload["figures"][key] = figures.latency(chosen, design, metric, spans[metric])
        about = f"Cumulative distribution of {meaning} of {design.tag}; the table of latencies holds its percentiles"
        plots += f"<div>{title}{plot(key, about, height=230)}</div>"
    grey = f" Grey: {best.tag}, the recommended design." if best and not design.recommended else ""
    several = f" Curves and pools: workload {chosen.cases[0].name}." if len(chosen.cases) > 1 else ""
    shares = "ITL: of gaps between tokens"
    if chosen.result.requests.sessions is not None:
        shares += "; session: of sessions"
    caption = (
        f"Share of requests ({shares}) within a time. Dashed red: limit of an SLO; the curve must "
        f"pass its ring on the left or above.{grey}{several}"
    )
    simulation = chosen.simulation(design)
    slos = promises.promises(chosen, design) if chosen.result.spec.promises else ""
    badge = ' <span class="badge">recommended</span>' if design.recommended else ""
    return (
        f'<div data-group="design" data-panel="{escape(design.tag)}">'
        f"<h3>{escape(design.tag)}: {escape(words.short(design.deployment))}{badge}</h3>"
        f"<p>{escape(words.sentence(design.deployment))}</p>"
        f'<ul class="tiles">{_tiles(design, chosen.result.spec.objectives)}</ul>'
        f'<div class="latencies">{plots}</div><p class="note">{escape(caption)}</p>'
        f"{tables.pools(design)}{tables.percentiles(design)}{slos}{tables.use(design, simulation.pools)}"
        f"{tables.services(chosen, simulation)}"
        f'<p class="note">{RESOURCES}</p></div>'
    )


def _search(chosen: Chosen, payload: Json) -> str:
    result = chosen.result
    body = "<h2>Search</h2>"
    if result.feasible:
        payload["figures"]["hypervolume"] = figures.hypervolume(chosen)
        shares = result.hypervolume
        last = int((shares < shares[-1] * (1 - 1e-9)).sum()) + 1
        caption = (
            "How much of the box between the best and the worst feasible values the front covers, after each simulated "
            f"design; it last grew at {last:,} of {len(shares):,}. A curve that still rises asks for more trials."
        )
        about = f"Hypervolume over {len(shares)} simulated designs, reaching {words.percent(float(shares[-1]))}"
        body += f"<h3>Hypervolume</h3><p>{escape(caption)}</p>{plot('hypervolume', about, height=300)}"
    if result.certificate:
        body += f"<h3>What is proved of the space</h3>{tables.proved(result.certificate)}"
        body += f"<p>{escape(words.open_designs(result.certificate).capitalize())}.</p>"
    if result.sureness:
        body += f"<h3>How sure the front is</h3><p>{escape(result.sureness.summary)}</p>"
        body += tables.sureness(result.sureness, result.spec.objectives)
    body += "<h3>Excluded before simulation</h3>"
    if len(result.simulated) < len(result.evaluations):
        body += tables.excluded(result.evaluations)
    else:
        body += "<p>None: every proposed design could be simulated.</p>"
    body += "<h3>Broken promises</h3>"
    infeasible = len(result.simulated) - len(result.feasible)
    if infeasible:
        body += tables.broken(chosen)
    else:
        none = "None: every simulated design keeps all of them." if result.simulated else "Nothing was simulated."
        body += f"<p>{none}</p>"
    return body
