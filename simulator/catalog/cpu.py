"""One server processor: cores, memory, peak arithmetic, power and price, each figure with its source."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from simulator.catalog.accelerator import Count, Positive, Precision
from simulator.errors import SpecError
from simulator.spec.base import Spec


class Cpu(Spec):
    """One socket of a server with its memory.

    Attributes
    ----------
    name
        Short kebab-case name.
    vendor
        Who makes it.
    cores
        Physical cores of one socket.
    memory_gb
        Memory that a typical server has for each socket, 1e9 bytes.
    memory_bandwidth_gb_per_s
        Peak memory bandwidth of one socket, 1e9 bytes per second: channels x transfers per second x 8 bytes.
    peak_tflops
        Peak dense matrix or vector throughput of one socket per precision, 1e12 operations per second; a
        multiply-add is two. Cores x base clock x operations per cycle: no turbo, as all cores are busy.
    tdp_w, idle_w
        Power of the socket at the limit, and of the socket with its memory when nothing runs, watts.
    price_usd_per_hour
        Price of one socket with its memory and its share of the server, US dollars per hour.
    sources
        For each field where its figure comes from.
    """

    name: str
    vendor: str
    cores: Count
    memory_gb: Positive
    memory_bandwidth_gb_per_s: Positive
    peak_tflops: Annotated[dict[Precision, Positive], Field(min_length=1)]
    tdp_w: Positive
    idle_w: Annotated[float, Field(ge=0)]
    price_usd_per_hour: Annotated[float, Field(ge=0)]
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.idle_w > self.tdp_w:
            raise ValueError(f"idle_w {self.idle_w} is above tdp_w {self.tdp_w}")
        unknown = sorted(set(self.sources) - set(type(self).model_fields))
        if unknown:
            raise ValueError(f"sources: no such field: {', '.join(unknown)}")
        return self

    def __hash__(self) -> int:
        """Hash by name, so that functions of a processor can be cached (its tables are not hashable)."""
        return hash((self.vendor, self.name))

    @property
    def memory_bytes(self) -> float:
        """Memory of one socket, bytes."""
        return self.memory_gb * 1e9

    @property
    def usable_memory_bytes(self) -> float:
        """Memory that software sees, bytes; the same as :attr:`memory_bytes`, as for an accelerator without a note."""
        return self.memory_bytes

    @property
    def memory_bandwidth_bytes_per_s(self) -> float:
        """Peak memory bandwidth, bytes per second."""
        return self.memory_bandwidth_gb_per_s * 1e9

    def peak_flops(self, precision: str) -> float:
        """Return the peak throughput in operations per second.

        Parameters
        ----------
        precision
            One of the keys of :attr:`peak_tflops`.

        Raises
        ------
        SpecError
            If the processor has no instructions for this precision.
        """
        for known, tflops in self.peak_tflops.items():
            if known == precision:
                return tflops * 1e12
        raise SpecError(f"cpu {self.name}: no {precision!r}; allowed: {', '.join(self.peak_tflops)}")
