"""Fit the few coefficients of a kernel profile to measured operators, and tell how well they predict the unseen.

Every class of operators is fitted alone: least squares on the logarithm of predicted over measured time with a robust
loss, so that one kernel that the vendor's library chose badly does not bend the rest. What is predicted is computed by
the functions that the simulator uses. ``held_out`` figures come from fits without the group (model, shape, heads)
that is predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from dse.measurements.operators import OperatorMeasurements
from simulator.catalog import (
    Accelerator,
    AttentionKernels,
    GroupedKernels,
    KernelProfile,
    ProductKernels,
    Residual,
    StreamKernels,
    kernel_profile,
)
from simulator.performance.attention import (
    AttentionShape,
    LayerAttention,
    decode_seconds,
    layer_attention,
    prefill_seconds,
)
from simulator.performance.element_wise import activation_elements, pass_over
from simulator.performance.experts import grouped_product
from simulator.performance.matrix_product import ACTIVATION_BYTES, product
from simulator.performance.roofline import Chip, Floats

OUTLIER: Final = 0.1
"""Relative error from which a measurement counts less than its square."""

FEW_ROWS: Final = 64
"""Rows of activations below which reading the weights decides."""

FASTEST_MEMORY: Final = 0.95
"""Share of the memory bandwidth that no kernel reaches from memory."""

WEIGHT_BYTES: Final = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}
"""Bytes of one element by precision."""

MANY_ROWS: Final = 4096
"""Rows from which more are no kind of their own."""

MOST_IN_OCTAVE: Final = 250
"""Products between one power of two of rows and the next that a fit looks at."""

MOST_POINTS: Final = 1000
"""Measurements of one kind that a fit looks at; of more, as many at equal distances."""

QUERY_TILES: Final = (64, 128)
"""Queries of a thread block of FlashAttention kernels."""

UNMEASURED_QUERY_TILE: Final = 128
"""That of FlashAttention 3 for heads of 128, where no chunk after earlier context was measured."""


@dataclass(frozen=True)
class Bounds:
    """Where a fit starts and how far it may go, one figure for each coefficient."""

    start: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


PRODUCT: Final = ("latency_us", "compute_share", "tile_loss", "wave_us", "memory_share", "sharpness")
PRODUCT_BOUNDS: Final = Bounds((3, 0.8, 0.1, 1, 0.85, 4), (0, 0.2, 0, 0, 0.2, 1), (20, 1.2, 2, 8, 1, 20))
GROUPED: Final = ("latency_us", "compute_share", "memory_share", "padded_rows", "sharpness")
GROUPED_BOUNDS: Final = Bounds((10, 0.6, 0.8, 16, 3), (0, 0.1, 0.2, 0, 1), (100, 1, 1, 64, 20))
PASS: Final = ("latency_us", "memory_share")
PASS_BOUNDS: Final = Bounds((3, 0.6), (0, 0.02), (30, 10))
ATTENTION: Final = (
    "latency_us",
    "prefill_compute_share",
    "token_memory_share",
    "decode_latency_us",
    "decode_block_us",
    "decode_memory_share",
)
ATTENTION_BOUNDS: Final = Bounds((8, 0.6, 0.8, 3, 2, 0.85), (0, 0.05, 0.05, 0, 0, 0.2), (60, 1, 1, 60, 50, 1))

Kernels = TypeVar("Kernels", ProductKernels, GroupedKernels, AttentionKernels, StreamKernels)


def fit_kernels(
    measured: OperatorMeasurements, accelerator: Accelerator, base: KernelProfile | None = None
) -> KernelProfile:
    """Return the profile of an accelerator's kernels; what was not measured keeps its coefficients.

    Parameters
    ----------
    measured
        Operators measured on it.
    accelerator
        Its datasheet.
    base
        The profile that keeps what was not measured; the catalogue's if absent.
    """
    profile = base or kernel_profile(accelerator.name)
    residuals: dict[str, Residual] = {}
    changed: dict[str, Any] = {}
    products = dict(profile.products)
    usable = from_memory(measured.products, accelerator)
    for precision in accelerator.precisions:
        table = usable[usable["precision"] == precision]
        if len(table):
            fit = products_of(accelerator)
            products[precision] = fit(table)
            errors = _errors(table, fit, lambda found, some: product_seconds(found, some, accelerator))
            small = (table["m"] < FEW_ROWS).to_numpy()
            residuals[f"{precision} products from {FEW_ROWS} rows"] = errors.residual(~small)
            residuals[f"{precision} products below {FEW_ROWS} rows"] = errors.residual(small)
    for kind in ("norm", "rotary", "activation", "quantise"):
        table = measured.passes[measured.passes["kind"] == kind]
        if len(table):
            passing = passes_of(accelerator)
            changed[kind] = passing(table)
            residuals[kind] = _errors(
                table, passing, lambda found, some: pass_seconds(found, some["elements"], accelerator)
            ).residual()
    if len(measured.prefills) and len(measured.decodes):
        changed["attention"] = fit_attention(measured.prefills, measured.decodes, accelerator)
        residuals |= _attention_residuals(measured, changed["attention"], accelerator)
    activation = changed.get("activation", profile.activation)
    predict = partial(grouped_seconds, accelerator=accelerator, activation=activation)
    for width, table in experts_by_precision(measured.grouped):
        grouping = grouped_of(accelerator, activation)
        found = grouping(table)
        if width == "bf16":
            changed["grouped"] = found
        else:
            changed.setdefault("quantised_grouped", dict(profile.quantised_grouped))[width] = found
        residuals["experts" if width == "bf16" else f"{width} experts"] = _errors(table, grouping, predict).residual()
    return profile.model_copy(
        update={
            "calibrated": "yes",
            "transferred_from": None,
            "source": measured.source,
            "date": datetime.now(UTC).date().isoformat(),
            "products": products,
            "residuals": residuals,
            **changed,
        }
    )


# ----------------------------------------------------------------------------------------------------------------------
# Predictions


def chip_of(accelerator: Accelerator, precision: str = "bf16") -> Chip:
    """Return the peaks of an accelerator at a precision, those of 16 bits where it has no units for it."""
    return Chip(
        accelerator.peak_flops(precision if precision in accelerator.peak_tflops else "bf16"),
        accelerator.memory_bandwidth_bytes_per_s,
        accelerator.streaming_multiprocessors,
    )


def product_seconds(kernels: ProductKernels, table: pd.DataFrame, accelerator: Accelerator) -> Floats:
    """Return the predicted times of some products, all of one precision, shape (rows,)."""
    precision = str(table["precision"].iloc[0])
    m, k, n = (table[name].to_numpy(np.float64) for name in ("m", "k", "n"))
    chip = chip_of(accelerator, precision)
    return product(m, k, n, weight_bytes=WEIGHT_BYTES[precision], chip=chip, kernels=kernels).seconds


def from_memory(table: pd.DataFrame, accelerator: Accelerator) -> pd.DataFrame:
    """Return the products whose weights came from memory: a benchmark that repeats a small one has them in its cache.

    They are told by a shape whose weights, at few rows, come at more than ``FASTEST_MEMORY`` of the bandwidth.
    """
    weights = table["k"] * table["n"] * table["precision"].map(WEIGHT_BYTES)
    share = (weights / table["seconds"] / accelerator.memory_bandwidth_bytes_per_s).where(table["m"] < FEW_ROWS)
    typical = share.groupby([table["precision"], table["k"], table["n"]]).transform("median")
    return table[~(typical > FASTEST_MEMORY)]


def experts_by_precision(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return measured mixtures of experts by the precision of their products, 16 bits where a table does not say."""
    if "precision" not in table:
        return [("bf16", table)] if len(table) else []
    return [(str(precision), part) for precision, part in table.fillna({"precision": "bf16"}).groupby("precision")]


