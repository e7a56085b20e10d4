"""``dse explain``: where the time of a step goes."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dse.cli.console import out, print_whole
from dse.cli.described import described_deployment

if TYPE_CHECKING:
    from rich.table import Table

    from dse.explain.breakdown import Conditions, DeploymentBreakdown, PoolBreakdown, ServiceBreakdown
    from simulator.performance.explanation import StageRows, StepExplanation


class Steps(StrEnum):
    """Which steps to take apart."""

    prefill = "prefill"
    decode = "decode"
    mixed = "mixed"
    both = "both"


def explain(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="YAML: a deployment, or one page with deployment: and workload:; or describe one pool by the options"
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="model, without a file; llama-3.1-70b if absent")] = None,
    accelerator: Annotated[str | None, typer.Option(help="accelerator, without a file; h100-sxm if absent")] = None,
    tp: Annotated[int | None, typer.Option(help="tensor parallelism, without a file; 4 if absent")] = None,
    pool: Annotated[str | None, typer.Option(help="the only pool to look at; all pools and services if absent")] = None,
    prompt_tokens: Annotated[int, typer.Option(help="prompt as the LLM reads it")] = 1024,
    context_tokens: Annotated[int, typer.Option(help="tokens whose KV each decoding request has")] = 1024,
    output_tokens: Annotated[int, typer.Option(help="answer, for services after the LLM")] = 256,
    batch: Annotated[int, typer.Option(help="requests that decode at once")] = 32,
    step: Annotated[
        Steps, typer.Option(help="prefill: a lone prompt; decode: a batch; mixed: a prompt beside a batch; both")
    ] = Steps.both,
    as_json: Annotated[bool, typer.Option("--json", help="print figures as JSON")] = False,
    target: Annotated[Path | None, typer.Option("--out", "-o", help="write a page with figures to this .html")] = None,
) -> None:
    """Take a step apart: every operator's time, operations, bytes, and what bounds it.

    A lone prompt and a batch of decodes on one client of each pool, and a full batch of each service. Times are those
    that the simulator counts; operations and bytes are those of one accelerator.

    **Examples**

        dse explain --model llama-3.1-8b --accelerator h100-sxm --tp 1

        dse explain --model llama-3.1-70b --tp 8 --step decode --batch 128 --context-tokens 4000

        dse explain docs/examples/rag.yaml --prompt-tokens 2000 --out rag.html

        dse explain deployment.yaml --pool main --step mixed --json
    """
    from dse.explain.breakdown import STEPS, Conditions, explain_deployment, to_json
    from dse.output import check_place, write_whole
    from simulator import SpecError

    if target is not None:
        if target.suffix != ".html":
            raise SpecError(f"--out: must end in .html, given {target}")
        check_place(target)
    deployment, workload = described_deployment(file, model=model, accelerator=accelerator, tp=tp)
    kinds = STEPS[:2] if step is Steps.both else tuple(kind for kind in STEPS if kind == step.value)
    conditions = Conditions(prompt_tokens, context_tokens, batch, output_tokens)
    found = explain_deployment(deployment, workload, conditions, pool=pool, steps=kinds)
    if target is not None:
        from dse.explain.page import render_explanation

        page = render_explanation(found, str(file) if file else "")
        write_whole(target, lambda path: path.write_text(page, encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=2, allow_nan=False))
    else:
        _show(found)
    if target is not None and not as_json:
        out.print(f"\npage: {target}", soft_wrap=True)


def _show(found: DeploymentBreakdown) -> None:
    for number, each in enumerate(found.pools):
        if number:
            out.print()
        _show_pool(each, found.conditions)
    if found.services:
        out.print()
        print_whole(_services(found.services))
    for note in found.notes:
        out.print(f"note: {note}", soft_wrap=True)


def _show_pool(each: PoolBreakdown, conditions: Conditions) -> None:
    from dse import words
    from dse.explain.words import step_totals, step_words

    pool = each.pool
    out.print(f"pool {pool.name}: {each.engine.model.name} on {words.clients(pool)}, {pool.weights}", soft_wrap=True)
    out.print(f"  kernels {each.kernels_words}", soft_wrap=True)
    out.print(f"  engine {each.engine_words}", soft_wrap=True)
    for step in each.steps:
        out.print()
        out.print(step_words(step, conditions), style="bold", soft_wrap=True)
        out.print(f"  {step_totals(step)}", soft_wrap=True)
        for first, last, stage in step.groups:
            if len(step.stages) > 1:
                which = f"stage {first}" if first == last else f"stages {first} to {last}"
                out.print(f"  pipeline {which} of {len(step.stages)}, {stage.stage.layers} layers")
            print_whole(_operators(step, stage))
    for note in each.notes:
        out.print(f"note: {note}", soft_wrap=True)


def _operators(step: StepExplanation, stage: StageRows) -> Table:
    from rich.table import Table

    from dse.explain.words import scaled
    from dse.words import number, percent, seconds

    table = Table(box=None)
    table.add_column("operator", no_wrap=True)
    for heading in ("time", "share", "FLOP", "bytes", "FLOP/byte", "of peak"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("bound by", no_wrap=True)
    for row in sorted(stage.rows, key=lambda row: -row.seconds):
        intensity = row.intensity
        peak = max(
            row.flops / (row.seconds * step.peak_flops_per_s), row.moved_bytes / (row.seconds * step.peak_bytes_per_s)
        )
        moved = row.moved_bytes or row.link_bytes
        table.add_row(
            row.operator,
            seconds(row.seconds),
            percent(row.seconds / step.seconds),
            scaled(row.flops) if row.flops else "–",
            (scaled(moved) + ("" if row.moved_bytes else " sent")) if moved else "–",
            number(intensity) if intensity and row.flops else "–",
            percent(peak) if peak else "–",
            row.bound,
        )
    return table


def _services(services: tuple[ServiceBreakdown, ...]) -> Table:
    from rich.table import Table

    from dse.words import number, seconds

    table = Table(box=None)
    for heading in ("service", "device", "clients", "batch", "work", "time of a batch", "requests/s", "bound by"):
        table.add_column(heading, justify="left" if heading in ("service", "device", "bound by") else "right")
    for each in services:
        work = "–" if each.quantity == "none" else f"{each.units:,} {each.unit_words}"
        devices = f"{each.service.devices} x " if each.service.devices > 1 else ""
        table.add_row(
            each.stage.name,
            f"{devices}{each.service.device}",
            f"{each.service.clients:,}",
            f"{each.service.max_batch_requests:,}",
            work,
            seconds(each.seconds),
            number(each.requests_per_s),
            each.bound,
        )
    return table
