"""``dse validate``: the simulator against runs that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dse.cli.console import INTERRUPTED, NOT_FEASIBLE, announce_compilation, err, out, progress

if TYPE_CHECKING:
    import pandas as pd

    from dse.measurements.measured_run import MeasuredRun

BY = "accelerator,model,tp,engine"
WORST = 5
"""Worst cases that are printed."""

CSV, PAGE = "validation.csv", "validation.html"


def validate(
    files: Annotated[list[Path], typer.Argument(help="results of benchmark tools, or tables of measured runs")],
    deployment: Annotated[
        Path | None,
        typer.Option(
            "--deployment", "-d", help="what was served, in YAML", show_default="deployment.yaml beside the file"
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="vllm, aiperf, guidellm or table", show_default="told from the content")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="engine of all pools: a catalogued one, or a profile in YAML")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="requests a second, where the file does not tell", show_default=False)
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="users of a closed loop, where the file does not tell", show_default=False)
    ] = None,
    noise: Annotated[
        bool, typer.Option("--noise/--no-noise", help="whether steps have the noise of their engine's profile")
    ] = True,
    by: Annotated[str, typer.Option(help="labels to group errors by, with commas")] = BY,
    folder: Annotated[Path | None, typer.Option("--out", "-o", help=f"write {CSV} and {PAGE} to this folder")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="processes", show_default="all processors")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print errors as JSON")] = False,
) -> None:
    """Simulate measured runs, and print how far predictions are off.

    Reads results of vLLM's benchmark, AIPerf, GenAI-Perf and GuideLLM, and plain CSV; see docs/validation.md. Requests
    are replayed as they were sent where the file has them one by one, else drawn at the rate or number of users.
    Exit code 3 says that no run could be simulated.

    **Examples**

        dse validate result.json --deployment deployment.yaml

        dse validate runs/*.json -d deployment.yaml --engine vllm-0.15 --out runs/validation

        dse validate runs.csv --by model,tp --json
    """
    from dse.measurements.formats import read_all
    from dse.measurements.load import read_deployment
    from dse.validation.engine import with_engine
    from dse.validation.errors import not_simulated
    from simulator import SpecError

    if jobs is not None and jobs < 1:
        raise SpecError(f"--jobs: must be at least 1, given {jobs}")
    served = None if deployment is None else read_deployment(deployment)
    runs = read_all(files, served, format=format, rate_rps=rate, concurrency=concurrency)
    if engine is not None:
        runs = with_engine(runs, engine)
    labels = check_labels(by, runs)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    announce_compilation()
    try:
        frame = watch(runs, jobs, "validate", noise=noise)
    except KeyboardInterrupt:
        err.print("stopped: nothing is shown or written")
        raise typer.Exit(INTERRUPTED) from None
    if folder is not None:
        _write(frame, labels, files, folder)
    if as_json:
        _print_json(frame, labels)
    else:
        _show(frame, labels, runs)
        if folder is not None:
            out.print(f"\ntable: {folder / CSV}\npage:  {folder / PAGE}", soft_wrap=True)
    if len(not_simulated(frame)) == len(runs):
        raise typer.Exit(NOT_FEASIBLE)


def check_labels(by: str, runs: Sequence[MeasuredRun]) -> list[str]:
    """Return the labels of an option; of the usual ones those that the runs have.

    Raises
    ------
    SpecError
        If a label that was asked for is unknown.
    """
    from simulator.errors import unknown_name

    known = {name for run in runs for name in run.labels}
    wanted = [name.strip() for name in by.split(",") if name.strip()]
    for name in wanted:
        if name not in known and by != BY:
            raise unknown_name("--by", name, known)
    return [name for name in wanted if name in known]


def watch(runs: Sequence[MeasuredRun], jobs: int | None, what: str, *, noise: bool = True) -> pd.DataFrame:
    """Simulate measured runs with their progress on screen."""
    from dse.validation.errors import compare

    total = len(runs)
    with progress() as bar:
        task = bar.add_task(what, total=total, state="starting")
        said = 0

        def listen(done: int) -> None:
            nonlocal said
            state = f"{done}/{total} runs simulated"
            bar.update(task, completed=done, state=state)
            if not err.is_terminal and done * 10 // total > said:
                said = done * 10 // total
                err.print(f"{what}: {state}", soft_wrap=True)

        return compare(runs, jobs=jobs, noise=noise, listener=listen)


def _show(frame: pd.DataFrame, labels: Sequence[str], runs: Sequence[MeasuredRun]) -> None:
    from dse.validation.errors import errors, not_simulated, worst_cases
    from dse.validation.metrics import metric_label, metric_value
    from dse.words import plural

    failed = not_simulated(frame)
    out.print(f"{plural(len(runs) - len(failed), 'run')} simulated. Errors in percent of what was measured:")
    if len(failed) < len(runs):
        out.print(error_table(errors(frame)))
    for label in labels:
        if len(frame[label].unique()) > 1:
            out.print()
            out.print(error_table(errors(frame, [label]), label))
    worst = worst_cases(frame, WORST)
    if len(worst):
        out.print("\nfarthest off:")
    for row in worst.to_dict("records"):
        metric = str(row["metric"])
        measured, predicted = (metric_value(metric, float(row[name])) for name in ("measured", "predicted"))
        out.print(
            f"  {row['run']}: {metric_label(metric)} measured {measured}, predicted {predicted} "
            f"({float(row['error_percent']):+.0f} %)",
            soft_wrap=True,
        )
    for run, why in failed.items():
        out.print(f"not simulated: {run}: {why}", style="red", soft_wrap=True)
    for note in dict.fromkeys(note for run in runs for note in run.notes):
        several = sum(note in run.notes for run in runs)
        out.print(f"note, {plural(several, 'run')}: {note}", style="dim", soft_wrap=True)


def error_table(found: pd.DataFrame, label: str | None = None) -> object:
    """Return the table of errors, by a label if there is one."""
    from rich.table import Table

    from dse.validation.metrics import metric_label, ordered

    table = Table(box=None, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    if label is not None:
        table.add_column(label)
    for heading in ("runs", "median", "mean", "bias", "p90", "worst"):
        table.add_column(heading, justify="right")
    for metric in ordered(found["metric"]):
        for row in found[found["metric"] == metric].to_dict("records"):
            group = [] if label is None else [str(row[label])]
            table.add_row(
                metric_label(metric),
                *group,
                str(row["count"]),
                *(f"{float(row[name]):.1f}" for name in ("median_ape", "mape")),
                f"{float(row['bias']):+.1f}",
                f"{float(row['p90_ape']):.1f}",
                f"{float(row['worst_percent']):+.1f}",
            )
    return table


def _print_json(frame: pd.DataFrame, labels: Sequence[str]) -> None:
    import json

    from dse.once import finite
    from dse.validation.errors import errors, not_simulated

    rows = frame.drop(columns="problem").to_dict("records")
    content = {
        "errors": errors(frame).to_dict("records"),
        "by": {label: errors(frame, [label]).to_dict("records") for label in labels},
        "runs": rows,
        "not_simulated": not_simulated(frame),
    }
    typer.echo(json.dumps(finite(content), indent=2, allow_nan=False))


def _write(frame: pd.DataFrame, labels: Sequence[str], files: Sequence[Path], folder: Path) -> None:
    from dse.output import write_whole
    from dse.validation.page import render_validation

    write_whole(folder / CSV, lambda path: frame.to_csv(path, index=False))
    page = render_validation(frame, labels, [file.name for file in files])
    write_whole(folder / PAGE, lambda path: path.write_text(page, encoding="utf-8"))