def pass_seconds(kernels: StreamKernels, elements: pd.Series[float], accelerator: Accelerator) -> Floats:
    """Return the predicted times of passing over so many elements, shape (rows,)."""
    return pass_over(np.asarray(elements, dtype=np.float64), accelerator.memory_bandwidth_bytes_per_s, kernels).seconds


def grouped_seconds(
    kernels: GroupedKernels, table: pd.DataFrame, accelerator: Accelerator, activation: StreamKernels
) -> Floats:
    """Return the predicted times of some mixtures, the activation between their products included, of one precision.

    Without a column ``precision`` they are of 16 bits.
    """
    hidden, inner, visits, distinct = (
        table[name].to_numpy(np.float64) for name in ("hidden", "inner", "visits", "distinct")
    )
    precision = str(table["precision"].iloc[0]) if "precision" in table else "bf16"
    work = grouped_product(
        visits,
        distinct,
        3 * hidden * inner,
        hidden,
        weight_bytes=WEIGHT_BYTES[precision],
        chip=chip_of(accelerator, precision),
        kernels=kernels,
    )
    between = pass_over(visits * activation_elements(inner), accelerator.memory_bandwidth_bytes_per_s, activation)
    return work.seconds + between.seconds


def attention_times(kernels: AttentionKernels, heads: tuple[int, int, int], accelerator: Accelerator) -> LayerAttention:
    """Return the coefficients of one layer with 16-bit KV; heads are (query heads, KV heads, width)."""
    queries, kv_heads, width = heads
    shape = AttentionShape(queries, kv_heads, width, width, 2 * kv_heads * width * ACTIVATION_BYTES)
    return layer_attention(shape, chip_of(accelerator), kernels)


