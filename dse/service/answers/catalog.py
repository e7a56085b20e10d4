"""Everything that a specification can name, with what a person must know to choose."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, Field

from dse.library import load_study, study_names
from dse.objectives import LATENCIES, METRICS, metric, needs_slos
from dse.samplers import SAMPLERS
from simulator import catalog
from simulator.spec.arrivals import SHIPPED_STATISTICS

SHOWN_LATENCIES: Final = ("p50", "p90", "p99", "mean")
"""Of each latency; every other percentile is a metric, too."""
Calibrated = Literal["yes", "transferred", "datasheet", "by hand"]


class CatalogModel(BaseModel):
    """A model."""

    name: str
    kind: Literal["decoder", "encoder"]
    parameters: float
    active_parameters: float = Field(description="by token")
    layers: int
    kv_bytes_per_token: int = Field(description="in bf16")
    max_context_tokens: int
    source: str


class CatalogAccelerator(BaseModel):
    """An accelerator."""

    name: str
    vendor: str
    memory_gb: float
    memory_bandwidth_gb_per_s: float
    peak_tflops: dict[str, float] = Field(description="by precision, dense")
    link_gb_per_s: float
    link_devices: int = Field(description="accelerators that are joined by it")
    tdp_w: float
    idle_w: float
    usd_per_hour: float
    calibrated: Calibrated = Field(description="whether its kernels were measured")
    transferred_from: str | None


class CatalogCpu(BaseModel):
    """A processor for services."""

    name: str
    vendor: str
    cores: int
    memory_gb: float
    memory_bandwidth_gb_per_s: float
    tdp_w: float
    usd_per_hour: float


class CatalogTier(BaseModel):
    """A memory for KV behind the accelerators."""

    name: str
    description: str
    memory_gb: float
    gb_per_s: float
    latency_us: float
    usd_per_gb_hour: float


class CatalogLink(BaseModel):
    """A kind of link."""

    name: str
    description: str
    calibrated: Calibrated
    source: str


class CatalogEngine(BaseModel):
    """An engine and its version."""

    name: str
    calibrated: Calibrated
    accelerators: list[str] = Field(description="that it was fitted on; on others its figures are transferred")
    max_batch_requests: int | None
    token_budget_tokens: int | None
    note: str
    source: str


class CatalogMetric(BaseModel):
    """What studies can optimise and bound."""

    name: str
    label: str
    direction: Literal["minimize", "maximize"]
    unit: str
    description: str
    needs_slos: bool = Field(description="whether it says nothing in a study without SLOs")


class CatalogSampler(BaseModel):
    """A way to propose designs."""

    name: str
    rule: str


class CatalogStudy(BaseModel):
    """A shipped study."""

    name: str
    question: str
    objectives: list[str]


class Catalog(BaseModel):
    """Everything that a specification can name."""

    models: list[CatalogModel]
    accelerators: list[CatalogAccelerator]
    cpus: list[CatalogCpu]
    tiers: list[CatalogTier]
    links: list[CatalogLink]
    engines: list[CatalogEngine]
    metrics: list[CatalogMetric]
    latencies: dict[str, str] = Field(description="what each latency is; a metric at every percentile, and as a mean")
    statistics: list[str] = Field(description="learned from traces, for arrivals and lengths")
    samplers: list[CatalogSampler]
    studies: list[CatalogStudy]


def catalog_of() -> Catalog:
    """Return everything that a specification can name; takes some seconds."""
    return Catalog(
        models=[_model(name) for name in catalog.model_names()],
        accelerators=[_accelerator(name) for name in catalog.accelerator_names()],
        cpus=[_cpu(name) for name in catalog.cpu_names()],
        tiers=[_tier(name) for name in catalog.tier_names()],
        links=[_link(name) for name in catalog.link_profile_names()],
        engines=[_engine(name) for name in catalog.engine_names()],
        metrics=_metrics(),
        latencies=dict(LATENCIES),
        statistics=list(SHIPPED_STATISTICS),
        samplers=[CatalogSampler(name=name, rule=rule) for name, rule in SAMPLERS.items()],
        studies=[_study(name) for name in study_names()],
    )


def _model(name: str) -> CatalogModel:
    model = catalog.model(name)
    return CatalogModel(
        name=name,
        kind=model.kind,
        parameters=model.parameters,
        active_parameters=model.active_parameters_per_token,
        layers=model.layers,
        kv_bytes_per_token=2 * model.kv_elements_per_token,
        max_context_tokens=model.max_context_tokens,
        source=model.source,
    )


def _accelerator(name: str) -> CatalogAccelerator:
    chip, kernels = catalog.accelerator(name), catalog.kernel_profile(name)
    return CatalogAccelerator(
        name=name,
        vendor=chip.vendor,
        memory_gb=chip.memory_gb,
        memory_bandwidth_gb_per_s=chip.memory_bandwidth_gb_per_s,
        peak_tflops={str(precision): peak for precision, peak in chip.peak_tflops.items()},
        link_gb_per_s=chip.scale_up.gb_per_s,
        link_devices=chip.scale_up.devices,
        tdp_w=chip.tdp_w,
        idle_w=chip.idle_w,
        usd_per_hour=chip.price_usd_per_hour,
        calibrated=kernels.calibrated,
        transferred_from=kernels.transferred_from,
    )


def _cpu(name: str) -> CatalogCpu:
    cpu = catalog.cpu(name)
    return CatalogCpu(
        name=name,
        vendor=cpu.vendor,
        cores=cpu.cores,
        memory_gb=cpu.memory_gb,
        memory_bandwidth_gb_per_s=cpu.memory_bandwidth_gb_per_s,
        tdp_w=cpu.tdp_w,
        usd_per_hour=cpu.price_usd_per_hour,
    )


def _tier(name: str) -> CatalogTier:
    tier = catalog.tier(name)
    return CatalogTier(**{field: getattr(tier, field) for field in CatalogTier.model_fields})


def _link(name: str) -> CatalogLink:
    link = catalog.link_profile(name)
    return CatalogLink(name=name, description=link.description, calibrated=link.calibrated, source=link.source)


def _engine(name: str) -> CatalogEngine:
    engine = catalog.engine_profile(name)
    return CatalogEngine(
        name=name,
        calibrated=engine.calibrated,
        accelerators=list(engine.accelerators),
        max_batch_requests=engine.defaults.max_batch_requests,
        token_budget_tokens=engine.defaults.token_budget_tokens,
        note=engine.note,
        source=engine.source,
    )


def _metrics() -> list[CatalogMetric]:
    latencies = [metric(f"{name}_{which}_s") for name in LATENCIES for which in SHOWN_LATENCIES]
    return [
        CatalogMetric(
            name=each.name,
            label=each.label,
            direction=each.direction,
            unit=each.unit,
            description=each.description,
            needs_slos=needs_slos(each.name),
        )
        for each in (*METRICS.values(), *latencies)
    ]


def _study(name: str) -> CatalogStudy:
    spec = load_study(name)
    return CatalogStudy(name=name, question=spec.question, objectives=list(spec.objectives))
