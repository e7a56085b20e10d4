"""``dse run``: search a study's space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dse.cli.given import given_words
from dse.cli.overrides import change_workload

if TYPE_CHECKING:
    from dse.spec import StudySpec

FOLDER = frozenset({"folder", "resume", "overwrite"})
"""Options that say where results go."""

HOW = frozenset({"jobs", "backend", "scheduler", "storage", "quiet", "markdown"})
"""Options that say how to run, not what: they change no study."""


def run(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="name of a shipped study (see: dse list studies) or a .yaml file")],
    trials: Annotated[int | None, typer.Option(help="designs to simulate", show_default="the study's")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="processes", show_default="all processors")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the search", show_default="the study's")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="how designs are proposed (see: dse list samplers)", show_default="the study's")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="certified=0.01: until the designs of which nothing is proved could add at most 1 %"),
    ] = None,
    start: Annotated[
        list[Path] | None,
        typer.Option(help="propose first: the front of the run in a folder, or a deployment (.yaml); several times"),
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="replay a trace: Azure CSV, Mooncake JSONL or plain CSV")] = None,
    rate: Annotated[float | None, typer.Option(help="mean rate of requests, per second")] = None,
    requests: Annotated[int | None, typer.Option(help="number of requests")] = None,
    timeout: Annotated[float | None, typer.Option(help="stop after so many seconds")] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for results", show_default="runs/NAME")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in the folder")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the run in the folder")] = False,
    rehearse: Annotated[
        int | None, typer.Option(help="search on so many requests first; the best are simulated first on all")
    ] = None,
    confirmed: Annotated[
        bool, typer.Option("--confirm", help="simulate the front again on other draws of the load: how sure is it?")
    ] = False,
    backend: Annotated[str, typer.Option(help="what evaluates: loky (processes here), dask, ray, sequential")] = "loky",
    scheduler: Annotated[str | None, typer.Option(help="address of a cluster, e.g. tcp://HOST:8786")] = None,
    storage: Annotated[
        str | None, typer.Option(help="database to share trials with other machines, e.g. postgresql://USER@HOST/NAME")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print only the path of the report")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print the answer as Markdown, for documents")] = False,
) -> None:
    """Search a study's space for designs that keep its SLOs, and write the Pareto front and a report.

    Of a study with scenarios or alternatives all members run, and their answers are set beside each other.

    **Examples**

        dse run chat

        dse run agents

        dse run agents/3min/drop

        dse run chat --trace requests.csv --rate 20

        dse run my_study.yaml --trials 1000 --seed 7

        dse run chat --out runs/chat --resume --trials 600

        dse run finite-chat --until certified=0.01

        dse run my_study.yaml --start runs/chat --start today.yaml

        dse run my_study.yaml --backend dask --scheduler tcp://head:8786 --storage postgresql://dse@head/studies
    """
    from dse.cli.searching import Searching, run_alone, run_together
    from dse.execution import check_backend
    from dse.family.spec import Member
    from dse.library import family_of, load_family, load_study
    from simulator import SpecError

    def changed(spec: StudySpec) -> StudySpec:
        return _changed(
            spec,
            {
                "seed": seed,
                "sampler": sampler,
                "start": [*map(str, spec.start), *map(str, start)] if start else None,
                "budget": _budget(spec, trials, timeout, until, rehearse),
                "workload": _workload(spec, trace, rate, requests),
                "confidence": {} if confirmed and not spec.confidence else None,
            },
        )

    if jobs is not None and jobs < 1:
        raise SpecError(f"--jobs: must be at least 1, given {jobs}")
    if resume and overwrite:
        raise SpecError("--resume and --overwrite contradict each other: choose one")
    if quiet and markdown:
        raise SpecError("--quiet and --markdown contradict each other: choose one")
    family = load_family(family_of(study))
    check_backend(backend, scheduler)
    command = ["dse", "run", study, *given_words(context, without=FOLDER)]
    how = Searching(jobs, quiet, markdown, backend, scheduler, storage, resume=resume, overwrite=overwrite)
    if family.label_kinds and family_of(study) == study:
        members = [Member(each.scenario, each.alternative, changed(each.spec)) for each in family.members]
        run_together(how, command, family, members, given_words(context, without=FOLDER | HOW), folder)
    else:
        run_alone(how, command, changed(load_study(study)), folder)


def _changed(spec: StudySpec, changes: dict[str, Any]) -> StudySpec:
    """Return a study with what was given on the command line; None stands for nothing."""
    from dse.spec import StudySpec

    given = {name: value for name, value in changes.items() if value is not None}
    if not given:
        return spec
    data = spec.model_dump(mode="json", exclude_none=True)
    return StudySpec.parse({**data, **given}, source=f"study {spec.name}")


def _budget(
    spec: StudySpec, trials: int | None, timeout_s: float | None, until: str | None, rehearse: int | None
) -> dict[str, Any] | None:
    """Return the budget with what was given on the command line; None if nothing was."""
    given = {
        "trials": trials,
        "timeout_s": timeout_s,
        "certified": _certified(until),
        "rehearsal": {"requests": rehearse} if rehearse is not None else None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    # A certificate takes as many trials as it takes, whatever the study's file says.
    kept = spec.budget.model_dump(exclude={"trials"} if "certified" in given else None)
    return {**kept, **given} if given else None


def _workload(spec: StudySpec, trace: Path | None, rate: float | None, requests: int | None) -> dict[str, Any] | None:
    """Return the workload with what was given on the command line; None if nothing was."""
    from simulator import SpecError

    if trace is None and rate is None and requests is None:
        return None
    if spec.workloads:
        raise SpecError(f"--trace, --rate, --requests: study {spec.name} has several workloads; change its file")
    workload = change_workload(spec.workload, trace=trace, rate=rate, requests=requests)
    return workload.model_dump(mode="json", exclude_none=True)


def _certified(until: str | None) -> float | None:
    """Return the share that ``--until certified=SHARE`` names."""
    from simulator import SpecError

    if until is None:
        return None
    name, _, share = until.partition("=")
    try:
        found = float(share.removesuffix("%")) / (100 if share.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if name != "certified" or not 0 <= found < 1:
        raise SpecError(f"--until: given {until!r}; allowed: certified=SHARE with a share below 1, e.g. certified=0.01")
    return found
