"""``dse export``: a design as files that deploy it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dse.cli.console import out
from dse.cli.overrides import change_workload

if TYPE_CHECKING:
    from dse.export.bundle import Bundle
    from simulator import Deployment, Workload


def export(
    source: Annotated[Path, typer.Argument(help="folder of a run, or a deployment (.yaml)")],
    to: Annotated[str, typer.Option(help="vllm, sglang, kubernetes, llm-d, dynamo, ray-serve or all")] = "vllm",
    folder: Annotated[Path, typer.Option("--out", "-o", help="folder for the files")] = Path("deploy"),
    design: Annotated[
        int | None,
        typer.Option(help="number of a design of the run (see its front.csv)", show_default="the recommended"),
    ] = None,
    load: Annotated[
        bool, typer.Option("--load", help="also what replays the workload, for vllm bench serve and GuideLLM")
    ] = False,
    requests: Annotated[int | None, typer.Option(help="with --load: number of requests")] = None,
    rate: Annotated[float | None, typer.Option(help="with --load: mean rate of requests, per second")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace files that are there")] = False,
) -> None:
    """Write files that deploy a design, and say what they do not hold.

    Every argument has the field of the design that it comes from behind it. What a target cannot express, and what the
    design leaves to it, is printed and written to NOTES.md.

    **Examples**

        dse export runs/chat --to vllm

        dse export runs/chat --design 3 --to all --out deploy

        dse export deployment.yaml --to kubernetes

        dse export runs/chat --to vllm --load --requests 1000
    """
    from dse.export import TARGETS
    from dse.export.bundle import ALL, bundle, write_bundle
    from simulator import SpecError
    from simulator.errors import unknown_name

    if to != ALL and to not in TARGETS:
        raise unknown_name("--to", to, [*TARGETS, ALL])
    if not load and (requests is not None or rate is not None):
        raise SpecError("--requests, --rate: only with --load")
    deployment, workload = _chosen(source, design)
    if load and workload is None:
        raise SpecError(f"--load: {source} holds no workload; give the folder of a run, or a page with both")
    replayed = change_workload(workload, rate=rate, requests=requests) if load and workload else None
    found = bundle(deployment, to, replayed)
    try:
        write_bundle(found.files, folder, overwrite=overwrite)
    except SpecError as error:
        raise SpecError(f"{error}: --overwrite, --out") from None
    _show(folder, found)


def _chosen(source: Path, number: int | None) -> tuple[Deployment, Workload | None]:
    """Return the deployment to export, and the workload that it is for."""
    from dse.cli.described import described_deployment
    from simulator import SpecError

    if not source.is_dir():
        if number is not None:
            raise SpecError(f"--design: for the folder of a run, given {source}")
        return described_deployment(source)
    from dse.output import load

    result = load(source)
    workload = result.spec.cases[0].workload
    if number is None:
        if result.recommended is None:
            raise SpecError(f"{source}: no design keeps every promise; choose one: --design NUMBER (trials.parquet)")
        return result.deployment(result.recommended), workload
    if not 0 <= number < len(result.evaluations):
        raise SpecError(f"--design: no {number} in {source}; designs: 0 to {len(result.evaluations) - 1}")
    return result.deployment(result.evaluations[number]), workload


def _show(folder: Path, found: Bundle) -> None:
    for name in found.files:
        out.print(str(folder / name), soft_wrap=True)
    for target, sentences in found.notes.items():
        out.print(f"\n{target}:")
        for each in sentences:
            out.print(f"- {each}", soft_wrap=True)
