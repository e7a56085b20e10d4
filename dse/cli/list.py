"""``dse list``: what is there to choose from."""

from __future__ import annotations

import typer
from rich.table import Table

from dse.cli.console import out

list_app = typer.Typer(
    name="list",
    help="List shipped studies, catalogued models, hardware or engines, samplers or metrics.",
    no_args_is_help=True,
)


@list_app.command()
def studies() -> None:
    """List shipped studies."""
    from dse.library import family_names, load_family

    table = Table("study", "objectives", "question", box=None)
    for name in family_names():
        family = load_family(name)
        members = ", ".join(member.label for member in family.members if member.label)
        asked = f"{family.question}\n(members: {members})" if members else family.question
        table.add_row(name, "\n".join(family.objectives), asked)
    out.print(table)


@list_app.command()
def samplers() -> None:
    """List ways to propose designs."""
    from dse.samplers import SAMPLERS

    table = Table("sampler", "proposes", box=None)
    for name, rule in SAMPLERS.items():
        table.add_row(name, rule)
    out.print(table)


@list_app.command()
def metrics() -> None:
    """List what studies can optimise and bound."""
    from dse.objectives import LATENCIES, METRICS

    table = Table("metric", "better", "unit", "is", box=None)
    for metric in METRICS.values():
        table.add_row(metric.name, metric.direction, metric.unit, metric.description)
    for name, meaning in LATENCIES.items():
        table.add_row(f"{name}_p99_s, {name}_mean_s, …", "minimize", "s", f"{meaning}: any percentile, or the mean")
    out.print(table)


@list_app.command()
def models() -> None:
    """List catalogued models; the path of a Hugging Face config.json serves as well."""
    from simulator import catalog

    table = Table(box=None)
    table.add_column("model", no_wrap=True)
    for heading in ("parameters", "active", "layers", "KV bytes/token (bf16)", "context"):
        table.add_column(heading, justify="right")
    for name in catalog.model_names():
        model = catalog.model(name)
        table.add_row(
            name,
            f"{model.parameters / 1e9:.1f} B",
            f"{model.active_parameters_per_token / 1e9:.1f} B",
            str(model.layers),
            f"{2 * model.kv_elements_per_token:,}" if model.kind == "decoder" else "encoder",
            f"{model.max_context_tokens:,}",
        )
    out.print(table)


@list_app.command()
def engines() -> None:
    """List catalogued engines; the path of a profile from `dse calibrate engine` serves as well."""
    from simulator import catalog

    table = Table(box=None)
    table.add_column("engine", no_wrap=True)
    for heading in ("step ms", "request ms", "batch", "step tokens"):
        table.add_column(heading, justify="right")
    table.add_column("fitted on")
    for name in catalog.engine_names():
        engine = catalog.engine_profile(name)
        limits = engine.defaults.max_batch_requests, engine.defaults.token_budget_tokens
        table.add_row(
            name,
            f"{engine.step_us / 1e3:.2f}",
            f"{engine.request_us / 1e3:.2f}",
            *(f"{limit:,}" if limit else "-" for limit in limits),
            ", ".join(engine.accelerators) or "by hand",
        )
    out.print(table)


@list_app.command()
def hardware() -> None:
    """List catalogued accelerators, and processors for services."""
    from simulator import catalog

    table = Table(box=None)
    for heading in (
        "accelerator",
        "memory GB",
        "GB/s",
        "bf16 TFLOPS",
        "fp8 TFLOPS",
        "link GB/s",
        "TDP W",
        "USD/h",
    ):
        table.add_column(heading, justify="left" if heading == "accelerator" else "right")
    for name in catalog.accelerator_names():
        chip = catalog.accelerator(name)
        peaks = [chip.peak_tflops.get("bf16"), chip.peak_tflops.get("fp8")]
        table.add_row(
            name,
            f"{chip.memory_gb:g}",
            f"{chip.memory_bandwidth_gb_per_s:,.0f}",
            *(f"{peak:,.0f}" if peak else "-" for peak in peaks),
            f"{chip.scale_up.gb_per_s:g}",
            f"{chip.tdp_w:g}",
            f"{chip.price_usd_per_hour:.2f}",
        )
    out.print(table)
    processors = Table(box=None)
    processors.add_column("processor", no_wrap=True)
    for heading in ("cores", "memory GB", "GB/s", "TDP W", "USD/h"):
        processors.add_column(heading, justify="right")
    for name in catalog.cpu_names():
        cpu = catalog.cpu(name)
        processors.add_row(
            name,
            str(cpu.cores),
            f"{cpu.memory_gb:g}",
            f"{cpu.memory_bandwidth_gb_per_s:,.0f}",
            f"{cpu.tdp_w:g}",
            f"{cpu.price_usd_per_hour:.2f}",
        )
    out.print()
    out.print(processors)
