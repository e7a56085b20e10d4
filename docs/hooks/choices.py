"""What there is to choose from, as Markdown tables: metrics, samplers, and the catalogue with its sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dse.objectives import LATENCIES, METRICS
from dse.samplers import SAMPLERS
from simulator import catalog


def _table(headings: str, rows: Iterable[Sequence[object]], numbers: int = 0) -> str:
    """Return a table; so many of its last columns are aligned to the right."""
    names = headings.split(", ")
    rule = ["---"] * (len(names) - numbers) + ["---:"] * numbers
    lines = [names, rule, *([str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _sources(sources: dict[str, str]) -> str:
    return "; ".join(f"{name}: {source}" for name, source in sources.items())


def metrics() -> str:
    """Return every metric, and the latencies that are metrics at each percentile."""
    rows = [(f"`{each.name}`", each.direction, each.unit or "–", each.description) for each in METRICS.values()]
    for name, meaning in LATENCIES.items():
        rows.append((f"`{name}_p99_s`, `{name}_mean_s`, …", "minimize", "s", f"{meaning}: any percentile, or the mean"))
    return _table("metric, better, unit, is", rows)


def samplers() -> str:
    """Return every way to propose designs."""
    return _table("sampler, proposes", [(f"`{name}`", rule) for name, rule in SAMPLERS.items()])


def accelerators() -> str:
    """Return every accelerator."""
    chips = [catalog.accelerator(name) for name in catalog.accelerator_names()]
    figures = [
        (
            f"`{chip.name}`",
            f"{chip.memory_gb:g}",
            f"{chip.memory_bandwidth_gb_per_s:,.0f}",
            *(
                f"{chip.peak_tflops[at]:,.0f}" if at in chip.peak_tflops else "–"
                for at in ("bf16", "fp8", "int8", "fp4")
            ),
            f"{chip.scale_up.gb_per_s:g} × {chip.scale_up.devices}",
            f"{chip.scale_out_gb_per_s:g}",
            f"{chip.tdp_w:g}",
            f"{chip.price_usd_per_hour:.2f}",
        )
        for chip in chips
    ]
    headings = (
        "accelerator, memory GB, memory GB/s, bf16 TFLOPS, fp8 TFLOPS, int8 TOPS, fp4 TFLOPS, link GB/s × devices, "
        "network GB/s, TDP W, USD/h"
    )
    said = [(f"`{chip.name}`", chip.vendor, _sources(chip.sources)) for chip in chips]
    return (
        _table(headings, figures, 10) + "\n### Sources of the accelerators\n\n" + _table("name, vendor, sources", said)
    )


def processors() -> str:
    """Return every server processor."""
    cpus = [catalog.cpu(name) for name in catalog.cpu_names()]
    rows = [
        (
            f"`{cpu.name}`",
            cpu.cores,
            f"{cpu.memory_gb:g}",
            f"{cpu.memory_bandwidth_gb_per_s:,.0f}",
            f"{cpu.tdp_w:g}",
            f"{cpu.price_usd_per_hour:.2f}",
        )
        for cpu in cpus
    ]
    said = [(f"`{cpu.name}`", cpu.vendor, _sources(cpu.sources)) for cpu in cpus]
    headings = "processor, cores, memory GB, memory GB/s, TDP W, USD/h"
    return _table(headings, rows, 5) + "\n### Sources of the processors\n\n" + _table("name, vendor, sources", said)


def tiers() -> str:
    """Return every kind of memory tier."""
    rows = []
    for name in catalog.tier_names():
        tier = catalog.tier(name)
        figures = (f"{tier.memory_gb:g}", f"{tier.gb_per_s:g}", f"{tier.latency_us:g}", f"{tier.usd_per_gb_hour:g}")
        rows.append((f"`{name}`", tier.description, *figures))
    return _table("tier, is, memory GB, GB/s, latency µs, USD/(GB·h)", rows, 4)


def links() -> str:
    """Return every kind of link."""
    rows = [(f"`{name}`", catalog.link_profile(name).description) for name in catalog.link_profile_names()]
    return _table("link, is", rows)


def engines() -> str:
    """Return every engine."""
    rows = []
    for name in catalog.engine_names():
        engine = catalog.engine_profile(name)
        fitted = ", ".join(engine.accelerators) or "by hand"
        rows.append((f"`{name}`", fitted, f"{engine.step_us / 1e3:.2f}", f"{engine.request_us / 1e3:.2f}"))
    return _table("engine, fitted on, step ms, request ms", rows, 2)


def models() -> str:
    """Return every model."""
    rows = []
    for name in catalog.model_names():
        model = catalog.model(name)
        kv = f"{2 * model.kv_elements_per_token:,}" if model.kind == "decoder" else "–"
        rows.append(
            (
                f"`{name}`",
                model.kind,
                model.source,
                f"{model.parameters / 1e9:.1f}",
                f"{model.active_parameters_per_token / 1e9:.1f}",
                model.layers,
                kv,
                f"{model.max_context_tokens:,}",
            )
        )
    headings = "model, kind, source, parameters 1e9, active 1e9, layers, KV bytes a token (bf16), context tokens"
    return _table(headings, rows, 5)
