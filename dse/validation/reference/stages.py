"""What is around an LLM: hand-overs of KV, retrieval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dse.validation.reference.row import Finding, Options, measured_frame
from simulator.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd

    from dse.measurements.kv_transfer import Transfers
    from dse.measurements.retrieval import Searches
    from simulator.performance.engine import Engine

TRANSFER_MODELS = {"Qwen3-8B": "qwen3-8b", "Qwen3-235B-A22B BF16": "qwen3-235b-a22b"}
XEONS = {
    "xeon-gold-6448y": "faiss_ivf_100m_xeon_gold_6448y.csv",
    "xeon-platinum-8380": "faiss_ivf_100m_xeon_platinum_8380.csv",
}


def kv_transfers(reference: Path, options: Options) -> list[Finding]:
    """Hand-overs with vLLM and SGLang: both fitted, and each predicted by the other."""
    import pandas as pd

    from dse.calibration.kv_transfer import fit_hand_over
    from dse.measurements.kv_transfer import read_transfers

    del options
    runs = [_with_engine(run) for run in read_transfers(reference / "stages" / "mooncake_pd_kv_transfer.csv")]
    everything = fit_hand_over(runs)
    inside = [_hand_overs(*run, everything) for run in runs]
    unseen = []
    for run in runs:
        others = fit_hand_over([other for other in runs if other is not run])
        unseen.append(_hand_overs(*run, others))
    data = "Mooncake: hand-overs of KV by RDMA, prompts from 1k tokens"
    figures = "share of the network and start of a layer"
    why = "Shorter prompts take the time of the protocol's control messages, which is not modelled."
    return [
        Finding("calibration", data, f"{figures}, to both models", pd.concat(inside, ignore_index=True), {}, why),
        Finding(
            "validation",
            data,
            f"{figures}, to the other model, engine and network",
            pd.concat(unseen, ignore_index=True),
            {"seconds_s": 10.0},
            why,
        ),
    ]


def retrieval(reference: Path, options: Options) -> list[Finding]:
    """Searches of an index of 100 million vectors on two servers: both fitted, and each predicted by the other."""
    import pandas as pd

    from dse.calibration.retrieval import fit_retrieval
    from dse.measurements.retrieval import read_searches
    from simulator.catalog import cpu

    del options
    searches = {name: read_searches(reference / "stages" / file) for name, file in XEONS.items()}
    everything = fit_retrieval(list(searches.values()), [cpu(name) for name in searches])
    inside = [_searched(measured, name, everything) for name, measured in searches.items()]
    unseen = []
    for name, measured in searches.items():
        (other,) = (each for each in searches if each != name)
        unseen.append(_searched(measured, name, fit_retrieval(searches[other], cpu(other))))
    data = "FAISS IVF-PQ on two Xeons, batches and probes varied"
    figures = "rate of scanning, of the coarse search, spread of queries"
    why = "The shards are of unequal and unknown size: the median over them is itself about 10 % off."
    return [
        Finding("calibration", data, f"{figures}, to both", pd.concat(inside, ignore_index=True), {}, why),
        Finding(
            "validation",
            data,
            f"{figures}, to the other Xeon",
            pd.concat(unseen, ignore_index=True),
            {"seconds_s": 15.0},
            why,
        ),
    ]


def _with_engine(run: Transfers) -> tuple[Transfers, Engine]:
    from simulator import Pool
    from simulator.performance.engine import engine_of

    if run.model not in TRANSFER_MODELS:
        raise unknown_name("model of a hand-over", run.model, TRANSFER_MODELS)
    pool = {"model": TRANSFER_MODELS[run.model], "accelerator": "h200-sxm", "tp": 8}
    return run, engine_of(Pool.parse(pool))


def _hand_overs(run: Transfers, engine: Engine, fit: tuple[float, float]) -> pd.DataFrame:
    from dse.calibration.kv_transfer import LEAST_TOKENS, hand_over_s

    long = run.prompt_tokens >= LEAST_TOKENS
    names = [f"{run.model} with {run.engine}, {tokens:,} tokens" for tokens in run.prompt_tokens[long]]
    return measured_frame(names, run.seconds[long], hand_over_s(run, engine, *fit)[long])


def _searched(measured: Searches, device: str, fit: tuple[float, object]) -> pd.DataFrame:
    from dse.calibration.retrieval import search_s
    from simulator.catalog import cpu

    rate, scanning = fit
    names = [
        f"{device}, shard {shard}, {queries} queries, {probes} probes"
        for shard, queries, probes in zip(measured.shard, measured.queries, measured.probes, strict=True)
    ]
    return measured_frame(names, measured.seconds, search_s(measured, cpu(device), rate, scanning))  # type: ignore[arg-type]
