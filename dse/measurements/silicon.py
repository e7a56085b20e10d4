"""Measured latencies of engines on H100, H200 and Blackwell, from ``silicon_sample.csv`` of ``aiconfigurator-core``.

Two benches made them. Rows of the source ``inferencex`` are InferenceX's (SemiAnalysis, Apache-2.0): a closed loop of
``concurrency`` users, ten requests for each, all users starting at once on a warm engine without prefix caching;
lengths are uniform between 0.8 of the nominal ones and these, end of sequence is ignored. Rows of the source
``nvidia`` are a closed loop with fixed lengths, whose requests are not stated: about ten a user where it can be seen.
Both give the mean over all requests, the burst at the start included.

The file is read where it is installed and never copied. It is there to check the simulator, not to fit it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from dse.measurements._package import SYSTEMS, systems_folder
from simulator.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

FILE = "silicon_sample.csv"

MODELS = {
    "MiniMaxAI/MiniMax-M2.5": "minimax-m2.5",
    "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "deepseek-ai/DeepSeek-R1": "deepseek-v3",
    "deepseek-ai/DeepSeek-V3": "deepseek-v3",
    "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "moonshotai/Kimi-K2.5": "kimi-k2.5",
    "nvidia/DeepSeek-R1-NVFP4": "deepseek-v3",
    "nvidia/DeepSeek-V3.1-NVFP4": "deepseek-v3",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "llama-3.1-8b",
    "nvidia/Qwen3-32B-NVFP4": "qwen3-32b",
    "openai/gpt-oss-120b": "gpt-oss-120b",
}
"""Checkpoints whose architecture is catalogued. Qwen3.5 (gated delta rule) and GLM-5 (sparse attention) have none."""

ENGINES = {"sglang": "sglang", "trtllm": "tensorrt-llm", "vllm": "vllm"}
WEIGHTS = {"bf16": "bf16", "fp8": "fp8", "fp4": "fp4", "int4": "int4"}
COLUMNS = (
    "id",
    "source",
    "measured_on",
    "accelerator",
    "model",
    "checkpoint",
    "engine",
    "engine_version",
    "deployment",
    "tp",
    "pp",
    "dp",
    "ep",
    "accelerators",
    "weights",
    "kv",
    "isl_tokens",
    "osl_tokens",
    "shortest_share",
    "concurrency",
    "requests",
    "ttft_ms",
    "tpot_ms",
    "tpot_spread",
    "why_skipped",
)

_NUMBERS = ("isl", "osl", "tp_size", "moe_tp_size", "moe_ep_size", "silicon_ttft_ms", "silicon_tpot_ms")
_NEEDED = (*_NUMBERS, "id", "silicon_data_source", "model_path", "system", "backend", "precision", "mode")
_GPUS_OF_A_SERVER = 8
_RANKS = re.compile(r"_tp(\d+)(?:_\d)?_ep(\d+)(?:_\d)?_\d+$")
"""The end of the id of a row from InferenceX's web page, which has the ranks that its bench was started with."""


