"""``dse calibrate``: profiles fitted to one's own measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dse.cli.console import INTERRUPTED, announce_compilation, err, out

if TYPE_CHECKING:
    from dse.validation.refit import Refit

calibrate_app = typer.Typer(
    name="calibrate",
    help="Fit the profile of an engine, of an accelerator's kernels or of links to measurements.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Target = Annotated[Path, typer.Option("--out", "-o", help="file to write, in YAML")]


@calibrate_app.command()
def engine(
    files: Annotated[list[Path], typer.Argument(help="measured runs, in any format that dse validate reads")],
    target: Target,
    deployment: Annotated[
        Path | None,
        typer.Option(
            "--deployment", "-d", help="what was served, in YAML", show_default="deployment.yaml beside the file"
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="engine to start from: a catalogued one or a profile", show_default="a plain one")
    ] = None,
    free: Annotated[
        str | None,
        typer.Option(help="figures to fit, with commas", show_default="step_us,sequence_us,request_us"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the profile", show_default="that of the file")] = None,
    format: Annotated[
        str | None, typer.Option(help="vllm, aiperf, guidellm or table", show_default="told from the content")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="requests a second, where the file does not tell", show_default=False)
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="users of a closed loop, where the file does not tell", show_default=False)
    ] = None,
    held_out: Annotated[
        bool, typer.Option(help="also predict each model by a fit to the others, where there are several")
    ] = True,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="processes", show_default="all processors")] = None,
) -> None:
    """Fit the overheads of an engine to measured runs.

    The profile serves as `engine:` of a pool, and of `dse validate --engine`.

    **Examples**

        dse calibrate engine runs/*.json -d deployment.yaml -o my-vllm.yaml

        dse calibrate engine runs.csv --start vllm-0.15 --free step_us,request_us -o my-vllm.yaml
    """
    from rich.text import Text

    from dse.measurements.formats import read_all
    from dse.measurements.load import read_deployment
    from dse.output import check_place
    from dse.validation.refit import FREE, START, refit_engine, source_of
    from simulator import catalog

    check_place(target)
    served = None if deployment is None else read_deployment(deployment)
    options: dict[str, Any] = {"format": format, "rate_rps": rate, "concurrency": concurrency}
    rows = {file: len(read_all([file], served, **options)) for file in files}
    runs = read_all(files, served, **options)
    begin = START if start is None else catalog.engine_profile(start)
    figures = FREE if free is None else tuple(figure.strip() for figure in free.split(",") if figure.strip())
    announce_compilation()
    with err.status("calibrating …") as status:
        try:
            found = refit_engine(
                runs,
                begin,
                name=name or target.stem,
                source=source_of(files, rows),
                free=figures,
                held_out=held_out,
                jobs=jobs,
                listener=lambda what: status.update(Text(f"calibrating: {what} …")),
            )
        except KeyboardInterrupt:
            err.print("stopped: nothing is written")
            raise typer.Exit(INTERRUPTED) from None
    changes = [(figure, _said(getattr(begin, figure)), _said(getattr(found.profile, figure))) for figure in figures]
    _finish(found, changes, target, "model held out")


@calibrate_app.command()
def kernels(
    target: Target,
    accelerator: Annotated[str, typer.Option("--accelerator", "-a", help="catalogued accelerator they ran on")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="CSV files of measured operators; see docs/validation.md")
    ] = None,
    tables: Annotated[
        str | None,
        typer.Option(
            help="engine, and with a colon its version, whose operators the package aiconfigurator-core has measured",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fit what an accelerator's kernels reach of its peaks to measured operators.

    The profile serves as `kernels:` of a pool.

    **Examples**

        dse calibrate kernels gemm.csv attention.csv --accelerator h100-sxm -o kernels.yaml

        dse calibrate kernels --tables vllm --accelerator l40s -o kernels.yaml
    """
    from dse.calibration.engine_tables import measured_from_tables
    from dse.measurements.operator_tables import read_operator_tables
    from dse.output import check_place
    from dse.validation.refit import refit_kernels, source_of
    from simulator import SpecError, catalog

    check_place(target)
    chip = catalog.accelerator(accelerator)
    if (tables is None) == (not files):
        raise SpecError("FILES or --tables: one of them is needed, and not both")
    if tables is None:
        measured = read_operator_tables(files or [])
        source = source_of(files or [], {file: _lines(file) for file in files or []})
    else:
        backend, _, version = tables.partition(":")
        measured = measured_from_tables(accelerator, backend, version or None)
        source = measured.source
    with err.status("calibrating …"):
        found = refit_kernels(measured, chip, source=source)
    _finish(found, [], target, "group held out")


@calibrate_app.command()
def links(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="CSV with platform, collective, size_bytes, num_workers, devices_per_node, median_ms (Vidur's format)"
        ),
    ],
    target: Target,
    accelerator: Annotated[
        str | None, typer.Option("--accelerator", "-a", help="catalogued accelerator, for the bandwidth of its links")
    ] = None,
    gb_per_s: Annotated[
        float | None,
        typer.Option(help="bandwidth of an accelerator one way, 1e9 bytes/s", show_default="the accelerator's"),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="catalogued link to compare with", show_default="the accelerator's")
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the profile", show_default="that of the file")] = None,
    switch: Annotated[bool, typer.Option("--switch", help="the switch may reduce (NVLS)")] = False,
) -> None:
    """Fit what collectives reach on a kind of link to measured ones.

    **Example**

        dse calibrate links nccl.csv --accelerator h100-sxm --switch -o links.yaml
    """
    import numpy as np

    from dse.measurements.collectives import Collectives, read_vidur
    from dse.output import check_place
    from dse.validation.refit import refit_links, source_of
    from simulator import SpecError, catalog

    check_place(target)
    chip = None if accelerator is None else catalog.accelerator(accelerator)
    bandwidth = gb_per_s if gb_per_s is not None else chip.scale_up.gb_per_s if chip is not None else None
    if bandwidth is None or not bandwidth > 0:
        raise SpecError("--gb-per-s or --accelerator: one of them is needed, for the bandwidth of the links")
    link = start or (chip.scale_up.link if chip is not None else None)
    tables = {file: read_vidur(file) for file in files}
    merged = Collectives(
        **{column: np.concatenate([vars(table)[column] for table in tables.values()]) for column in _columns(tables)}
    )
    rows = {file: len(table.seconds) for file, table in tables.items()}
    with err.status("calibrating …"):
        found = refit_links(
            merged,
            bandwidth,
            name=name or target.stem,
            source=source_of(files, rows),
            start=None if link is None else catalog.link_profile(link),
            switch=switch,
        )
    _finish(found, [], target, "group size held out")


def _said(figure: float | dict[str, float]) -> str:
    """Return a figure, or those of each accelerator, in words."""
    from dse.words import number

    if isinstance(figure, dict):
        return ", ".join(f"{name} {number(value)}" for name, value in figure.items()) or "1"
    return number(figure)


def _columns(tables: dict[Path, Any]) -> list[str]:
    return list(vars(next(iter(tables.values()))))


def _lines(file: Path) -> int:
    """Return the rows of a CSV file."""
    return sum(1 for line in file.read_text(encoding="utf-8").splitlines() if line.strip()) - 1


def _finish(found: Refit[Any], changes: Sequence[tuple[str, str, str]], target: Path, held_out: str) -> None:
    """Write a profile and print what changed."""
    from rich.table import Table

    from dse.output import write_whole

    comment = f"# written by dse calibrate; fitted to: {found.profile.source}\n"
    write_whole(target, lambda path: path.write_text(comment + found.profile.to_yaml(), encoding="utf-8"))
    if changes:
        shown = Table(box=None, pad_edge=False)
        shown.add_column("figure")
        for heading in ("before", "after"):
            shown.add_column(heading, justify="right")
        for figure, before, after in changes:
            shown.add_row(figure, before, after)
        out.print(shown)
        out.print()
    out.print("median absolute errors, percent:")
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in ("measured", "before", "after", held_out):
        table.add_column(heading, justify="right")
    for row in found.table.to_dict("records"):
        cells = (f"{row[name]:.1f}" if row[name] == row[name] else "–" for name in ("before", "after", "held_out"))
        table.add_row(str(row["what"]), f"{row['count']:,}", *cells)
    out.print(table)
    out.print(f"\nprofile: {target}", soft_wrap=True)
