"""``dse plan``: layers over unequal accelerators, stages over hosts, with the solver's proof."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dse.cli.console import out, print_whole

if TYPE_CHECKING:
    from dse.placement.linear_program import Status
    from dse.placement.spec import SplitSpec, StagesSpec
    from dse.placement.split import Pipeline, SplitPlan
    from dse.placement.stages import StagesPlan


def plan(
    file: Annotated[
        Path | None,
        typer.Argument(help="YAML: devices: to split a model's layers, or hosts: and workload: to place stages"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="catalogued model, without a file")] = None,
    devices: Annotated[
        str | None, typer.Option(help="accelerators and how many, without a file, e.g. h100-sxm:2,l4:4")
    ] = None,
    objective: Annotated[str | None, typer.Option(help="throughput or latency; of stages cost or utilisation")] = None,
    order: Annotated[str | None, typer.Option(help="order of the stages: free, or given by --devices")] = None,
    use: Annotated[str | None, typer.Option(help="all: every device has layers; any: as many as are of use")] = None,
    tp: Annotated[list[int] | None, typer.Option(help="tensor parallelism to try; may be repeated")] = None,
    decodes: Annotated[int | None, typer.Option(help="requests that decode in a step; 64 if absent")] = None,
    context_tokens: Annotated[int | None, typer.Option(help="context of each of them; 2048 if absent")] = None,
    prompt_tokens: Annotated[int | None, typer.Option(help="tokens of prompts in a step; 0 if absent")] = None,
    kv_tokens: Annotated[
        int | None, typer.Option(help="tokens of context to hold at once; those of the step if absent")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="precision of weights: bf16, fp8, int8, fp4")] = None,
    kv: Annotated[str | None, typer.Option(help="precision of the KV cache: bf16, fp8, int8")] = None,
    engine: Annotated[str | None, typer.Option(help="catalogued engine and version")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print figures as JSON")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="write the deployment to this file, for `dse simulate`")
    ] = None,
) -> None:
    """Split a model's layers over unequal accelerators, or put the stages of a pipeline on hosts, and prove it.

    A mixed-integer program with the simulator's own times and memory, solved to its end: no other split or placement is
    better by these times. Bubbles are the idle share of the stages of a full pipeline.

    **Examples**

        dse plan --model llama-3.1-70b --devices h100-sxm:2,a100-80gb:2,l4:4

        dse plan --model llama-3.1-70b --devices h100-sxm:2,l4:4 --use any --objective latency --decodes 1

        dse plan plan.yaml -o deployment.yaml
    """
    from dse.output import check_place, write_whole
    from dse.placement.figures import split_figures, stages_figures
    from dse.placement.spec import SplitSpec

    own: dict[str, Any] = {
        "objective": objective,
        "order": order,
        "use": use,
        "tp": tp or None,
        "decodes": decodes,
        "context_tokens": context_tokens,
        "prompt_tokens": prompt_tokens,
        "kv_tokens": kv_tokens,
        "weights": weights,
        "kv": kv,
        "engine": engine,
        "model": model,
        "devices": None if devices is None else _devices(devices),
    }
    spec = _spec(file, {name: value for name, value in own.items() if value is not None})
    if output is not None:
        from simulator.performance.engine_defaults import resolved

        check_place(output)
    if isinstance(spec, SplitSpec):
        from dse.placement.split import plan_split

        with _quiet():
            split = plan_split(spec)
        figures, deployment = split_figures(split), split.deployment
        if not as_json:
            _show_split(split)
    else:
        from dse.placement.stages import plan_stages

        with _quiet():
            stages = plan_stages(spec)
        figures, deployment = stages_figures(stages), stages.deployment
        if not as_json:
            _show_stages(stages)
    if as_json:
        typer.echo(json.dumps(figures, indent=2, allow_nan=False))
    if output is not None:
        write_whole(output, lambda path: path.write_text(resolved(deployment).to_yaml(), encoding="utf-8"))
        if not as_json:
            out.print(f"wrote {output}; try: dse simulate {output}", soft_wrap=True)


def _devices(text: str) -> list[dict[str, Any]]:
    """Return ``h100-sxm:2,l4:4`` as the specification has it.

    Raises
    ------
    SpecError
        If it is not written so.
    """
    from simulator import SpecError, catalog

    found = []
    for part in catalog.split_names(text):
        name, _, count = part.strip().partition(":")
        if not name or not count.isdecimal():
            raise SpecError(f"--devices: {part.strip()!r} given; allowed: name:count, e.g. h100-sxm:2,l4:4")
        found.append({"accelerator": name, "count": int(count)})
    return found


def _spec(file: Path | None, own: dict[str, Any]) -> SplitSpec | StagesSpec:
    """Return what is asked: a file, changed by options, or options alone.

    Raises
    ------
    SpecError
        Naming the field, or what is missing.
    """
    from dse.placement.spec import SplitSpec, StagesSpec
    from simulator import SpecError
    from simulator.spec.base import read_yaml

    if file is None:
        if "model" not in own or "devices" not in own:
            raise SpecError("plan: give a file, or --model and --devices, e.g. --devices h100-sxm:2,l4:4")
        return SplitSpec.parse(own, source="options")
    data = read_yaml(file)
    if not isinstance(data, dict) or ("hosts" in data) == ("devices" in data or "devices" in own):
        raise SpecError(f"{file}: give either devices: (layers are split) or hosts: and workload: (stages are placed)")
    kind = StagesSpec if "hosts" in data else SplitSpec
    return kind.parse(data | own, source=str(file))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the solver's library prints to the standard output out of it: HiGHS leaves some lines in."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def _show_split(plan: SplitPlan) -> None:
    from rich.table import Table

    from dse.provenance import caveat
    from dse.words import number, percent, plural, seconds

    spec, best = plan.spec, plan.planned
    step = [f"{plural(spec.decodes, 'request')} decoding after {spec.context_tokens:,} tokens"] if spec.decodes else []
    step += [f"{spec.prompt_tokens:,} prompt tokens"] if spec.prompt_tokens else []
    devices = len(best.stages) * best.pool.tp
    out.print(
        f"{spec.model} in {spec.weights} over {plural(devices, 'device')}: "
        f"{plural(len(best.stages), 'stage')} of tp {best.pool.tp}, for {spec.objective}; a step: {', '.join(step)}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for name in ("layers", "GB used", "GB allowed", "work on a step"):
        table.add_column(name, justify="right")
    table.add_column("")
    for place, stage in enumerate(best.stages):
        table.add_row(
            f"{place + 1}  {best.pool.tp} x {stage.accelerator}",
            f"{stage.layers}",
            f"{stage.memory_bytes / 1e9:.1f}",
            f"{stage.allowed_bytes / 1e9:.1f}",
            seconds(stage.work_s),
            "bottleneck" if place == best.bottleneck else "",
        )
    print_whole(table)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("layers", "bubbles", "longest stage", "way", "simulated step", "KV tokens"):
        table.add_column(name, justify="right")
    for name, each in (("planned", best), ("uniform", plan.uniform)):
        table.add_row(name, *_row(each, percent, seconds))
    print_whole(table)
    lacking = [f"{stage.accelerator}" for stage in plan.uniform.stages if not stage.fits]
    if lacking:
        names = ", ".join(dict.fromkeys(lacking))
        out.print(f"the uniform split has not the memory for this KV on {names}", soft_wrap=True)
    if plan.spec.objective == "throughput":
        faster = plan.uniform.step_s / best.step_s
        out.print(f"a step is {number(faster)} times as fast as with the uniform split", soft_wrap=True)
    tried = len(plan.alternatives)
    _show_proof(plan.status, seconds(plan.objective_s), seconds(plan.bound_s), plan.gap, f"{tried} tp x stages tried")
    note = caveat([best.pool])
    if note:
        out.print(note, style="dim", soft_wrap=True)


def _row(pipeline: Pipeline, percent: Any, seconds: Any) -> list[str]:
    return [
        " ".join(map(str, pipeline.layers)),
        percent(pipeline.bubbles),
        seconds(pipeline.stages[pipeline.bottleneck].work_s),
        seconds(pipeline.way_s),
        seconds(pipeline.step_s),
        f"{pipeline.kv_tokens:,}",
    ]


def _show_proof(status: Status, objective: str, bound: str, gap: float, tried: str) -> None:
    proved = "proved optimal" if status == "optimal" else "the best found in time"
    out.print(f"{proved}: objective {objective}, no other below {bound}, gap {gap:.2%} ({tried})", soft_wrap=True)


def _show_stages(plan: StagesPlan) -> None:
    from rich.table import Table

    from dse.provenance import caveat
    from dse.words import number, percent

    out.print(
        f"{plan.spec.model} and its services at {number(plan.rate_rps)} requests/s: prefill and decode {plan.layout}, "
        f"{plan.usd_per_hour:.2f} USD/h",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("clients")
    for name in ("requests/s each", "use of the stage", "USD/h"):
        table.add_column(name, justify="right")
    table.add_column("")
    for each in plan.placed:
        table.add_row(
            each.capacity.stage,
            f"{each.clients} of {each.capacity.devices} x {each.capacity.device}",
            number(each.capacity.requests_per_s),
            percent(each.utilisation),
            f"{each.usd_per_hour:.2f}",
            "bottleneck" if each.capacity.stage == plan.bottleneck.capacity.stage else "",
        )
    print_whole(table)
    if plan.spec.objective == "cost":
        objective, bound = f"{plan.objective:.2f} USD/h", f"{plan.bound:.2f} USD/h"
    else:
        objective, bound = percent(plan.objective), percent(plan.bound)
    tried = ", ".join(f"{each.name} {each.status}" for each in plan.layouts)
    _show_proof(plan.status, objective, bound, plan.gap, tried)
    note = caveat(plan.deployment.pools)
    if note:
        out.print(note, style="dim", soft_wrap=True)
