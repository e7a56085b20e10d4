"""``dse import``: engines that run, their metrics and request logs, as what is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dse.cli.console import err, out

import_app = typer.Typer(
    name="import",
    help="Turn a running engine's arguments into a deployment, its metrics or request logs into a workload.",
    no_args_is_help=True,
)

Target = Annotated[Path | None, typer.Option("--out", "-o", help="file to write", show_default="printed")]


@import_app.command()
def engine(
    commands: Annotated[
        list[str],
        typer.Argument(help='command lines ("vllm serve …"), or files: scripts, YAML of the engine; one a pool'),
    ],
    accelerator: Annotated[list[str], typer.Option(help="catalogued accelerator, of all pools or of each in turn")],
    clients: Annotated[list[int] | None, typer.Option(help="engines of each pool that run", show_default="1")] = None,
    model: Annotated[str, typer.Option(help="catalogued model or config.json, if the name tells none")] = "",
    weights: Annotated[str, typer.Option(help="precision of weights, if nothing tells: bf16, fp8, int8, fp4")] = "",
    profile: Annotated[str, typer.Option("--engine", help="catalogued engine whose overheads hold")] = "",
    router: Annotated[str, typer.Option(help="rule of the router; join_shortest_queue if absent")] = "",
    acceptance: Annotated[
        float | None, typer.Option(help="share of drafted tokens that are accepted, with speculation")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="study that it is to start: settings that its space never varies are dropped")
    ] = None,
    target: Target = None,
) -> None:
    """Write the deployment that running vLLM or SGLang servers are: what a study has to beat.

    **Examples**

        dse import engine "vllm serve meta-llama/Llama-3.1-70B-Instruct -tp 4" --accelerator h100-sxm -o today.yaml

        dse import engine prefill.sh decode.sh --accelerator h100-sxm --clients 2 --clients 4 -o today.yaml

        dse run chat --start today.yaml
    """
    from dse.imports import import_engine

    found = import_engine(
        commands,
        accelerator=accelerator,
        clients=clients or 1,
        model=model,
        weights=weights,
        engine=profile,
        router=router,
        acceptance=acceptance,
    )
    deployment, notes = found.deployment, found.notes
    if study is not None:
        from dse.imports.baseline import as_start
        from dse.library import load_study

        deployment, dropped = as_start(deployment, load_study(study))
        notes = (*notes, *dropped)
    import yaml

    # What was not said stays unsaid, so that the engine's defaults hold.
    data = deployment.model_dump(mode="json", exclude_unset=True)
    _write(yaml.safe_dump(data, sort_keys=False), target, notes)


@import_app.command()
def metrics(
    file: Annotated[Path, typer.Argument(help="/metrics of vLLM or SGLang, or an answer of Prometheus to query_range")],
    after: Annotated[Path | None, typer.Argument(help="a later /metrics: what happened between is counted")] = None,
    seconds: Annotated[float | None, typer.Option(help="time between the two, or since the server's start")] = None,
    rate: Annotated[float | None, typer.Option(help="mean rate of requests, per second, instead")] = None,
    requests: Annotated[int | None, typer.Option(help="number of requests to generate")] = None,
    target: Target = None,
) -> None:
    """Write the workload that an engine's metrics describe: rate, bursts and lengths.

    **Examples**

        dse import metrics before.txt after.txt --seconds 3600 -o workload.yaml

        dse import metrics query_range.json -o workload.yaml
    """
    from dse.imports import import_metrics

    found = import_metrics(file, after, seconds=seconds, rate_rps=rate, requests=requests)
    import yaml

    data = found.workload.model_dump(mode="json", exclude_unset=True)
    _write(yaml.safe_dump(data, sort_keys=False), target, found.notes)


@import_app.command()
def requests(
    file: Annotated[Path, typer.Argument(help="log with one request a row: CSV, JSON lines or a JSON list")],
    time: Annotated[str | None, typer.Option(help="column with the arrival", show_default="found by its name")] = None,
    prompt: Annotated[str | None, typer.Option(help="column with the prompt's tokens", show_default="found")] = None,
    output: Annotated[str | None, typer.Option(help="column with the output's tokens", show_default="found")] = None,
    target: Target = None,
) -> None:
    """Write the trace of a request log, which `--trace` of every command reads.

    **Examples**

        dse import requests gateway.jsonl -o requests.csv

        dse import requests log.csv --time started --prompt tokens_in --output tokens_out -o requests.csv

        dse run chat --trace requests.csv
    """
    from dse.imports import import_requests

    found = import_requests(file, time=time, prompt=prompt, output=output)
    _write(found.csv, target, (*found.notes, f"{found.requests:,} requests."))


def _write(text: str, target: Path | None, notes: Sequence[str]) -> None:
    """Write what was made, or print it; notes go to the screen."""
    from dse.output import write_whole

    if target is None:
        typer.echo(text, nl=False)
    else:
        write_whole(target, lambda path: path.write_text(text, encoding="utf-8"))
        out.print(str(target), soft_wrap=True)
    for note in notes:
        err.print(f"- {note}", soft_wrap=True)
