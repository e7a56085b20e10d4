"""``dse run``: search a study's space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dse.cli.console import INTERRUPTED, NOT_FEASIBLE, announce_compilation, err, out
from dse.cli.overrides import change_workload


def run(
    study: Annotated[str, typer.Argument(help="name of a shipped study (see: dse list studies) or a .yaml file")],
    trials: Annotated[int | None, typer.Option(help="designs to simulate", show_default="the study's")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="processes", show_default="all processors")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the search", show_default="the study's")] = None,
    sampler: Annotated[str | None, typer.Option(help="auto, nsga2, tpe or random", show_default="the study's")] = None,
    trace: Annotated[Path | None, typer.Option(help="replay a trace: Azure CSV, Mooncake JSONL or plain CSV")] = None,
    rate: Annotated[float | None, typer.Option(help="mean rate of requests, per second")] = None,
    requests: Annotated[int | None, typer.Option(help="number of requests")] = None,
    timeout: Annotated[float | None, typer.Option(help="stop after so many seconds")] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for results", show_default="runs/NAME")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in the folder")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the run in the folder")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print only the path of the report")] = False,
) -> None:
    """Search a study's space for designs that keep its SLOs, and write the Pareto front and a report.

    **Examples**

        dse run chat

        dse run chat --trace requests.csv --rate 20

        dse run my_study.yaml --trials 1000 --seed 7

        dse run chat --out runs/chat --resume --trials 600
    """
    from dse.cli.screen import show_result, watch
    from dse.library import load_study
    from dse.output import JOURNAL, REPORT, claim, save
    from dse.spec import StudySpec
    from simulator import SpecError, build_requests

    spec = load_study(study)
    changes: dict[str, Any] = {}
    if seed is not None:
        changes["seed"] = seed
    if sampler is not None:
        changes["sampler"] = sampler
    if trials is not None or timeout is not None:
        budget = {"trials": trials, "timeout_s": timeout}
        changes["budget"] = {**spec.budget.model_dump(), **{k: v for k, v in budget.items() if v is not None}}
    if trace is not None or rate is not None or requests is not None:
        workload = change_workload(spec.workload, trace=trace, rate=rate, requests=requests)
        changes["workload"] = workload.model_dump(mode="json", exclude_none=True)
    if changes:
        spec = StudySpec.parse(
            {**spec.model_dump(mode="json", exclude_none=True), **changes}, source=f"study {spec.name}"
        )
    if jobs is not None and jobs < 1:
        raise SpecError(f"--jobs: must be at least 1, given {jobs}")
    if resume and overwrite:
        raise SpecError("--resume and --overwrite contradict each other: choose one")
    load = build_requests(spec.workload)
    wanted = folder or Path("runs") / spec.name
    with claim(wanted, resume=resume, overwrite=overwrite, numbered=folder is None) as folder:
        announce_compilation()
        result = watch(spec, load, jobs=jobs, journal=folder / JOURNAL, quiet=quiet)
        save(result, folder)
    if quiet:
        out.print(str(folder / REPORT), soft_wrap=True)
    else:
        show_result(result, folder)
    if result.interrupted:
        err.print(f"stopped; go on with: dse run {study} --out {folder} --resume", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    if not result.front:
        raise typer.Exit(NOT_FEASIBLE)
