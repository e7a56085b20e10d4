"""Measured times of single operators, from the tables of ``aiconfigurator-core`` (NVIDIA, Apache-2.0).

A table belongs to a system, a backend and a version, and is one Parquet file a family. They are read where they are
installed and never copied. Times are per call on one accelerator; what a call holds is said at each reader.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dse.measurements._package import SYSTEMS, systems_folder
from simulator.errors import SpecError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4"}
"""Names of number formats that this project has too; others (``int4_wo``, ``w4a16_mxfp4``) stay as they are."""

BYTES = {"bfloat16": 2, "float16": 2, "half": 2, "fp8": 1, "int8": 1}

_KEPT = {"kernel_source": "kernel", "version": "version"}


def versions(system: str, backend: str, family: str, *, table: str | None = None) -> tuple[str, ...]:
    """Return the versions of a backend that a family of operators was measured with, the oldest first.

    Parameters
    ----------
    system
        A catalogued accelerator or a system of the package, e.g. ``h100-sxm``, ``h100_sxm``, ``gb200``.
    backend
        ``sglang``, ``trtllm``, ``vllm``; for collectives ``nccl`` too.
    family
        A folder of the package: ``gemm``, ``attention``, ``moe``, ``comm``, ``mla`` and more.
    table
        Only versions that have this table, e.g. ``gemm_perf``.

    Raises
    ------
    SpecError
        If the package is not installed, or has no such system, backend or family.
    """
    folder = _folder(system, backend, family)
    names = [entry.name for entry in folder.iterdir() if _holds(entry, table)]
    return tuple(sorted(names, key=_order))


def read_gemm(system: str, backend: str, version: str | None = None) -> pd.DataFrame:
    """Return times of ``m x k`` times ``k x n``, of eight- and four-bit formats with quantising the activations.

    Parameters
    ----------
    system, backend
        As in :func:`versions`.
    version
        One of ``versions(system, backend, "gemm")``; the one with most rows if None.

    Returns
    -------
    pandas.DataFrame
        ``op, dtype, format, m, n, k, time_us, kernel, version``: ``format`` is the package's name of ``dtype``.

    Raises
    ------
    SpecError
        If the package is not installed, or has no such table.
    """
    raw = _read(system, backend, version, "gemm", "gemm_perf")
    return _tidy(raw, "gemm_dtype", {"m": "m", "n": "n", "k": "k"})


def read_attention(system: str, backend: str, version: str | None = None) -> pd.DataFrame:
    """Return times of attention over one layer, for the heads of one accelerator.

    ``op`` is ``context_attention`` (every sequence adds ``new_tokens`` to a context of ``past_tokens``) or
    ``generation_attention`` (``new_tokens`` is 1). Projections are not in it.

    Parameters
    ----------
    system, backend
        As in :func:`versions`.
    version
        One of ``versions(system, backend, "attention")``; the one with most rows if None.

    Returns
    -------
    pandas.DataFrame
        ``op, dtype, format, sequences, new_tokens, past_tokens, heads, kv_heads, head_dim, window_tokens, kv_dtype,
        time_us, kernel, version``; ``window_tokens`` is 0 without a window.

    Raises
    ------
    SpecError
        If the package is not installed, or has no such table.
    """
    import pandas as pd

    names = {
        "batch_size": "sequences",
        "isl": "new_tokens",
        "step": "past_tokens",
        "num_heads": "heads",
        "num_key_value_heads": "kv_heads",
        "head_dim": "head_dim",
        "window_size": "window_tokens",
        "kv_cache_dtype": "kv_dtype",
    }
    tables = []
    for table in ("context_attention_perf", "generation_attention_perf"):
        raw = _read(system, backend, version, "attention", table)
        if "window_size" not in raw.columns:
            raw = raw.assign(window_size=0)
        tables.append(_tidy(raw, "attn_dtype", names))
    frame = pd.concat(tables, ignore_index=True)
    frame["kv_dtype"] = frame["kv_dtype"].map(DTYPES).fillna(frame["kv_dtype"])
    return frame


def read_collectives(system: str, backend: str = "nccl", version: str | None = None) -> pd.DataFrame:
    """Return times of collectives within one server, or a rack where that is one domain.

    Parameters
    ----------
    system
        As in :func:`versions`.
    backend
        ``nccl`` for NCCL's own; an engine for its own all-reduce, with and without CUDA graphs.
    version
        One of ``versions(system, backend, "comm")``; the one with most rows if None.

    Returns
    -------
    pandas.DataFrame
        ``op, dtype, format, accelerators, elements, bytes, time_us, kernel, version``: the size is that of the whole
        tensor (what a rank holds after an all-gather, or before a reduce-scatter).

    Raises
    ------
    SpecError
        If the package is not installed, or has no such table.
    """
    own = backend not in ("nccl", "oneccl")
    table = "custom_allreduce_perf" if own else f"{backend}_perf"
    raw = _read(system, backend, version, "comm", table)
    dtype = "allreduce_dtype" if own else "nccl_dtype"
    frame = _tidy(raw, dtype, {"num_gpus": "accelerators", "message_size": "elements"})
    frame.insert(5, "bytes", frame["elements"] * frame["format"].map(BYTES))
    return frame


def read_moe(system: str, backend: str, version: str | None = None) -> pd.DataFrame:
    """Return times of the routed experts of one layer on one accelerator of ``moe_tp * ep``.

    ``tokens`` are those of all ranks together. ``balance`` is ``balanced``, or ``power_law_x`` where tokens choose
    experts by a power law.

    Parameters
    ----------
    system, backend
        As in :func:`versions`.
    version
        One of ``versions(system, backend, "moe")``; the one with most rows if None: the newest may hold a few
        new models alone.

    Returns
    -------
    pandas.DataFrame
        ``op, dtype, format, tokens, hidden, expert_intermediate, experts_per_token, experts, moe_tp, ep, balance,
        time_us, kernel, version``.

    Raises
    ------
    SpecError
        If the package is not installed, or has no such table.
    """
    names = {
        "num_tokens": "tokens",
        "hidden_size": "hidden",
        "inter_size": "expert_intermediate",
        "topk": "experts_per_token",
        "num_experts": "experts",
        "moe_tp_size": "moe_tp",
        "moe_ep_size": "ep",
        "distribution": "balance",
    }
    return _tidy(_read(system, backend, version, "moe", "moe_perf"), "moe_dtype", names)


def read_quantisation(system: str, backend: str, version: str | None = None) -> pd.DataFrame:
    """Return times of quantising ``m x k`` activations of 16 bits to 8, with a scale for each row found on the way.

    The package has them in two parts, which are added: quantising with a given scale, and what finding it takes more.

    Parameters
    ----------
    system, backend
        As in :func:`versions`.
    version
        One of ``versions(system, backend, "quantize")``; the one with most rows if None.

    Returns
    -------
    pandas.DataFrame
        ``m, k, time_us``.

    Raises
    ------
    SpecError
        If the package is not installed, or has no such tables.
    """
    parts = [
        _tidy(_read(system, backend, version, "quantize", f"{table}_perf"), "quant_dtype", {"m": "m", "k": "k"})
        .groupby(["m", "k"])["time_us"]
        .median()
        for table in ("scale_matrix", "computescale")
    ]
    return parts[0].add(parts[1], fill_value=0.0).rename("time_us").reset_index()


def _tidy(raw: pd.DataFrame, dtype: str, names: dict[str, str]) -> pd.DataFrame:
    """Return a table with this project's names, the time in microseconds."""
    missing = [column for column in (dtype, "op_name", "latency", *names) if column not in raw.columns]
    if missing:
        raise SpecError(f"aiconfigurator-core: a table has no column {', '.join(missing)}")
    frame = raw[list(names)].rename(columns=names)
    frame.insert(0, "op", raw["op_name"])
    frame.insert(1, "dtype", raw[dtype].map(DTYPES).fillna(raw[dtype]))
    frame.insert(2, "format", raw[dtype])
    frame["time_us"] = 1000.0 * raw["latency"]
    for column, name in _KEPT.items():
        frame[name] = raw[column] if column in raw.columns else ""
    return frame


