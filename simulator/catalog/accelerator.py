"""One accelerator: memory, peak arithmetic, links, power and price, each figure with its source."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from simulator.errors import SpecError
from simulator.spec.base import Spec

Precision = Literal["fp32", "fp16", "bf16", "fp8", "int8", "fp4"]
"""Number formats of matrix multiplication that a catalog entry can give a peak for."""

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class ScaleUp(Spec):
    """The fast links between the accelerators of one server or pod (NVLink, Infinity Fabric, ICI, PCIe).

    Attributes
    ----------
    gb_per_s
        Bandwidth of one device in one direction, 1e9 bytes per second, raw (before protocol overhead).
    latency_us
        Start-up time of one hop of a collective (the alpha of an alpha-beta model), microseconds.
    devices
        Largest number of devices that are normally sold as one such domain.
    link
        Measured kind of link in ``links.yaml``, whose start-up replaces ``latency_us``; None where there is none.
    """

    gb_per_s: Positive
    latency_us: Annotated[float, Field(ge=0)]
    devices: Count
    link: str | None = None

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth of one device in one direction, bytes per second."""
        return self.gb_per_s * 1e9

    @property
    def latency_s(self) -> float:
        """Start-up time of one hop, seconds."""
        return self.latency_us * 1e-6


class Accelerator(Spec):
    """A GPU or other accelerator as its vendor describes it.

    Attributes
    ----------
    name
        Short kebab-case name.
    vendor
        Who makes it.
    memory_gb
        Device memory as the vendor prints it, read as 1e9 bytes. For most GPUs the printed number
        is really a count of GiB, so this is up to 7 % low; see :attr:`usable_memory_bytes`.
    memory_reported_mib
        Device memory as the driver reports it to software, MiB of 2**20 bytes, where it is known.
    memory_bandwidth_gb_per_s
        Peak memory bandwidth, 1e9 bytes per second.
    peak_tflops
        Peak dense matrix throughput (no structured sparsity) per precision, 1e12 operations per
        second; a multiply-add is two. Tensor-core figures with 32-bit accumulation.
    streaming_multiprocessors
        Streaming multiprocessors (NVIDIA), compute units (AMD) or tensor processor cores (Intel); None
        where the notion does not fit.
    scale_up
        Links inside a server or pod.
    scale_out_gb_per_s
        Network bandwidth per device between servers, one direction, 1e9 bytes per second.
    scale_out_link
        Measured kind of network in ``links.yaml``; None where there is none.
    tdp_w, idle_w
        Board power at the limit and with an engine loaded but no kernel running, watts.
    price_usd_per_hour
        On-demand price of one device with its share of the server, US dollars per hour.
    sources
        For each field (``scale_up.devices`` style for a nested one; the outer name covers all
        within) where its figure comes from.
    """

    name: str
    vendor: str
    memory_gb: Positive
    memory_reported_mib: Count | None = None
    memory_bandwidth_gb_per_s: Positive
    peak_tflops: Annotated[dict[Precision, Positive], Field(min_length=1)]
    streaming_multiprocessors: Count | None
    scale_up: ScaleUp
    scale_out_gb_per_s: Positive
    scale_out_link: str | None = None
    tdp_w: Positive
    idle_w: Annotated[float, Field(ge=0)]
    price_usd_per_hour: Annotated[float, Field(ge=0)]
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.idle_w > self.tdp_w:
            raise ValueError(f"idle_w {self.idle_w} is above tdp_w {self.tdp_w}")
        unknown = sorted(set(self.sources) - _paths(self.model_dump()))
        if unknown:
            raise ValueError(f"sources: no such field: {', '.join(unknown)}")
        return self

    def __hash__(self) -> int:
        """Hash by name, so that functions of an accelerator can be cached (its tables are not hashable)."""
        return hash((self.vendor, self.name))

    @property
    def memory_bytes(self) -> float:
        """Device memory as printed by the vendor, ``memory_gb * 1e9`` bytes."""
        return self.memory_gb * 1e9

    @property
    def usable_memory_bytes(self) -> float:
        """Device memory that software sees, bytes: the driver's figure, else :attr:`memory_bytes`.

        An engine sizes its KV cache from about this (an H100 "80 GB" reports 85.5e9 bytes; CUDA itself
        keeps another 0.5 to 2.5 %).
        """
        if self.memory_reported_mib is None:
            return self.memory_bytes
        return float(self.memory_reported_mib * 2**20)

    @property
    def memory_bandwidth_bytes_per_s(self) -> float:
        """Peak memory bandwidth, bytes per second."""
        return self.memory_bandwidth_gb_per_s * 1e9

    @property
    def scale_out_bytes_per_s(self) -> float:
        """Network bandwidth per device in one direction, bytes per second."""
        return self.scale_out_gb_per_s * 1e9

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that this chip has matrix hardware for."""
        return tuple(self.peak_tflops)

    def peak_flops(self, precision: str) -> float:
        """Return the peak dense matrix throughput in operations per second.

        Parameters
        ----------
        precision
            One of :attr:`precisions`.

        Raises
        ------
        SpecError
            If the chip has no matrix hardware for this precision.
        """
        for known, tflops in self.peak_tflops.items():
            if known == precision:
                return tflops * 1e12
        raise SpecError(f"accelerator {self.name}: no {precision!r}; allowed: {', '.join(self.peak_tflops)}")

    def source(self, field: str) -> str | None:
        """Return where a figure comes from: the note of the field or of the one that holds it.

        Parameters
        ----------
        field
            A field name, nested ones with dots: ``"scale_up.latency_us"``.
        """
        while field not in self.sources and "." in field:
            field = field.rpartition(".")[0]
        return self.sources.get(field)


def _paths(tree: dict[str, Any]) -> set[str]:
    """Return the dotted names of all fields of a nested dictionary."""
    found = set(tree)
    for key, value in tree.items():
        if isinstance(value, dict) and key != "sources":
            found |= {f"{key}.{inner}" for inner in _paths(value)}
    return found