def attention_seconds(kernels: AttentionKernels, table: pd.DataFrame, accelerator: Accelerator) -> Floats:
    """Return the predicted times of some prefills or decodes, shape (rows,).

    Prefills with a column ``sequences`` are of so many prompts alike in one launch.
    """
    seconds = np.zeros(len(table))
    first, second = ("chunk", "before") if "chunk" in table else ("sequences", "context")
    formula = prefill_seconds if "chunk" in table else decode_seconds
    shapes = table[["heads", "kv_heads", "head_dim"]].to_numpy(np.int64)
    for queries, kv_heads, width in np.unique(shapes, axis=0):
        rows = (shapes == (queries, kv_heads, width)).all(axis=1)
        some = table[rows]
        times = attention_times(kernels, (int(queries), int(kv_heads), int(width)), accelerator)
        alone = formula(times, some[first].to_numpy(np.float64), some[second].to_numpy(np.float64))
        prompts = some["sequences"].to_numpy(np.float64) if {"chunk", "sequences"} <= set(some) else 1.0
        seconds[rows] = times.latency_s + prompts * (alone - times.latency_s)
    return seconds


# ----------------------------------------------------------------------------------------------------------------------
# Fits


def products_of(accelerator: Accelerator) -> Callable[[pd.DataFrame], ProductKernels]:
    """Return the fit of products. Every octave of rows counts alike, however many were measured in it."""
    tiled = accelerator.streaming_multiprocessors is not None

    def fitted(some: pd.DataFrame) -> ProductKernels:
        octaves = np.floor(np.log2(some["m"].clip(FEW_ROWS / 2, MANY_ROWS)))
        parts = [_thinned(part, MOST_IN_OCTAVE) for _, part in some.groupby(octaves)]
        points = pd.concat(parts)
        weights = np.concatenate([np.full(len(part), len(points) / len(parts) / len(part)) for part in parts])
        return _least_squares(
            lambda values: ProductKernels(**dict(zip(PRODUCT, values, strict=True)), tiled=tiled),
            lambda kernels: product_seconds(kernels, points, accelerator),
            points["seconds"],
            PRODUCT_BOUNDS,
            weights,
        )

    return fitted


def passes_of(accelerator: Accelerator) -> Callable[[pd.DataFrame], StreamKernels]:
    """Return the fit of kernels over activations."""

    def fitted(some: pd.DataFrame) -> StreamKernels:
        points = _thinned(some)
        return _least_squares(
            lambda values: StreamKernels(**dict(zip(PASS, values, strict=True))),
            lambda kernels: pass_seconds(kernels, points["elements"], accelerator),
            points["seconds"],
            PASS_BOUNDS,
        )

    return fitted


def grouped_of(accelerator: Accelerator, activation: StreamKernels) -> Callable[[pd.DataFrame], GroupedKernels]:
    """Return the fit of mixtures of experts."""

    def fitted(some: pd.DataFrame) -> GroupedKernels:
        points = _thinned(some)
        return _least_squares(
            lambda values: GroupedKernels(**dict(zip(GROUPED, values, strict=True))),
            lambda kernels: grouped_seconds(kernels, points, accelerator, activation),
            points["seconds"],
            GROUPED_BOUNDS,
        )

    return fitted


