"""Engines: their overheads fitted to runs, and runs of models that the fit has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dse.measurements.measured_run import MeasuredRun
from dse.validation.engine import with_engine
from dse.validation.errors import compare
from dse.validation.reference.row import Finding, Options

if TYPE_CHECKING:
    import pandas as pd

    from simulator.spec.engine_profile import EngineProfile


def folds(
    runs: Sequence[MeasuredRun],
    start: EngineProfile,
    *,
    free: Sequence[str],
    label: str = "model",
    options: Options,
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Fit an engine to all runs, and to all but those of each value of a label in turn.

    Parameters
    ----------
    runs
        What was measured.
    start, free
        Where the fits begin, and the figures that they change.
    label
        What is left out together.
    options
        How simulations are run.

    Returns
    -------
    tuple of pandas.DataFrame
        Predictions of all runs by the fit to all; and of each group by the fit to the others, None if there is one
        group alone.
    """
    import joblib
    import pandas as pd

    from dse.execution import default_jobs

    groups = list(dict.fromkeys(run.labels[label] for run in runs))
    left_out = [None, *groups] if len(groups) > 1 else [None]
    work = joblib.delayed(_fold)
    tasks = (work(runs, start, tuple(free), label, group) for group in left_out)
    inside, *parts = joblib.Parallel(n_jobs=min(options.jobs or default_jobs(), len(left_out)))(tasks)
    return inside, pd.concat(parts, ignore_index=True) if parts else None


def _fold(
    runs: Sequence[MeasuredRun], start: EngineProfile, free: tuple[str, ...], label: str, left_out: str | None
) -> pd.DataFrame:
    """Predict a group of runs by a fit to the others; all by a fit to all if none is left out."""
    from dse.calibration.engines import fit_engine

    seen = [run for run in runs if left_out is None or run.labels[label] != left_out]
    predicted = [run for run in runs if left_out is None or run.labels[label] == left_out]
    return compare(with_engine(predicted, fit_engine(seen, start, free=free)))


def both(
    inside: pd.DataFrame,
    unseen: pd.DataFrame | None,
    *,
    data: str,
    engine: str,
    free: Sequence[str],
    bars: Mapping[str, float],
    why: str,
) -> list[Finding]:
    """Return the rows of :func:`folds`: that of the fit, and that of what was left out; bars hold for the latter."""
    figures = ", ".join(f"`{figure}`" for figure in free)
    said = f"{engine}: {figures}, to all of it"
    found = [Finding("calibration", data, said, inside, {} if unseen is not None else bars, why)]
    if unseen is not None:
        said = f"{engine}: {figures}, to the other models, each model in turn"
        found.append(Finding("validation", data, said, unseen, bars, why))
    return found


VLLM_BARS = {"e2e_mean_s": 5.0, "ttft_mean_s": 12.0, "tpot_mean_s": 5.0}
VLLM_TAIL_BARS = {"e2e_p90_s": 8.0, "e2e_p99_s": 8.0, "ttft_p90_s": 20.0, "ttft_p99_s": 20.0}
SPLITWISE_BARS = {"ttft_mean_s": 8.0, "tpot_mean_s": 5.0}
SPLITWISE_CLIENT_BARS = {"ttft_mean_s": 10.0, "tpot_mean_s": 6.0}
TRTLLM_BARS = {"tpot_mean_s": 8.0, "ttft_mean_s": 15.0}


def vllm_015(reference: Path, options: Options) -> list[Finding]:
    """vLLM 0.15 on H100, rates in two steps, prompts of a few users that come again."""
    from dse.calibration.engine_starts import FITS

    fit = FITS["vllm-0.15"]
    inside, unseen = folds(fit.runs(reference), fit.start, free=fit.free, options=options)
    return both(
        inside,
        unseen,
        data="vLLM 0.15 on H100, TP 1 to 4, two rates each",
        engine="`vllm-0.15`",
        free=fit.free,
        bars=VLLM_BARS | VLLM_TAIL_BARS,
        why=(
            "Mistral-Nemo is served a millisecond a step faster than its bytes and layers say beside the other models; "
            "nothing in the data says why. Llama-4-Scout (fp8 experts) is slower in small batches than its kernels. "
            "Reasoning workloads have a TTFT as if half of their prompts were not cached any more. Tails (p99) of the "
            "first rate steps hold the first round of prompts, and whatever an engine compiles then."
        ),
    )


