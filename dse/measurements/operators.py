"""Measured operators: tables in one form, and readers of the formats of published profiles.

Readers take the folder of a source and give what it measured on one accelerator. Times are seconds of one kernel (or of
the kernels of one purpose) on one accelerator; rows that repeat a measurement are replaced by their median.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

PRODUCT_COLUMNS: Final = ("group", "precision", "m", "k", "n", "seconds")
PREFILL_COLUMNS: Final = ("group", "heads", "kv_heads", "head_dim", "chunk", "before", "seconds")
DECODE_COLUMNS: Final = ("group", "heads", "kv_heads", "head_dim", "sequences", "context", "seconds")
PASS_COLUMNS: Final = ("group", "kind", "elements", "seconds")
GROUPED_COLUMNS: Final = ("group", "hidden", "inner", "visits", "distinct", "seconds")

LLAMA_3_1_8B: Final = {"hidden": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "inner": 14336, "vocab": 128256}
QWEN3_30B_A3B: Final = {"hidden": 2048, "heads": 32, "kv_heads": 4, "head_dim": 128, "inner": 768, "vocab": 151936}


def _empty(columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns))


@dataclass(frozen=True)
class OperatorMeasurements:
    """Operators measured on one accelerator. ``group`` names what is left out together: a model, a shape, heads.

    Attributes
    ----------
    products
        Matrix products: group, precision, m, k, n, seconds.
    prefills
        Attention of one prompt's chunk after ``before`` tokens: group, heads, kv_heads, head_dim, chunk, before,
        seconds. KV is in 16 bits.
    decodes
        Attention of ``sequences`` decoded tokens with ``context`` tokens in all: group, heads, kv_heads, head_dim,
        sequences, context, seconds.
    passes
        Kernels over activations: group, kind (``norm``, ``rotary``, ``activation``, ``quantise``), elements of 16 bits
        read or written, seconds.
    grouped
        Mixtures of experts, gated: group, hidden, inner, visits, distinct, seconds; with a column precision they are
        not all of 16 bits.
    source
        Where they come from.
    """

    products: pd.DataFrame = field(default_factory=lambda: _empty(PRODUCT_COLUMNS))
    prefills: pd.DataFrame = field(default_factory=lambda: _empty(PREFILL_COLUMNS))
    decodes: pd.DataFrame = field(default_factory=lambda: _empty(DECODE_COLUMNS))
    passes: pd.DataFrame = field(default_factory=lambda: _empty(PASS_COLUMNS))
    grouped: pd.DataFrame = field(default_factory=lambda: _empty(GROUPED_COLUMNS))
    source: str = ""

    def __add__(self, other: OperatorMeasurements) -> OperatorMeasurements:
        """Return both."""

        def joined(name: str) -> pd.DataFrame:
            filled = [table for table in (getattr(self, name), getattr(other, name)) if len(table)]
            return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(getattr(self, name))

        tables = {name: joined(name) for name in ("products", "prefills", "decodes", "passes", "grouped")}
        return OperatorMeasurements(**tables, source="; ".join(part for part in (self.source, other.source) if part))


def _table(parts: Iterable[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the positive times of some parts, the median of those alike."""
    table = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
    table = table[table["seconds"] > 0]
    return table.groupby(list(columns[:-1]), sort=True)["seconds"].median().reset_index()


