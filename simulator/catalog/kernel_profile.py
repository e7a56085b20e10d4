"""What the kernels of one accelerator reach of its peaks: a few physical coefficients, fitted to measured operators."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator

from simulator.catalog.accelerator import Count, Positive, Precision
from simulator.spec.base import Spec

Share = Annotated[float, Field(gt=0, le=1)]
"""Share of a peak of the datasheet."""

Microseconds = Annotated[float, Field(ge=0)]

Calibrated = Literal["yes", "transferred", "datasheet"]
"""Whether coefficients were fitted to this accelerator, to its nearest relative, or set by hand for any."""


class ProductKernels(Spec):
    """Matrix products of a vendor library; the formula is :func:`simulator.performance.matrix_product.product`.

    Attributes
    ----------
    latency_us
        Launch, prologue and epilogue: what the smallest product takes.
    compute_share
        Share of the dense peak of a multiprocessor inside a tile of 128 × 128; above 1 where the chip is clocked higher
        than the datasheet says.
    tiled
        Whether tiles and waves of them are counted; else arithmetic is ``flops / (compute_share · peak)``.
    tile_loss
        How much slower small tiles are: a tile of a × b takes ``1 + tile_loss · (64/a + 64/b - 1)`` times as long an
        operation.
    wave_us
        Filling and draining the pipeline of a multiprocessor for each tile.
    memory_share
        Share of the memory bandwidth that reading weights reaches.
    sharpness
        Exponent s of ``(compute^s + memory^s)^(1/s)``: 1 adds, large takes the longer.
    """

    latency_us: Microseconds
    compute_share: Annotated[float, Field(gt=0, le=1.25)]
    tiled: bool = True
    tile_loss: Annotated[float, Field(ge=0)] = 0.0
    wave_us: Microseconds = 0.0
    memory_share: Share
    sharpness: Annotated[float, Field(ge=1)]


class GroupedKernels(Spec):
    """Products of a mixture of experts, all experts in one launch; see :mod:`simulator.performance.experts`.

    Attributes
    ----------
    latency_us
        Routing, permuting and launching.
    compute_share, memory_share
        Shares of dense peak and memory bandwidth.
    padded_rows
        Rows that every visited expert computes beyond its tokens, the mean: half of a tile.
    sharpness
        As of :class:`ProductKernels`.
    """

    latency_us: Microseconds
    compute_share: Share
    memory_share: Share
    padded_rows: Annotated[float, Field(ge=0)] = 0.0
    sharpness: Annotated[float, Field(ge=1)]


class AttentionKernels(Spec):
    """Attention over paged KV; the formulas are those of :mod:`simulator.performance.attention`.

    Attributes
    ----------
    latency_us
        Launch of a layer's attention, in every step.
    prefill_compute_share
        Share of dense peak over (query, key) pairs.
    query_tile
        Queries of one head that a thread block works on; the blocks of a short chunk do not fill the chip, however
        long the context. None where blocks are not counted.
    token_memory_share
        Share of the memory bandwidth at which queries, keys, values and outputs of a step's tokens pass.
    decode_latency_us
        What a step with decodes takes longer: combining the splits of the KV.
    decode_block_us
        Time of a thread block that is not reading, for one sequence and KV head on one multiprocessor.
    decode_memory_share
        Share of the memory bandwidth that reading KV reaches.
    """

    latency_us: Microseconds
    prefill_compute_share: Share
    query_tile: Count | None = None
    token_memory_share: Share | None = None
    decode_latency_us: Microseconds = 0.0
    decode_block_us: Microseconds = 0.0
    decode_memory_share: Share


class StreamKernels(Spec):
    """Kernels that only pass over activations.

    Attributes
    ----------
    latency_us
        Launch.
    memory_share
        Bytes a second over the memory bandwidth; above 1 where a large cache holds the activations.
    """

    latency_us: Microseconds
    memory_share: Positive


Kernels = TypeVar("Kernels", ProductKernels, GroupedKernels, AttentionKernels, StreamKernels)


class Residual(Spec):
    """Median absolute percentage error of a class of operators.

    Attributes
    ----------
    in_sample_percent
        Of the shipped coefficients.
    held_out_percent
        Of coefficients fitted without the model (or shape, or heads) that is predicted; None where there is only one.
    measurements
        How many operators.
    """

    in_sample_percent: Annotated[float, Field(ge=0)]
    held_out_percent: Annotated[float, Field(ge=0)] | None = None
    measurements: Count


class KernelProfile(Spec):
    """Coefficients of one accelerator's kernels.

    Attributes
    ----------
    name
        The accelerator's.
    calibrated
        ``yes``, ``transferred`` or ``datasheet``.
    transferred_from
        The accelerator that they were fitted to, if transferred.
    source, date, note
        Measurements and day of the fit, and what one must know.
    products
        By the precision that is computed in; ``bf16`` stands for any that is absent.
    grouped, quantised_grouped
        Experts in 16 bits, and by other precisions of their weights; ``grouped`` stands for any that is absent.
    attention, norm, rotary, activation
        The other classes of operators.
    quantise
        Kernels that quantise activations for a product of 8 bits, which reads 16 and writes 8; None where products were
        measured with them.
    residuals
        Errors by class of operators.
    """

    name: str
    calibrated: Calibrated
    transferred_from: str | None = None
    source: str
    date: str
    note: str = ""
    products: dict[Precision, ProductKernels]
    grouped: GroupedKernels
    quantised_grouped: dict[Precision, GroupedKernels] = Field(default_factory=dict)
    attention: AttentionKernels
    norm: StreamKernels
    rotary: StreamKernels
    activation: StreamKernels
    quantise: StreamKernels | None = None
    residuals: dict[str, Residual] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "bf16" not in self.products:
            raise ValueError("products: bf16 is missing; it stands for precisions that are not listed")
        return self

    def product(self, precision: str) -> ProductKernels:
        """Return the coefficients of matrix products at a precision, those of bf16 if it has none of its own."""
        for known, kernels in self.products.items():
            if known == precision:
                return kernels
        return self.products["bf16"]

    def experts(self, *precisions: str) -> GroupedKernels:
        """Return the coefficients of experts at the first of some precisions that has its own, else those of 16 bits.

        Parameters
        ----------
        precisions
            Those of the weights and of what is computed in: weights of 4 bits have kernels of their own also where they
            are expanded to 16.
        """
        own: dict[str, GroupedKernels] = {str(known): kernels for known, kernels in self.quantised_grouped.items()}
        return next((own[precision] for precision in precisions if precision in own), self.grouped)

    @property
    def memory_share(self) -> float:
        """Share of the memory bandwidth that large streams reach, those of 16-bit weights."""
        return self.products["bf16"].memory_share

    def inside(self, launch_share: float, slowdown: float) -> Self:
        """Return the coefficients inside an engine: kernels start in a share of the time, arithmetic takes longer.

        Parameters
        ----------
        launch_share
            Start-up time over that of kernels measured alone: in captured graphs it overlaps with the kernel before.
        slowdown
            Arithmetic over that of kernels measured alone: of older libraries.
        """

        def changed(kernels: Kernels) -> Kernels:
            shares = {name: value / slowdown for name, value in kernels if name.endswith("compute_share")}
            return kernels.model_copy(update={"latency_us": kernels.latency_us * launch_share, **shares})

        return self.model_copy(
            update={
                "products": {precision: changed(kernels) for precision, kernels in self.products.items()},
                "grouped": changed(self.grouped),
                "quantised_grouped": {name: changed(kernels) for name, kernels in self.quantised_grouped.items()},
                "attention": changed(self.attention),
                "norm": changed(self.norm),
                "rotary": changed(self.rotary),
                "activation": changed(self.activation),
                "quantise": None if self.quantise is None else changed(self.quantise),
            }
        )