def splitwise(reference: Path, options: Options) -> list[Finding]:
    """Prompts and tokens of an engine of 2023: fitted on batches of one, and on all but one kind of client."""
    import pandas as pd

    from dse.calibration.engine_starts import FITS

    fit = FITS["splitwise-2023"]
    runs = [_with_client(run) for run in fit.runs(reference)]
    everything, unseen = folds(runs, fit.start, free=fit.free, label="client", options=options)
    assert isinstance(unseen, pd.DataFrame)
    larger = _fold(runs, fit.start, fit.free, "batch", "more")
    data = "Splitwise: an engine of 2023, Llama-2-70B and BLOOM-176B on A100 and H100"
    figures = ", ".join(f"`{figure}`" for figure in fit.free)
    why = (
        "Batches of several prompts took up to 42 % longer on A100 than one prompt of as many tokens, as which they "
        "are predicted; steps of more than 2,048 tokens took far longer than all-reduces take alone. "
        "Neither is explained. What a sequence costs the host cannot be seen in batches of one."
    )
    return [
        Finding("calibration", data, f"`splitwise-2023`: {figures}, to all of it", everything, {}, why),
        Finding("validation", data, f"{figures}, to batches of one; larger are predicted", larger, SPLITWISE_BARS, why),
        Finding(
            "validation",
            data,
            f"{figures}, to all but one accelerator and TP, each in turn",
            unseen,
            SPLITWISE_CLIENT_BARS,
            why,
        ),
    ]


def _with_client(run: MeasuredRun) -> MeasuredRun:
    client = f"{run.labels['accelerator']} tp{run.labels['tp']}"
    return MeasuredRun(**{**vars(run), "labels": {**run.labels, "client": client}})


def llama2_latency(reference: Path, options: Options) -> list[Finding]:
    """Lone requests on A100, as NVIDIA published them."""
    from dse.measurements.static_latency import read_static_latency

    runs = read_static_latency(reference / "engine" / "llama2_latency_a100_batch1_200in_200out.csv")
    return [
        Finding(
            "validation",
            "Llama-2 7B to 70B on A100, TP 1 to 8, one request of 200 tokens and 200 more",
            "nothing: `nemo-2024`, by hand, with the kernels and links of A100",
            compare(runs, jobs=options.jobs or 1),
            {"e2e_mean_s": 5.0},
            "With tensor parallelism the all-reduces of the communication library are a third of a step.",
        )
    ]


def trtllm_online(reference: Path, options: Options) -> list[Finding]:
    """TensorRT-LLM 0.14 under Poisson arrivals, and under all requests at once."""
    from dse.measurements.trtllm import read_trtllm_online

    runs = read_trtllm_online(reference / "engine" / "trtllm014_online_llama31_8b.csv")
    rates = [run for run in runs if run.labels["qps"] != "inf"]
    calm = [run for run in rates if float(run.labels["qps"]) <= 16]
    saturated = [run for run in runs if run.labels["qps"] == "inf"]
    fitted = "nothing: `trtllm-0.14`, by hand, with the kernels of H100 and H200"
    data = "TensorRT-LLM 0.14, Llama-3.1-8B on H100 and H200"
    return [
        Finding(
            "validation",
            f"{data}, 2 to 16 requests/s",
            fitted,
            compare(calm, jobs=options.jobs or 1),
            TRTLLM_BARS,
            "Measured figures are whole milliseconds: 7 ms may be 6.5 or 7.5.",
        ),
        Finding(
            "validation",
            f"{data}, all 500 requests at once",
            fitted,
            compare([_only(run, "output_tokens_per_s") for run in saturated], jobs=options.jobs or 1),
            {"output_tokens_per_s": 8.0},
            "Only mean lengths are known. Sustained prefills run into the power limit, which isolated kernels do not.",
        ),
    ]


def _only(run: MeasuredRun, figure: str) -> MeasuredRun:
    return MeasuredRun(**{**vars(run), "figures": {figure: run.figures[figure]}})


def rtx_4090(reference: Path, options: Options) -> list[Finding]:
    """Requests of ShareGPT on one RTX 4090 whose KV cache is too small for them, replayed one by one."""
    from dse.measurements.llmservingsim import read_llmservingsim

    runs = read_llmservingsim(reference / "engine" / "llmservingsim_rtx4090" / "Llama-3.1-8B")
    bars = {f"{metric}_mean_s": 5.0 for metric in ("ttft", "tpot", "e2e")}
    return [
        Finding(
            "validation",
            "vLLM 0.19 on RTX 4090, 300 requests of ShareGPT at 10 requests/s",
            "nothing of this run: `vllm-0.19`, with the kernels of RTX 4090",
            compare(runs, jobs=options.jobs or 1),
            bars | {f"{metric}_p99_s": 12.0 for metric in ("ttft", "tpot", "e2e")},
            "Latencies are those of queueing for KV blocks: the number of blocks is given, so that they come out well.",
        )
    ]
