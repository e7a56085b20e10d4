"""Operators that engines ran, from the tables of ``aiconfigurator-core``, in the form that fits read.

The tables are measured in CUDA graphs that are replayed back to back, by the engine's own modules: a product is one of
six layers with weights of their own, that of eight bits with quantising its activations; attention is the backend's
forward pass with writing the KV; experts are the fused module with permuting, activation and summing. What is replayed
finds in the cache what fits there, while an engine has run all other layers in between: so rows whose weights or KV fit
into the cache, and are not so small that it does not matter, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from dse.calibration.operators import WEIGHT_BYTES
from dse.measurements import aiconfigurator_tables as tables
from dse.measurements.operators import OperatorMeasurements
from simulator import catalog
from simulator.errors import SpecError
from simulator.performance.element_wise import quantised_elements

CACHE_BYTES: Final = {"a100-80gb": 40e6, "h100-sxm": 50e6, "h200-sxm": 50e6, "b200": 126e6, "l40s": 96e6}
"""Second-level caches (NVIDIA's architecture whitepapers)."""

CACHES: Final = 1.5
"""Multiples of the cache from which nothing of what a replay reads is found there by the next."""

SMALL_S: Final = 1.5e-6
"""Time at peak bandwidth below which it does not matter where something was read from."""

COPIES: Final = 6
"""Layers of a measured product, one after the other."""

FORMATS: Final = {"bfloat16": "bf16", "fp8": "fp8", "nvfp4": "fp4"}
"""Formats of products that are fitted. Those of ``fp8_block`` take 60 us at least
under vLLM, as if timed launch by launch."""

WEIGHTS_ALONE: Final = {"w4a16_mxfp4": "fp4", "int4_wo": "fp4"}
"""Experts with weights of 4 bits that are expanded to 16 and computed so, as chips without units for 4 bits do."""

ROUTING: Final = "balanced"
"""How tokens chose among the experts that are fitted: dealt out in turn, so that it is known how many were hit."""

EXPERT_FORMATS: Final = {
    "h100-sxm": {"bfloat16": "bf16", "fp8_block": "fp8", **WEIGHTS_ALONE},
    "h200-sxm": {"bfloat16": "bf16", "fp8_block": "fp8", **WEIGHTS_ALONE},
    "l40s": {"bfloat16": "bf16", "fp8": "fp8", **WEIGHTS_ALONE},
    "a100-80gb": {"bfloat16": "bf16", **WEIGHTS_ALONE},
}
"""Formats of experts, where not ``FORMATS``: on Hopper those of ``fp8`` are of a kernel that reads weights at a fifth
of the bandwidth (ModelOpt's, FlashInfer CUTLASS), which served models do not show."""

HEADS: Final = (
    *((heads, 1) for heads in (4, 8, 16)),
    *((heads, 2) for heads in (8, 16)),
    *((heads, 4) for heads in (16, 32)),
    *((heads, 8) for heads in (8, 32, 40, 64)),
    (16, 16),
    (32, 32),
)
"""Query and KV heads, those of usual models and degrees of tensor parallelism."""

HEAD_DIM: Final = 128
LEAST_CONTEXT: Final = 128
LEAST_CHUNK: Final = 16
MOST_PROMPTS: Final = 16
MOST_PROMPT_TOKENS: Final = 16_384
LEAST_WIDTH: Final = 1024
MOST_WIDTH: Final = 16_384
MOST_COLUMNS: Final = 65_536
LEAST_ELEMENTS: Final = 2**21
MOST_TOKENS: Final = 8192

UNGATED: Final = ((1024, 2688), (2048, 5120), (2688, 1856))
"""Hidden and inner widths of mixtures whose experts have two matrices (Nemotron)."""

LIMITED: Final = ((7168, 2048, 256),)
"""Hidden and inner width and experts of mixtures whose tokens choose among half of the experts (DeepSeek-V3)."""


def measured_from_tables(accelerator: str, backend: str = "vllm", version: str | None = None) -> OperatorMeasurements:
    """Return what an engine's operators took on an accelerator; norms and rotary embeddings are not among them.

    Products of eight bits are given without quantising their inputs, which is one of the ``passes``, where the tables
    say what it takes. What is left out together is an octave of inner widths, a pair of heads, or a mixture.

    Parameters
    ----------
    accelerator
        One of the catalogue that the package has.
    backend, version
        As in :func:`dse.measurements.aiconfigurator_tables.read_gemm`.

    Raises
    ------
    SpecError
        If the package is not installed or has no products or attention of it.
    """
    try:
        quantised = tables.read_quantisation(accelerator, backend, version)
    except SpecError:
        quantised = None
    products = tables.read_gemm(accelerator, backend, version)
    attention = tables.read_attention(accelerator, backend, version)
    prefills, decodes = _attention(attention, accelerator)
    names = sorted({str(name) for table in (products, attention) for name in table["version"].unique()})
    return OperatorMeasurements(
        products=_products(products, quantised, accelerator),
        prefills=prefills,
        decodes=decodes,
        passes=_quantisation(quantised),
        grouped=_experts(tables.read_moe(accelerator, backend, version), accelerator),
        source=f"aiconfigurator-core ({backend} {', '.join(names)})",
    )


def _medians(table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    table = table[table["seconds"] > 0]
    return table.groupby(list(columns), sort=True)["seconds"].median().reset_index()


def _from_memory(read: pd.Series[float], cycle: pd.Series[float], accelerator: str) -> pd.Series[bool]:
    """Return which rows read their bytes from memory, when so many are read before the same ones come again."""
    bandwidth = catalog.accelerator(accelerator).memory_bandwidth_bytes_per_s
    return (cycle > CACHES * CACHE_BYTES[accelerator]) | (read < SMALL_S * bandwidth)


def _products(raw: pd.DataFrame, quantised: pd.DataFrame | None, accelerator: str) -> pd.DataFrame:
    table = raw[raw["format"].isin(list(FORMATS)) & (raw["m"] <= MOST_TOKENS)].copy()
    table["precision"] = table["format"].map(FORMATS)
    table = table[table["precision"].isin(list(catalog.accelerator(accelerator).precisions))]
    table = table[(table["k"] * table["n"] >= LEAST_ELEMENTS) & (table["n"] >= LEAST_WIDTH)]
    table = table[table["k"].between(LEAST_WIDTH, MOST_WIDTH) & (table["n"] <= MOST_COLUMNS)]
    weights = table["k"] * table["n"] * table["precision"].map(WEIGHT_BYTES)
    table = table[_from_memory(weights, COPIES * weights, accelerator)]
    table["seconds"] = table["time_us"] * 1e-6
    if quantised is not None:
        before = table.merge(quantised.rename(columns={"time_us": "before_us"}), on=["m", "k"], how="left")
        own = before["seconds"] - before["before_us"] * 1e-6
        table = before.assign(seconds=own.where(before["precision"] == "fp8", before["seconds"]))
    octave = 2 ** np.floor(np.log2(table["k"])).astype(int)
    table["group"] = "k from " + octave.astype(str)
    return _medians(table, ("group", "precision", "m", "k", "n"))


def _quantisation(quantised: pd.DataFrame | None) -> pd.DataFrame:
    if quantised is None:
        return OperatorMeasurements().passes
    table = quantised[quantised["k"].between(LEAST_WIDTH, MOST_WIDTH) & (quantised["m"] <= MOST_TOKENS)]
    elements = table["m"] * quantised_elements(table["k"].to_numpy(np.float64))
    found = pd.DataFrame({"group": "k = " + table["k"].astype(str), "kind": "quantise", "elements": elements})
    return _medians(found.assign(seconds=table["time_us"] * 1e-6), ("group", "kind", "elements"))


def _attention(raw: pd.DataFrame, accelerator: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return prefills of up to ``MOST_PROMPTS`` alike, and decodes, with 16-bit KV and no window."""
    heads = pd.MultiIndex.from_frame(raw[["heads", "kv_heads"]])
    plain = (raw["kv_dtype"] == "bf16") & (raw["window_tokens"] == 0) & (raw["head_dim"] == HEAD_DIM)
    table = raw[plain & heads.isin(HEADS)].copy()
    table["group"] = table["heads"].astype(str) + " heads, " + table["kv_heads"].astype(str) + " of KV"
    table["seconds"] = table["time_us"] * 1e-6
    which = ["group", "heads", "kv_heads", "head_dim"]
    few = (table["sequences"] <= MOST_PROMPTS) & (table["sequences"] * table["new_tokens"] <= MOST_PROMPT_TOKENS)
    prompts = (table["op"] == "context_attention") & few & (table["new_tokens"] >= LEAST_CHUNK)
    prefills = table[prompts].rename(columns={"new_tokens": "chunk", "past_tokens": "before"})
    decodes = table[(table["op"] == "generation_attention") & (table["past_tokens"] + 1 >= LEAST_CONTEXT)].copy()
    decodes["context"] = decodes["sequences"] * (decodes["past_tokens"] + 1)
    read = decodes["context"] * decodes["kv_heads"] * (4 * HEAD_DIM)
    decodes = decodes[_from_memory(read, read, accelerator)]
    return (
        _medians(prefills, (*which, "sequences", "chunk", "before")),
        _medians(decodes, (*which, "sequences", "context")),
    )


def _experts(raw: pd.DataFrame, accelerator: str) -> pd.DataFrame:
    """Return gated mixtures on one accelerator that has all experts, or its part of each, with balanced routing."""
    formats = EXPERT_FORMATS.get(accelerator, FORMATS)
    table = raw[raw["format"].isin(list(formats)) & (raw["balance"] == ROUTING) & (raw["ep"] == 1)].copy()
    if table.empty:
        return OperatorMeasurements().grouped
    table["precision"] = table["format"].map(formats)
    table["inner"] = table["expert_intermediate"] / table["moe_tp"]
    widths = pd.MultiIndex.from_frame(table[["hidden", "expert_intermediate"]])
    all_of = pd.MultiIndex.from_frame(table[["hidden", "expert_intermediate", "experts"]])
    table = table[~widths.isin(UNGATED) & ~all_of.isin(LIMITED) & (table["inner"] >= 128)]
    table = table[(table["moe_tp"] <= 8) & (table["tokens"] <= MOST_TOKENS)]
    table["visits"] = table["tokens"] * table["experts_per_token"]
    table["distinct"] = np.minimum(table["visits"], table["experts"])
    read = 3 * table["distinct"] * table["hidden"] * table["inner"] * table["precision"].map(WEIGHT_BYTES)
    table = table[_from_memory(read, read, accelerator)]
    table["group"] = (
        table["experts"].astype(str)
        + " experts of "
        + table["hidden"].astype(str)
        + " x "
        + table["expert_intermediate"].astype(str)
    )
    table["seconds"] = table["time_us"] * 1e-6
    return _medians(table, ("group", "precision", "hidden", "inner", "visits", "distinct"))
