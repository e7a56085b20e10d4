"""``dse simulate``: one deployment, one workload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dse.cli.console import NOT_FEASIBLE, announce_compilation, err, out
from dse.cli.described import described_deployment
from dse.cli.overrides import change_workload
from dse.once import simulation_figures
from dse.words import METRICS, number, seconds
from simulator import SLO, Result, SpecError, Workload
from simulator import simulate as run_simulation
from simulator.performance.provenance import provenance_of


def simulate(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="YAML: a deployment, or one page with deployment: and workload:; or describe one pool by the options"
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="model, without a file; llama-3.1-70b if absent")] = None,
    accelerator: Annotated[str | None, typer.Option(help="accelerator, without a file; h100-sxm if absent")] = None,
    clients: Annotated[int | None, typer.Option(help="number of clients, without a file; 1 if absent")] = None,
    tp: Annotated[int | None, typer.Option(help="tensor parallelism, without a file; 4 if absent")] = None,
    workload: Annotated[Path | None, typer.Option(help="workload in YAML")] = None,
    trace: Annotated[Path | None, typer.Option(help="replay a trace instead")] = None,
    rate: Annotated[float | None, typer.Option(help="mean rate of requests, per second")] = None,
    requests: Annotated[int | None, typer.Option(help="number of requests")] = None,
    slo: Annotated[
        list[str] | None, typer.Option(help="metric:percentile:seconds, e.g. ttft:99:2; may be repeated")
    ] = None,
    noise: Annotated[
        bool,
        typer.Option("--noise", help="give steps the noise of their engine's profile, unless the pool has its own"),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print figures as JSON")] = False,
    table: Annotated[Path | None, typer.Option("--requests-csv", help="write one row a request to this file")] = None,
    trace_out: Annotated[
        Path | None, typer.Option(help="write what clients and requests did when to this file, for ui.perfetto.dev")
    ] = None,
    series_out: Annotated[
        Path | None, typer.Option(help="write queues, batches and use over time to this CSV file")
    ] = None,
) -> None:
    """Simulate one deployment and print latencies, throughput, cost and what limits it.

    A deployment may have several models, services, tiers of KV; a workload classes, sessions, shared prefixes.
    One file may hold both, under deployment: and workload:. Without a workload it serves 10 000 requests shaped like
    the Azure 2023 conversation trace, one a second.

    **Examples**

        dse simulate --model llama-3.1-8b --accelerator l40s --tp 1 --clients 4 --rate 8

        dse simulate docs/examples/agents.yaml

        dse simulate deployment.yaml --trace requests.csv --slo ttft:99:2 --slo tpot:90:0.05

        dse simulate deployment.yaml --workload agents.yaml --slo session:90:60

        dse simulate deployment.yaml --workload agents.yaml --trace-out run.json --series-out run.csv
    """
    from dse.output import check_place, write_whole
    from dse.spec import check_session_metrics

    slos = [_slo(text) for text in slo or ()]
    system, load = described_deployment(file, model=model, accelerator=accelerator, clients=clients, tp=tp)
    if workload is not None:
        load = Workload.from_yaml(workload)
    if load is None:
        arrivals = {"process": "statistics", "statistics": "azure-2023-conversation", "rate_rps": 1.0}
        lengths = {"statistics": "azure-2023-conversation"}
        load = Workload.parse({"arrivals": arrivals, "lengths": lengths})
    load = change_workload(load, trace=trace, rate=rate, requests=requests)
    check_session_metrics((limit.name for limit in slos), load)
    for path in (table, trace_out, series_out):
        if path is not None:
            check_place(path)

    if noise:
        from dse.validation.noise import with_engine_noise

        system = with_engine_noise(system)
    announce_compilation()
    result = run_simulation(system, load, log=trace_out is not None or series_out is not None)
    broken: list[SLO] = [limit for limit in slos if result.violation(limit) > 0]
    if table is not None:
        write_whole(table, lambda path: result.requests().to_csv(path))
    if trace_out is not None:
        from simulator.timeline import write_perfetto

        write_whole(trace_out, lambda path: write_perfetto(result, path))
    if series_out is not None:
        from simulator.timeline import series

        write_whole(series_out, lambda path: series(result).to_csv(path))
    if as_json:
        typer.echo(json.dumps(simulation_figures(result, slos), indent=2, allow_nan=False))
    else:
        _show(result, slos)
    if broken:
        err.print(f"missed: {', '.join(limit.name for limit in broken)}")
        raise typer.Exit(NOT_FEASIBLE)


def _slo(text: str) -> SLO:
    """Return the SLO that an option describes."""
    parts = text.split(":")
    try:
        metric, percentile, limit = parts[0], float(parts[1]), float(parts[2])
    except (IndexError, ValueError):
        raise SpecError(f"--slo: given {text!r}; expected metric:percentile:seconds, e.g. ttft:99:2") from None
    return SLO.parse({"metric": metric, "percentile": percentile, "limit_s": limit}, source=f"--slo {text}")


def _show(result: Result, slos: list[SLO]) -> None:
    summary = result.summary()
    latencies = Table(box=None)
    for heading in ("latency", "p50", "p90", "p99"):
        latencies.add_column(heading, justify="left" if heading == "latency" else "right")
    metrics = [metric for metric in METRICS if f"{metric}_p50_s" in summary]
    for metric in metrics:
        values = (seconds(summary[f"{metric}_p{percent}_s"]) for percent in (50, 90, 99))
        latencies.add_row(metric, *values)
    out.print(latencies)
    out.print()
    figures = Table(box=None, show_header=False)
    figures.add_column("")
    figures.add_column("", justify="right")
    for name, value in summary.items():
        if name.split("_")[0] not in metrics:
            figures.add_row(name, seconds(value) if name == "span_s" else number(value))
    out.print(figures)
    if result.rejected:
        out.print(
            "rejected: no client has KV memory for a prompt and its answer, or no pool takes prompts of that length "
            "(min_prompt_tokens, max_prompt_tokens)",
            style="bold",
            soft_wrap=True,
        )
    several = len({pool.stage for pool in result.deployment.pools}) > 1
    for plan, use in zip(result.lowered.pools, result.pools, strict=True):
        name = f"{use.name} of {plan.pool.stage}" if several and plan.pool.stage != use.name else use.name
        hits = f"prefix cache spared {use.cache_hits:.0%} of prompt tokens; " if plan.pool.prefix_cache else ""
        out.print(
            f"pool {name}: busy {use.busy:.0%}, compute {use.compute:.0%}, "
            f"memory bandwidth {use.memory_bandwidth:.0%}, KV peak {use.kv_peak:.0%}; {hits}"
            f"limited by {use.bottleneck} · {provenance_of(plan.engine).words}",
            soft_wrap=True,
        )
    for service in result.services:
        out.print(
            f"service {service.name}: busy {service.busy:.0%}, {service.mean_batch:.1f} requests a batch; "
            f"limited by {service.bottleneck}",
            soft_wrap=True,
        )
    for tier in result.tiers:
        out.print(
            f"tier {tier.name}: {tier.fetched_tokens:,} prompt tokens fetched, {tier.stored_tokens:,} stored, "
            f"{tier.full:.0%} full at the end",
            soft_wrap=True,
        )
    for slo in slos:
        reached = seconds(result.percentile_s(slo.metric, slo.percentile))
        verdict = "kept" if result.violation(slo) <= 0 else "missed"
        out.print(
            f"{slo.metric} p{slo.percentile:g}: {reached} of {seconds(slo.limit_s)} allowed, {verdict} "
            f"({result.attainment(slo):.2%} within)"
        )