def read_silicon(path: Path | None = None) -> pd.DataFrame:
    """Return the measurements, a row each, those that cannot be replayed included.

    ``ttft_ms`` and ``tpot_ms`` are means over all requests. ``isl_tokens`` and ``osl_tokens`` are the longest lengths,
    ``shortest_share`` times these the shortest. ``requests`` is NaN where it is not stated. ``kv`` is None: the file
    does not say. ``dp`` counts ranks of data-parallel attention, ``ep`` is 1 without expert parallelism.
    ``tpot_spread`` is the largest over the smallest ``tpot_ms`` of rows that differ in version and day only; far
    from 1, some setting is not in the file. ``why_skipped`` is empty where a row can be used.

    Parameters
    ----------
    path
        The file; that of the installed package if None.

    Returns
    -------
    pandas.DataFrame
        With :data:`COLUMNS`, as many rows as the file, in its order.

    Raises
    ------
    SpecError
        If the package is not installed, or the file cannot be read or lacks a column.
    """
    import numpy as np
    import pandas as pd

    raw = _read(path)
    details = raw["silicon_data_source"].astype(str)
    ranks = raw["id"].str.extract(_RANKS).astype("float64")
    concurrency = details.str.extract(r"silicon_concurrency=(\d+)")[0].astype("float64")
    public = details.str.contains("wip=") | details.str.startswith("db-dump") | details.str.contains("gap-analysis.csv")
    tp, dp, ep = _parallelism(raw, ranks)
    frame = pd.DataFrame(
        {
            "id": raw["id"],
            "source": np.where(public, "inferencex", "nvidia"),
            "measured_on": details.str.extract(r"measured=(\d{4}-\d\d-\d\d)")[0],
            "accelerator": raw["system"].map(SYSTEMS).fillna(raw["system"]),
            "model": raw["model_path"].map(MODELS).fillna(raw["model_path"]),
            "checkpoint": raw["model_path"],
            "engine": raw["backend"].map(ENGINES).fillna(raw["backend"]),
            "engine_version": raw["backend_version"],
            "deployment": raw["mode"].map({"agg": "aggregated", "disagg": "disaggregated"}),
            "tp": tp,
            "pp": raw["pp_size"],
            "dp": dp,
            "ep": ep,
            "accelerators": tp * raw["pp_size"] * dp,
            "weights": _weights(raw),
            "kv": None,
            "isl_tokens": raw["isl"],
            "osl_tokens": raw["osl"],
            "shortest_share": np.where(public, 0.8, 1.0),
            "concurrency": concurrency,
            "requests": np.where(public, 10 * concurrency, np.nan),
            "ttft_ms": raw["silicon_ttft_ms"],
            "tpot_ms": raw["silicon_tpot_ms"],
        }
    )
    for column in ("tp", "pp", "dp", "ep", "accelerators", "concurrency", "requests"):
        frame[column] = frame[column].astype("Int64")
    frame["why_skipped"] = _why_skipped(raw, frame, ranks)
    frame["tpot_spread"] = _spread(frame)
    return frame[list(COLUMNS)]


def skipped(frame: pd.DataFrame) -> pd.Series:
    """Return how many rows there are for each reason, the usable ones (an empty reason) first.

    Parameters
    ----------
    frame
        From :func:`read_silicon`.
    """
    counts = frame["why_skipped"].value_counts()
    return counts.reindex(["", *(reason for reason in counts.index if reason)]).fillna(0).astype("int64")


def _read(path: Path | None) -> pd.DataFrame:
    import pandas as pd

    file = systems_folder() / FILE if path is None else Path(path)
    try:
        raw = pd.read_csv(file, low_memory=False)
    except OSError as error:
        raise SpecError(f"{file}: {error.strerror or error}") from None
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are of the kind ValueError
        raise SpecError(f"{file}: not a CSV file: {error}") from None
    missing = [column for column in _NEEDED if column not in raw.columns]
    if missing:
        raise SpecError(f"{file}: no column {', '.join(missing)}")
    text = [column for column in _NUMBERS if not pd.api.types.is_numeric_dtype(raw[column])]
    if text:
        raise SpecError(f"{file}: not numbers: column {', '.join(text)}")
    return raw


def _weights(raw: pd.DataFrame) -> pd.Series:
    """Return the precision of the weights; that of the checkpoint where the file is silent: 16 bits, MXFP4 or FP8."""
    native = raw["model_path"].map({"openai/gpt-oss-120b": "fp4"}).fillna("bf16")
    native = native.mask(raw["model_path"].str.contains("FP8"), "fp8").mask(
        raw["model_path"].str.contains("NVFP4"), "fp4"
    )
    return raw["precision"].map(WEIGHTS).fillna(native)