def fit_attention(prefills: pd.DataFrame, decodes: pd.DataFrame, accelerator: Accelerator) -> AttentionKernels:
    """Return the coefficients of attention: prefills and decodes together, for they share the launch."""
    prefills, decodes = _thinned(prefills), _thinned(decodes)
    seconds = np.concatenate([prefills["seconds"], decodes["seconds"]])
    weights = np.repeat([1.0 / len(prefills), 1.0 / len(decodes)], [len(prefills), len(decodes)]) * len(seconds) / 2

    def predicted(kernels: AttentionKernels) -> Floats:
        return np.concatenate([attention_seconds(kernels, some, accelerator) for some in (prefills, decodes)])

    def cost(kernels: AttentionKernels) -> float:
        return float(np.average(np.abs(np.log(predicted(kernels) / seconds)), weights=weights))

    tiles = QUERY_TILES if (prefills["before"] > 0).any() else (UNMEASURED_QUERY_TILE,)

    def fitted(tile: int) -> AttentionKernels:
        return _least_squares(
            lambda values: AttentionKernels(**dict(zip(ATTENTION, values, strict=True)), query_tile=tile),
            predicted,
            seconds,
            ATTENTION_BOUNDS,
            weights,
        )

    return min(map(fitted, tiles), key=cost)


def _least_squares(
    kernels_of: Callable[[Sequence[float]], Kernels],
    predict: Callable[[Kernels], Floats],
    seconds: Any,
    bounds: Bounds,
    weights: Floats | None = None,
) -> Kernels:
    """Return the coefficients whose predictions are nearest to the measured seconds, on a logarithmic scale."""
    measured = np.log(np.asarray(seconds, dtype=np.float64))
    scale = 1.0 if weights is None else np.sqrt(weights)

    def error(values: Floats) -> Floats:
        return np.asarray(scale * (np.log(predict(kernels_of(values.tolist()))) - measured))

    found = least_squares(
        error,
        bounds.start,
        bounds=(bounds.low, bounds.high),
        loss="soft_l1",
        f_scale=OUTLIER,
        diff_step=1e-3,
        x_scale=bounds.start,
    )
    return kernels_of([float(f"{value:.4g}") for value in found.x])


def _thinned(table: pd.DataFrame, most: int = MOST_POINTS) -> pd.DataFrame:
    """Return at most so many rows of a table, at equal distances."""
    if len(table) <= most:
        return table
    return table.iloc[np.linspace(0, len(table) - 1, most).astype(int)]


# ----------------------------------------------------------------------------------------------------------------------
# Errors


@dataclass(frozen=True)
class Errors:
    """Relative errors of a table's rows: of the fit to all of them, and of fits without the row's group."""

    in_sample: Floats
    held_out: Floats | None

    def residual(self, rows: Any = slice(None)) -> Residual:
        """Return the medians over some rows, in percent."""

        def median(errors: Floats) -> float:
            return round(100 * float(np.median(np.abs(errors[rows]))), 1)

        held_out = None if self.held_out is None else median(self.held_out)
        return Residual(
            in_sample_percent=median(self.in_sample), held_out_percent=held_out, measurements=len(self.in_sample[rows])
        )


def _errors(
    table: pd.DataFrame,
    fit: Callable[[pd.DataFrame], Kernels],
    predict: Callable[[Kernels, pd.DataFrame], Floats],
) -> Errors:
    seconds = table["seconds"].to_numpy()
    in_sample = predict(fit(table), table) / seconds - 1
    groups = table["group"].to_numpy()
    names = np.unique(groups)
    if len(names) < 2:
        return Errors(in_sample, None)
    held_out = np.zeros(len(table))
    for name in names:
        held_out[groups == name] = predict(fit(table[groups != name]), table[groups == name])
    return Errors(in_sample, held_out / seconds - 1)


def _attention_residuals(
    measured: OperatorMeasurements, found: AttentionKernels, accelerator: Accelerator
) -> dict[str, Residual]:
    tables = {"prefill attention": measured.prefills, "decode attention": measured.decodes}
    names = np.unique(np.concatenate([table["group"] for table in tables.values()]))
    fits = {
        name: fit_attention(
            measured.prefills[measured.prefills["group"] != name],
            measured.decodes[measured.decodes["group"] != name],
            accelerator,
        )
        for name in (names if len(names) > 1 else ())
    }
    residuals = {}
    for kind, table in tables.items():
        seconds = table["seconds"].to_numpy()
        held_out = np.zeros(len(table))
        for name, without in fits.items():
            rows = (table["group"] == name).to_numpy()
            held_out[rows] = attention_seconds(without, table[rows], accelerator)
        errors = Errors(
            attention_seconds(found, table, accelerator) / seconds - 1, held_out / seconds - 1 if fits else None
        )
        residuals[kind] = errors.residual()
    return residuals
