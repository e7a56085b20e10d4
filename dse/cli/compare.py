"""``dse compare``: variations of a deployment and workload side by side, held against what is claimed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dse.cli.console import INTERRUPTED, NOT_FEASIBLE, announce_compilation, err, out, progress

if TYPE_CHECKING:
    import pandas as pd

    from dse.comparison import Comparison, Verdict


def compare(
    file: Annotated[str, typer.Argument(help="comparison in YAML, or the name of a shipped one, e.g. kv-tiers")],
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="processes", show_default="all processors")] = None,
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="write the figures to this .csv or .json file")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown, for documents")] = False,
) -> None:
    """Simulate variations of a deployment and workload, and check what is claimed of them.

    A comparison has a base (`deployment`, `workload`), `cases` that set some of its fields to other values, `figures`
    to show, and claims (`expect`) whose outcome is printed. Exit code 3 says that a claim does not come out as
    expected.

    **Examples**

        dse compare kv-tiers

        dse compare studies/findings/kv-tiers.yaml --out kv-tiers.csv

        dse compare my_comparison.yaml --jobs 1 --markdown > table.md
    """
    from dse.comparison import load_comparison, verdicts
    from dse.output import check_place
    from simulator import SpecError

    if jobs is not None and jobs < 1:
        raise SpecError(f"--jobs: must be at least 1, given {jobs}")
    if target is not None:
        if target.suffix not in (".csv", ".json"):
            raise SpecError(f"--out: must end in .csv or .json, given {target}")
        check_place(target)
    spec = load_comparison(file)
    announce_compilation()
    try:
        table = _watch(spec, jobs)
    except KeyboardInterrupt:
        err.print("stopped: nothing is shown or written")
        raise typer.Exit(INTERRUPTED) from None
    found = verdicts(spec, table)
    if target is not None:
        _write(spec, table, found, target)
    if markdown:
        typer.echo(_markdown(spec, table, found))
    else:
        _show(spec, table, found)
    if any(verdict.failed for verdict in found):
        raise typer.Exit(NOT_FEASIBLE)


def _watch(spec: Comparison, jobs: int | None) -> pd.DataFrame:
    """Run a comparison with its progress on screen; without a terminal, a line every tenth of the cases."""
    from dse.comparison import run_comparison

    with progress() as bar:
        total = len(spec.variations)
        task = bar.add_task(spec.name, total=total, state="starting processes")
        done = 0

        def listen(case: str) -> None:
            nonlocal done
            done += 1
            state = f"{done}/{total} simulated, last {case}"
            bar.update(task, completed=done, state=state)
            if not err.is_terminal and done * 10 // total > (done - 1) * 10 // total:
                err.print(f"{spec.name}: {state}", soft_wrap=True)

        return run_comparison(spec, jobs=jobs, listener=listen)


def _cell(name: str, value: float) -> str:
    """Return a figure as text: a time with its unit, a share in percent, else a number."""
    from dse.words import number, percent, seconds

    if value != value:
        return "–"
    if name.endswith("_s") and not name.endswith("_per_s"):
        return seconds(value)
    shares = ("cache_hits", "kv_peak", "busy", "_busy", "_fetched", "_full", "_share_of_ttft")
    return percent(value) if name.endswith(shares) or name.startswith("blocked_by_") else number(value)


def _sides(verdict: Verdict) -> tuple[str, str]:
    """Return both sides of a claim in words."""
    from dse.words import number

    figure = verdict.claim.left.figure or verdict.claim.right.figure or ""

    def words(side: Any, value: float) -> str:
        if side.case is None:
            return _cell(figure, value) if figure else number(value)
        factor = "" if side.times == 1 else f"{number(side.times)} × "
        return f"{factor}{side.figure} of {side.case} = {_cell(side.figure, value)}"

    return words(verdict.claim.left, verdict.left), words(verdict.claim.right, verdict.right)


def _show(spec: Comparison, table: pd.DataFrame, found: list[Verdict]) -> None:
    from rich.table import Table

    for text in (spec.question, f"published: {spec.published.strip()}" if spec.published else ""):
        if text:
            out.print(text.strip())
            out.print()
    shown = Table(box=None, pad_edge=False)
    shown.add_column("case", no_wrap=True)
    for name in spec.figures:
        shown.add_column(name.removesuffix("_s").replace("_", " "), justify="right")
    for case, row in table.iterrows():
        shown.add_row(str(case), *(_cell(name, float(row[name])) for name in spec.figures))
    out.print(shown)
    if found:
        out.print()
    for verdict in found:
        left, right = _sides(verdict)
        style = "red" if verdict.failed else None
        out.print(f"{verdict.words}: {verdict.claim.claim}", style=style, soft_wrap=True)
        out.print(f"  {left} {verdict.claim.relation} {right}", soft_wrap=True)
        if verdict.claim.differs:
            out.print(f"  why: {verdict.claim.differs}", soft_wrap=True)


def _markdown(spec: Comparison, table: pd.DataFrame, found: list[Verdict]) -> str:
    """Return figures and claims as tables in Markdown."""
    lines = [f"| case | {' | '.join(spec.figures)} |", f"|---|{'---:|' * len(spec.figures)}"]
    for case, row in table.iterrows():
        lines.append(f"| {case} | {' | '.join(_cell(name, float(row[name])) for name in spec.figures)} |")
    if found:
        lines += ["", "| claim | outcome | left | | right |", "|---|---|---|---|---|"]
    for verdict in found:
        left, right = _sides(verdict)
        cells = (verdict.claim.claim, verdict.words, left, f"`{verdict.claim.relation}`", right)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def _write(spec: Comparison, table: pd.DataFrame, found: list[Verdict], target: Path) -> None:
    """Write the figures as CSV, or figures and claims as JSON."""
    import json

    from dse.output import write_whole

    if target.suffix == ".csv":
        write_whole(target, lambda path: table.to_csv(path))
        return
    rows = [{"case": case, **{key: _plain(value) for key, value in row.items()}} for case, row in table.iterrows()]
    claims = [
        {
            **verdict.claim.model_dump(exclude_none=True),
            "holds": verdict.holds,
            "left_value": _plain(verdict.left),
            "right_value": _plain(verdict.right),
        }
        for verdict in found
    ]
    about = {"comparison": spec.name, "question": spec.question, "published": spec.published}
    text = json.dumps({**about, "cases": rows, "claims": claims}, indent=2, allow_nan=False)
    write_whole(target, lambda path: path.write_text(text, encoding="utf-8"))


def _plain(value: Any) -> Any:
    """Return what JSON can hold: null for NaN, a word for what is infinite."""
    if not isinstance(value, float) or abs(value) < float("inf"):
        return value
    return None if value != value else "inf" if value > 0 else "-inf"