def _parallelism(raw: pd.DataFrame, ranks: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return tp, dp and ep of what ran.

    The file multiplies InferenceX's tp and ep where both are set (8 and 8 become 64 accelerators of a server that has
    8). What the bench was started with is at the end of an id, or follows from the columns.
    """
    import numpy as np

    dp = raw["attention_dp_size"].fillna(1).clip(lower=1)
    moe_tp = raw["moe_tp_size"].fillna(1).clip(lower=1)
    ep = raw["moe_ep_size"].fillna(1).clip(lower=1)
    squared = (moe_tp == ep) & (ep > 1) & (raw["tp_size"] * dp == ep * ep) & (ep != 2)
    squared |= (dp > 1) & (ep > 1) & (raw["tp_size"] == dp) & (ep == dp * dp)
    squared |= (dp > 1) & (ep > 1) & (raw["tp_size"] == 1) & (moe_tp == ep) & (dp == ep * ep)
    n = np.where(ranks[0].notna(), ranks[0], np.where(squared, np.where(moe_tp > 1, moe_tp, dp), np.nan))
    known = ~np.isnan(n)
    of_ids = np.where(ranks[1].notna(), ranks[1], n)
    attention = dp > 1
    tp = raw["tp_size"].where(~known, np.where(attention, 1, n))
    return tp, dp.where(~known, np.where(attention, n, 1)), ep.where(~known, of_ids)


def _why_skipped(raw: pd.DataFrame, frame: pd.DataFrame, ranks: pd.DataFrame) -> pd.Series:
    """Return the first reason that holds for each row, or nothing."""
    import pandas as pd

    dump = raw["silicon_data_source"].astype(str).str.startswith("db-dump")
    same = [frame[column] for column in ("model", "accelerator", "engine", "deployment", "concurrency")]
    same += [raw["isl"], raw["osl"], raw["silicon_ttft_ms"].round(5), raw["silicon_tpot_ms"].round(5)]
    measurement = pd.DataFrame({str(at): column for at, column in enumerate(same)})
    groups = measurement.groupby(list(measurement.columns), dropna=False, sort=False)
    in_dump = dump.groupby(groups.ngroup()).transform("any")
    page = (frame["source"] == "inferencex") & ~dump & ~raw["id"].str.contains("gap_analysis")
    copies = raw["batch_size"] * raw["attention_dp_size"].fillna(1).clip(lower=1) != frame["concurrency"]
    unclear = dump & (raw["tp_size"] == 4) & (raw["moe_tp_size"] == 2) & (raw["moe_ep_size"] == 2)
    ranks_of_experts = raw["moe_tp_size"].fillna(1) * raw["moe_ep_size"].fillna(1)
    unclear |= (frame["source"] == "nvidia") & (ranks_of_experts > frame["tp"] * frame["dp"])
    capped = (frame["model"] == "gpt-oss-120b") & (raw["system"] == "h100_sxm") & (frame["concurrency"] == 512)
    reasons = (
        ("disaggregated", raw["mode"] == "disagg"),
        ("accelerator not catalogued", ~raw["system"].isin(SYSTEMS.keys())),
        ("model not catalogued", ~raw["model_path"].isin(MODELS.keys())),
        ("concurrency not stated", frame["concurrency"].isna()),
        ("several copies, not stated how many", (frame["source"] == "nvidia") & copies),
        ("parallelism not certain", unclear | (frame["accelerators"] > _GPUS_OF_A_SERVER)),
        ("engine's limit of running requests not stated", capped),
        ("duplicate", measurement.duplicated()),
        ("perhaps speculative decoding", page & (frame["model"] == "deepseek-v3") & ~in_dump & ranks[0].notna()),
    )
    why = pd.Series("", index=raw.index, dtype=object)
    for reason, holds in reasons:
        why = why.mask((why == "") & holds.fillna(False).astype(bool), reason)
    return why


def _spread(frame: pd.DataFrame) -> pd.Series:
    """Return the largest over the smallest TPOT of usable rows of one configuration; NaN where a row is skipped."""
    same = ["source", "model", "accelerator", "engine", "weights", "tp", "dp", "ep"]
    same += ["isl_tokens", "osl_tokens", "concurrency"]
    tpot = frame[frame["why_skipped"] == ""].groupby(same, dropna=False)["tpot_ms"]
    return (tpot.transform("max") / tpot.transform("min")).reindex(frame.index)