def read_vidur_layers(path: Path) -> OperatorMeasurements:
    """Return the token-wise operators of a Vidur profile (microsoft/vidur, ``mlp.csv``, medians in ms).

    A gated block has both its matrices in ``mlp_up_proj``. A norm and the addition of the residual, two kernels there,
    are taken together. KV heads are replicated where there are fewer than accelerators.
    """
    rows = pd.read_csv(path)
    tp, tokens = rows["tp"], rows["num_tokens"]
    head = rows["n_embd"] // rows["n_head"]
    kv_heads = (rows["n_kv_head"] // tp).clip(lower=1)
    heads = rows["n_head"] // tp
    inner = rows["n_expanded_embd"] // tp
    up = 1 + rows["use_gated_mlp"].astype(int)
    shapes = {
        "attn_pre_proj": (rows["n_embd"], (heads + 2 * kv_heads) * head),
        "attn_post_proj": (heads * head, rows["n_embd"]),
        "mlp_up_proj": (rows["n_embd"], up * inner),
        "mlp_down_proj": (inner, rows["n_embd"]),
    }
    products = [
        {"group": rows["model"], "precision": "bf16", "m": tokens, "k": k, "n": n, "seconds": rows[f"{name}_ms"] / 1e3}
        for name, (k, n) in shapes.items()
    ]
    norm = tokens * 4 * rows["n_embd"], rows["input_layernorm_ms"] + rows["add_ms"]
    passed = {
        "norm": norm,
        "rotary": (tokens * 2 * (heads + kv_heads) * head, rows["attn_rope_ms"]),
        "activation": (tokens * (1 + up) * inner, rows["mlp_act_ms"]),
    }
    passes = [
        {"group": rows["model"], "kind": kind, "elements": elements, "seconds": milliseconds / 1e3}
        for kind, (elements, milliseconds) in passed.items()
    ]
    return OperatorMeasurements(
        products=_table(products, PRODUCT_COLUMNS),
        passes=_table(passes, PASS_COLUMNS),
        source=f"microsoft/vidur ({path.name})",
    )


def read_inferencesim_kernels(folder: Path, device: str) -> OperatorMeasurements:
    """Return the isolated kernels of inference-sim's ``bench_data``: products and attention.

    The products are of 8 bits, whatever the folder is called: their MFU is against the dense FP8 peak, and read as 16
    bits they would exceed the chip's arithmetic (1,290 of 989 Tflop/s) and its memory bandwidth.
    """
    rows = pd.read_csv(folder / "gemm" / device / "data.csv")
    shape = rows["k"].astype(str) + " x " + rows["n"].astype(str)
    products = {"group": shape, "precision": "fp8", "seconds": rows["latency_us"] * 1e-6}
    products |= {name: rows[name] for name in ("m", "k", "n")}
    prefills, decodes = [], []
    for path in sorted((folder / "mha" / "prefill" / device).glob("*.csv")):
        heads, kv_heads, head_dim = map(int, path.stem.split("-"))
        rows = pd.read_csv(path)
        prefills.append(
            {"group": path.stem, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
            | {"chunk": rows["seq_len"], "before": 0, "seconds": rows["latency_us"] * 1e-6}
        )
    for path in sorted((folder / "mha" / "decode" / device).glob("*.csv")):
        name, _, tp = path.stem.rpartition("-tp")
        heads, kv_heads, head_dim = map(int, name.split("-"))
        rows = pd.read_csv(path)
        decodes.append(
            {"group": name, "heads": heads // int(tp), "kv_heads": max(1, kv_heads // int(tp)), "head_dim": head_dim}
            | {"sequences": rows["batch_size"], "context": rows["batch_size"] * rows["kv_len"]}
            | {"seconds": rows["latency_us"] * 1e-6}
        )
    return OperatorMeasurements(
        products=_table([products], PRODUCT_COLUMNS),
        prefills=_table(prefills, PREFILL_COLUMNS),
        decodes=_table(decodes, DECODE_COLUMNS),
        source="inference-sim bench_data",
    )


def read_llmservingsim_layers(folder: Path, model: str, shape: dict[str, int]) -> OperatorMeasurements:
    """Return what LLMServingSim profiled of a model under vLLM: ``dense``, ``per_sequence``, ``attention``, ``moe``.

    Attention of prompts and of decodes in one step is left out: only steps of either are taken.

    Parameters
    ----------
    folder
        The folder of one model and degree of tensor parallelism 1.
    model
        Its name.
    shape
        hidden, heads, kv_heads, head_dim, inner, vocab.
    """
    hidden, heads, kv_heads, head_dim, inner, vocab = (
        shape[key] for key in ("hidden", "heads", "kv_heads", "head_dim", "inner", "vocab")
    )
    dense = pd.read_csv(folder / "dense.csv").rename(columns={"tokens": "m"})
    head = pd.read_csv(folder / "per_sequence.csv").rename(columns={"sequences": "m"})
    rows = pd.concat([dense, head], ignore_index=True)
    shapes = {
        "qkv_proj": (hidden, (heads + 2 * kv_heads) * head_dim),
        "o_proj": (heads * head_dim, hidden),
        "gate_up_proj": (hidden, 2 * inner),
        "down_proj": (inner, hidden),
        "lm_head": (hidden, vocab),
    }
    products, passes = [], []
    for layer, (k, n) in shapes.items():
        some = rows[rows["layer"] == layer]
        products.append(
            {"group": model, "precision": "bf16", "m": some["m"], "k": k, "n": n, "seconds": some["time_us"] * 1e-6}
        )
    kinds = {
        "layernorm": ("norm", 4 * hidden),
        "rotary_emb": ("rotary", 2 * (heads + kv_heads) * head_dim),
        "act_fn": ("activation", 3 * inner),
    }
    for layer, (kind, each) in kinds.items():
        some = rows[rows["layer"] == layer]
        passes.append({"group": model, "kind": kind, "elements": some["m"] * each, "seconds": some["time_us"] * 1e-6})
    attention = pd.read_csv(folder / "attention.csv")
    seconds = attention["time_us"] * 1e-6
    which = {"group": model, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    lone, decoded = attention[attention["n_decode"] == 0], attention[attention["prefill_chunk"] == 0]
    prefills = which | {"chunk": lone["prefill_chunk"], "before": lone["kv_prefill"], "seconds": seconds[lone.index]}
    context = decoded["n_decode"] * decoded["kv_decode"]
    decodes = which | {"sequences": decoded["n_decode"], "context": context, "seconds": seconds[decoded.index]}
    grouped = _empty(GROUPED_COLUMNS)
    if (folder / "moe.csv").exists():
        moe = pd.read_csv(folder / "moe.csv")
        visits = moe["tokens"] * EXPERTS_PER_TOKEN
        found = {"group": model, "hidden": hidden, "inner": inner, "visits": visits}
        found |= {"distinct": moe["activated_experts"], "seconds": moe["time_us"] * 1e-6}
        grouped = _table([found], GROUPED_COLUMNS)
    return OperatorMeasurements(
        products=_table(products, PRODUCT_COLUMNS),
        prefills=_table([prefills], PREFILL_COLUMNS),
        decodes=_table([decodes], DECODE_COLUMNS),
        passes=_table(passes, PASS_COLUMNS),
        grouped=grouped,
        source=f"casys-kaist/LLMServingSim under vLLM ({model})",
    )


EXPERTS_PER_TOKEN: Final = 8
"""Experts that a token of Qwen3-30B-A3B visits, the one mixture profiled."""


def read_vidur_attention(path: Path, model: str) -> OperatorMeasurements:
    """Return the attention of a Vidur profile (``attention.csv``, medians in ms), one model, tensor parallelism 1."""
    rows = pd.read_csv(path)
    head_dim = rows["n_embd"] // rows["n_q_head"]
    which = {"group": model, "heads": rows["n_q_head"], "kv_heads": rows["n_kv_head"], "head_dim": head_dim}
    prompt = rows["is_prefill"]
    prefills = which | {"chunk": rows["prefill_chunk_size"], "before": rows["kv_cache_size"]}
    decodes = which | {"sequences": rows["batch_size"], "context": rows["batch_size"] * rows["kv_cache_size"]}
    prefills["seconds"] = (rows["time_stats.attn_prefill.median"] / 1e3).where(prompt, 0.0)
    decodes["seconds"] = (rows["time_stats.attn_decode.median"] / 1e3).where(~prompt, 0.0)
    return OperatorMeasurements(
        prefills=_table([prefills], PREFILL_COLUMNS),
        decodes=_table([decodes], DECODE_COLUMNS),
        source=f"fork of microsoft/vidur ({path.name})",
    )


def read_reference(folder: Path) -> dict[str, OperatorMeasurements]:
    """Return what ``reference/operators`` holds, by the catalogue's accelerators; its README says what it is."""
    pro, ada = folder / "rtxpro6000_vllm", folder / "rtx4090_llama31_8b_vllm"
    llama, mixture = ("Llama-3.1-8B", LLAMA_3_1_8B), ("Qwen3-30B-A3B-Instruct-2507", QWEN3_30B_A3B)
    return {
        "h100-sxm": read_vidur_layers(folder / "vidur_per_layer_h100.csv")
        + read_inferencesim_kernels(folder / "h100_bf16_kernels", "h100"),
        "a100-80gb": read_vidur_layers(folder / "vidur_per_layer_a100.csv"),
        "a40": read_vidur_layers(folder / "vidur_per_layer_a40.csv"),
        "a30": read_vidur_attention(folder / "a30_qwen2_7b_attention.csv", "Qwen2-7B"),
        "rtx-4090": read_llmservingsim_layers(ada / "meta-llama" / "Llama-3.1-8B" / "bf16" / "tp1", *llama),
        "rtx-pro-6000": read_llmservingsim_layers(pro / f"{llama[0]}_tp1", *llama)
        + read_llmservingsim_layers(pro / f"{mixture[0]}_tp1", *mixture),
    }
