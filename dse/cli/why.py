"""``dse why``: why a study found what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dse.cli.console import NOT_FEASIBLE, announce_compilation, err, out, print_whole

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from dse.evaluation import Evaluation
    from dse.result import StudyResult
    from dse.understanding.answers import Answers, Summary
    from dse.understanding.difference import Difference

ROWS = 8
"""Front designs shown in the terminal; the page has all."""


def why(
    folder: Annotated[Path, typer.Argument(help="folder of a finished run, e.g. runs/chat")],
    weights: Annotated[
        str | None,
        typer.Option(help="front design by weights of the objectives: usd_per_hour=2,e2e_p90_s=1", show_default=False),
    ] = None,
    trials: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="two designs to compare, and which choices explain the difference: trials of front.csv, F1 and so on "
            "of the report, recommended, cheapest, fastest",
            show_default=False,
        ),
    ] = None,
    slice_: Annotated[
        list[str] | None,
        typer.Option("--slice", help="what designs reach by a choice, e.g. main.tp; two with a comma are a pair"),
    ] = None,
    prices: Annotated[
        list[str] | None,
        typer.Option(help="other prices: h100-sxm=-20%, h100-sxm=2.5 (USD/h), electricity=0.12 (USD/kWh)"),
    ] = None,
    rate: Annotated[list[str] | None, typer.Option(help="another rate: +10%, -20%, or requests per second")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print figures as JSON")] = False,
    target: Annotated[Path | None, typer.Option("--out", "-o", help="write a page with figures to this .html")] = None,
) -> None:
    """Say why a study found what it found: what binds, which choices matter, at which price and rate it changes.

    Without a question it prints a summary. Only `--trials`, `--rate` and the summary simulate, and only the designs in
    question; all else is recomputed from the run's figures.

    **Examples**

        dse why runs/chat

        dse why runs/chat --weights usd_per_million_output_tokens=2,e2e_p90_s=1

        dse why runs/chat --trials cheapest recommended

        dse why runs/chat --slice main.tp --slice main.accelerator,main.tp

        dse why runs/chat --prices h100-sxm=-20% --prices mi300x=2.5

        dse why runs/chat --rate +20% -o why.html
    """
    from dse.output import check_place, load, write_whole
    from dse.understanding.answers import Asked, answer, to_json
    from simulator import SpecError

    if target is not None:
        if target.suffix != ".html":
            raise SpecError(f"--out: must end in .html, given {target}")
        check_place(target)
    result = load(folder)
    if not result.front:
        show_none(result)
        raise typer.Exit(NOT_FEASIBLE)
    asked = Asked(weights, trials, tuple(slice_ or ()), tuple(prices or ()), tuple(rate or ()))
    announce_compilation()
    with err.status("looking into the run …"):
        answers = answer(result, asked, summary=not asked.anything or target is not None)
    if target is not None:
        from dse.understanding.page import render_answers

        page = render_answers(answers, str(folder))
        write_whole(target, lambda path: path.write_text(page, encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps(to_json(answers), indent=2, allow_nan=False))
        return
    if answers.summary and not asked.anything:
        _show_summary(result, answers.summary, folder)
    _show_answers(answers)
    if target is not None:
        out.print(f"\npage: {target}", soft_wrap=True)


def _say(text: str) -> None:
    out.print(text, soft_wrap=True)


def show_none(result: StudyResult) -> None:
    """Say which design comes nearest where none is feasible."""
    from dse.understanding.picks import trial_of
    from dse.words import label, percent, short

    nearest = min(
        result.simulated, key=lambda e: sum(max(0.0, violation) for violation in e.constraints.values()), default=None
    )
    if nearest is None:
        _say(f"{result.spec.name}: no design could be simulated, so there is nothing to explain")
        return
    missed = [
        f"{label(name)} by {percent(nearest.figures.get(f'{name}_excess', violation))}"
        for name, violation in nearest.constraints.items()
        if violation > 0
    ]
    _say(f"{result.spec.name}: no design keeps every SLO, so there is no front to explain")
    design = short(result.deployment(nearest))
    _say(f"nearest: trial {trial_of(result, nearest)}, {design}, which misses {', '.join(missed)}")


def _show_summary(result: StudyResult, summary: Summary, folder: Path) -> None:
    from dse.understanding import sentences
    from dse.understanding.picks import trial_of

    best = result.recommended
    assert best
    counts = f"{len(result.simulated):,} designs simulated, {len(result.feasible):,} feasible"
    _say(f"{result.spec.name}: {counts}, {len(result.front):,} on the front")
    print_whole(_front(result, summary))
    hidden = len(result.front) - len(_shown(result, summary))
    if hidden:
        _say(f"({hidden} more with -o why.html or --json)")
    row = sentences.bounds_of(summary.binding)[trial_of(result, best)]
    out.print("\nWhat bounds the recommended design", style="bold")
    _say(f"  {sentences.bound(row)}")
    _say(f"  would help: {sentences.relaxed(row)}")
    _show_importance(summary)
    out.print("\nAt which prices another design is recommended", style="bold")
    for line in sentences.prices(result, summary.break_even):
        _say(f"  {line}")
    out.print("\nAt which rate the recommended design fails", style="bold")
    _say(f"  {sentences.failure(summary.failure) if summary.failure else f'not known: {summary.no_failure}'}")
    if len(result.front) > 1:
        other = next(e for e in (*summary.picks.values(), *result.front) if e is not best)
        _say(f"\nwhich choices explain a difference: dse why {folder} --trials {trial_of(result, other)} recommended")


def _show_importance(summary: Summary) -> None:
    """Print the three most important choices: of the first question about what is best in full, of others in short."""
    from dse.understanding import sentences
    from dse.understanding.importance import FEASIBLE

    asked = [str(name) for name in summary.importance.index.get_level_values("question").unique()]
    first, *others = sorted(asked, key=lambda name: name == FEASIBLE) or [""]
    if not first:
        return
    out.print(f"\nWhich choices matter most {sentences.question(first)}", style="bold")
    for line in sentences.important(summary.importance, first) or ["none that chance would not explain"]:
        _say(f"  {line}")
    for name in others:
        _say(f"  {sentences.question(name)}: {sentences.leading(summary.importance, name)}")


def _shown(result: StudyResult, summary: Summary) -> list[Evaluation]:
    """Return front designs for a small table: the ends, the recommended one, and some between."""
    front = list(result.front)
    wanted = {id(e) for e in (*summary.picks.values(), result.recommended)}
    distinct = [e for e in result.distinct_front if id(e) not in wanted]
    left = max(0, ROWS - len(wanted))
    step = max(1.0, len(distinct) / left) if left else 1.0
    wanted |= {id(distinct[int(place * step)]) for place in range(left) if int(place * step) < len(distinct)}
    return [e for e in front if id(e) in wanted]


def _front(result: StudyResult, summary: Summary) -> Table:
    from rich.table import Table

    from dse.understanding.picks import trial_of
    from dse.understanding.sentences import bounds_of
    from dse.words import figure, heading, label, percent, short

    table = Table(box=None, pad_edge=False)
    for name in ("", "trial", "clients"):
        table.add_column(name, no_wrap=True, justify="right" if name == "trial" else "left")
    for name in result.spec.objectives:
        table.add_column(heading(name), justify="right", no_wrap=True)
    table.add_column("least slack", no_wrap=True)
    table.add_column("limited by", no_wrap=True)
    bounds = bounds_of(summary.binding)
    roles: dict[int, list[str]] = {}
    for name, e in summary.picks.items():
        roles.setdefault(id(e), []).append(name)
    for e in _shown(result, summary):
        trial = trial_of(result, e)
        row = bounds[trial]
        best = e is result.recommended
        said = [*(["recommended"] if best else []), *roles.get(id(e), [])]
        values = (figure(name, value) for name, value in zip(result.spec.objectives, e.objectives, strict=True))
        tightest = f"{label(row['slo'])}, {percent(row['slack'])} left" if row["slo"] else "–"
        table.add_row(
            ", ".join(said),
            str(trial),
            short(result.deployment(e)),
            *values,
            tightest,
            e.bottleneck,
            style="bold" if best else None,
        )
    return table


def _show_answers(answers: Answers) -> None:
    from dse.understanding.sentences import broken

    result, first = answers.result, True

    def head(text: str) -> None:
        nonlocal first
        if not first or answers.summary:
            out.print()
        first = False
        out.print(text, style="bold", soft_wrap=True)

    if answers.weighted:
        head("By these weights")
        _show_pick(result, answers.weighted)
    for each in answers.slices:
        head(each.title)
        print_whole(_frame(each.table, result, each.objective))
    if answers.repriced is not None:
        head("At these prices, without any simulation")
        _show_repriced(result, answers.repriced)
    if answers.rates is not None:
        head("At these rates, each design of the front simulated once a rate")
        shown = answers.rates.reset_index().drop(columns="factor").set_index("trial")
        print_whole(_frame(shown.assign(broken=shown["broken"].map(broken)), result))
    if answers.difference:
        head("What the second design gives and takes")
        _show_difference(result, answers.difference)


def _show_pick(result: StudyResult, pick: Evaluation) -> None:
    from dse.result import compare
    from dse.understanding import sentences

    best = result.recommended
    assert best
    _say(f"  {sentences.named(result, pick)}: {sentences.objectives(result, pick)}")
    same = "it is the recommended design"
    _say(f"  {same if pick is best else f'against the recommended design: {compare(result.spec, pick, best)}'}")


def _show_repriced(result: StudyResult, changed: StudyResult) -> None:
    from dse.understanding import sentences
    from dse.words import plural

    today, best = result.recommended, changed.recommended
    assert today
    if best is None:
        _say("  nothing is feasible")
        return
    front, before = ({e.design for e in each.front} for each in (changed, result))
    moves = f"{len(front - before)} joined and {len(before - front)} left today's"
    _say(f"  front of {plural(len(front), 'design')}: {moves}")
    same = next(e for e in changed.evaluations if e.design == today.design)
    _say(f"  recommended at today's prices: {sentences.named(changed, same)}: {sentences.objectives(changed, same)}")
    if best.design == today.design:
        _say("  it stays the recommended design")
        return
    _say(f"  recommended now: {sentences.named(changed, best)}: {sentences.objectives(changed, best)}")


def _show_difference(result: StudyResult, found: Difference) -> None:
    from dse.understanding import sentences

    _say(f"  {sentences.trade(result, found)}")
    for e, who in ((found.first, "first"), (found.second, "second")):
        _say(f"  {who}: {sentences.named(result, e)}: limited by {e.bottleneck}")
    for name in found.measures.index:
        _say(f"  {sentences.explained(found, str(name))}")
    out.print()
    print_whole(_effects(found))
    _say(sentences.method(found))
    out.print()
    print_whole(_resources(found))


def _effects(found: Difference) -> Table:
    from rich.table import Table

    from dse.understanding.sentences import effect, signed
    from dse.words import label

    table = Table(box=None, pad_edge=False)
    for name in ("choice", "first", "second"):
        table.add_column(name, no_wrap=True)
    names = list(found.measures.index)
    for name in names:
        table.add_column(label(name), justify="right", no_wrap=True)

    def said(value: object) -> str:
        return "–" if value is None else str(value)

    for choice in found.choices.index:
        known = choice in found.effects.index
        cells = [effect(found, str(choice), name) if known else "" for name in names]
        table.add_row(str(choice), *(said(found.choices[who][choice]) for who in ("first", "second")), *cells)
    table.add_section()
    changes = (signed(name, float(found.measures["change"][name])) for name in names)
    table.add_row("together", "", "", *changes, style="bold")
    return table


def _resources(found: Difference) -> Table:
    from rich.table import Table

    from dse.understanding.resources import SHARES
    from dse.words import number, percent, spoken

    table = Table(box=None, pad_edge=False)
    table.add_column("resource", no_wrap=True)
    for design, pool in found.resources.index:
        table.add_column(f"{design}: {pool}", justify="right", no_wrap=True)
    for name in found.resources.columns:
        values = list(found.resources[name])
        if name in (*SHARES, "share_of_cost"):
            cells = [percent(value) if value == value else "–" for value in values]
        elif name == "bottleneck":
            cells = [str(value) for value in values]
        else:
            cells = [number(float(value)) for value in values]
        table.add_row(spoken(str(name)), *cells)
    return table


def _frame(frame: pd.DataFrame, result: StudyResult, objective: str | None = None) -> Table:
    """Return a table of answers for the terminal: metrics as people read them, shares in percent.

    Where an objective is named, all cells are its values.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(str(frame.index.name), no_wrap=True)
    for name in frame.columns:
        table.add_column(_title(str(name), result), justify="right", no_wrap=True)
    for key, row in frame.iterrows():
        table.add_row(str(key), *(_cell(objective or str(name), value, result) for name, value in row.items()))
    return table


def _title(name: str, result: StudyResult) -> str:
    from dse.words import heading, spoken

    for suffix in ("_best", "_median"):
        if name.endswith(suffix) and name.removesuffix(suffix) in result.spec.objectives:
            return f"{heading(name.removesuffix(suffix))} {suffix[1:]}"
    return heading(name) if name in result.spec.objectives else spoken(name).replace(" rps", "/s")


def _cell(name: str, value: object, result: StudyResult) -> str:
    from dse.words import figure, number, percent

    if isinstance(value, str):
        return value or "–"
    if isinstance(value, bool) or str(type(value).__name__) == "bool":
        return "yes" if value else "no"
    shown = float(value)  # type: ignore[arg-type]
    metric = name.removesuffix("_best").removesuffix("_median")
    if shown != shown:
        return "–"
    if metric in result.spec.objectives:
        return figure(metric, shown)
    return percent(shown) if name.endswith("slack") else number(shown)
