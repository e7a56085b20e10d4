"""``dse simulate``: one deployment, one workload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dse.cli.console import NOT_FEASIBLE, announce_compilation, err, out
from dse.cli.overrides import change_workload
from dse.words import number, seconds
from simulator import SLO, Deployment, Pool, Result, SpecError, Workload
from simulator import simulate as run_simulation


def simulate(
    deployment: Annotated[
        Path | None, typer.Argument(help="deployment in YAML; or describe one pool by the options below")
    ] = None,
    model: Annotated[str, typer.Option(help="model, without a deployment file")] = "llama-3.1-70b",
    accelerator: Annotated[str, typer.Option(help="accelerator, without a deployment file")] = "h100-sxm",
    clients: Annotated[int, typer.Option(help="number of clients, without a deployment file")] = 1,
    tp: Annotated[int, typer.Option(help="tensor parallelism, without a deployment file")] = 4,
    workload: Annotated[Path | None, typer.Option(help="workload in YAML")] = None,
    trace: Annotated[Path | None, typer.Option(help="replay a trace instead")] = None,
    rate: Annotated[float | None, typer.Option(help="mean rate of requests, per second")] = None,
    requests: Annotated[int | None, typer.Option(help="number of requests")] = None,
    slo: Annotated[
        list[str] | None, typer.Option(help="metric:percentile:seconds, e.g. ttft:99:2; may be repeated")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print figures as JSON")] = False,
    table: Annotated[Path | None, typer.Option("--requests-csv", help="write one row a request to this file")] = None,
) -> None:
    """Simulate one deployment and print latencies, throughput, cost and what limits it.

    Without a workload it serves 10 000 requests shaped like the Azure 2023 conversation trace, one a second.

    **Examples**

        dse simulate --model llama-3.1-8b --accelerator l40s --tp 1 --clients 4 --rate 8

        dse simulate deployment.yaml --trace requests.csv --slo ttft:99:2 --slo tpot:90:0.05
    """
    from dse.output import write_whole

    slos = [_slo(text) for text in slo or ()]
    if deployment is not None:
        system = Deployment.from_yaml(deployment)
    else:
        pool = {"model": model, "accelerator": accelerator, "clients": clients, "tp": tp}
        system = Deployment(pools=(Pool.parse(pool, source="options"),))
    if workload is not None:
        load = Workload.from_yaml(workload)
    else:
        arrivals = {"process": "statistics", "statistics": "azure-2023-conversation", "rate_rps": 1.0}
        lengths = {"statistics": "azure-2023-conversation"}
        load = Workload.parse({"arrivals": arrivals, "lengths": lengths})
    load = change_workload(load, trace=trace, rate=rate, requests=requests)

    announce_compilation()
    result = run_simulation(system, load)
    broken: list[SLO] = [limit for limit in slos if result.violation(limit) > 0]
    if table is not None:
        write_whole(table, lambda path: result.requests().to_csv(path))
    if as_json:
        pools = [{**vars(use), "bottleneck": use.bottleneck} for use in result.pools]
        services = [vars(use) for use in result.services]
        figures = {**result.summary(), "bottleneck": result.bottleneck, "pools": pools, "services": services}
        typer.echo(json.dumps(figures, indent=2))
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
    for metric in ("ttft", "tpot", "itl", "e2e"):
        values = (seconds(summary[f"{metric}_p{percent}_s"]) for percent in (50, 90, 99))
        latencies.add_row(metric, *values)
    out.print(latencies)
    out.print()
    figures = Table(box=None, show_header=False)
    figures.add_column("")
    figures.add_column("", justify="right")
    for name, value in summary.items():
        if name.split("_")[0] not in ("ttft", "tpot", "itl", "e2e"):
            figures.add_row(name, seconds(value) if name == "span_s" else number(value))
    out.print(figures)
    for use in result.pools:
        out.print(
            f"pool {use.name}: busy {use.busy:.0%}, compute {use.compute:.0%}, "
            f"memory bandwidth {use.memory_bandwidth:.0%}, KV peak {use.kv_peak:.0%}; limited by {use.bottleneck}"
        )
    for service in result.services:
        out.print(
            f"service {service.name}: busy {service.busy:.0%}, {service.mean_batch:.1f} requests a batch; "
            f"limited by {service.bottleneck}"
        )
    for slo in slos:
        reached = seconds(result.percentile_s(slo.metric, slo.percentile))
        verdict = "kept" if result.violation(slo) <= 0 else "missed"
        out.print(
            f"{slo.metric} p{slo.percentile:g}: {reached} of {seconds(slo.limit_s)} allowed, {verdict} "
            f"({result.attainment(slo):.2%} within)"
        )