def _read(system: str, backend: str, version: str | None, family: str, table: str) -> pd.DataFrame:
    import pandas as pd

    known = versions(system, backend, family, table=table)
    if not known:
        raise SpecError(f"aiconfigurator-core: no {table} of {backend} on {system}")
    if version is not None and version not in known:
        raise unknown_name(f"version of {backend} for {table} on {system}", version, known)
    files = {name: _folder(system, backend, family) / name / f"{table}.parquet" for name in reversed(known)}
    return pd.read_parquet(files[version or max(files, key=lambda name: _rows(files[name]))])


def _rows(file: Path) -> int:
    from pyarrow import parquet

    return int(parquet.ParquetFile(file).metadata.num_rows)


def _folder(system: str, backend: str, family: str) -> Path:
    folder = systems_folder() / "data"
    theirs = {ours: name for name, ours in SYSTEMS.items()}
    for kind, name in (("system", theirs.get(system, system)), ("family", family), ("backend", backend)):
        found = [entry.name for entry in folder.iterdir() if entry.is_dir()]
        if name not in found:
            raise unknown_name(f"aiconfigurator-core: {kind}", name, found)
        folder /= name
    return folder


def _holds(folder: Path, table: str | None) -> bool:
    """Whether a version has a table, or any."""
    return any(folder.glob("*.parquet" if table is None else f"{table}.parquet"))


def _order(version: str) -> tuple[tuple[int, str, int], ...]:
    """Return a key that sorts ``1.3.0rc9`` before ``1.3.0rc20`` and both before ``1.3.0`` and ``1.3.0.post1``."""
    import re

    rank = {"dev": -3, "rc": -2, "": 0, "post": 1}
    pieces = re.findall(r"(rc|post|dev)?(\d+)", version)
    return (*((rank[word], word, int(number)) for word, number in pieces), (-1, "", 0))
