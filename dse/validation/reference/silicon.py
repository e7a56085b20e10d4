"""Engines on H100, H200 and Blackwell as others measured them; nothing was fitted to these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dse.measurements._package import systems_folder
from dse.measurements.silicon_runs import CONFIGURATION, silicon_runs
from dse.validation.errors import compare
from dse.validation.reference.row import Finding, Options, metric_name

if TYPE_CHECKING:
    import pandas as pd

HOPPER: Final = ("h100-sxm", "h200-sxm")
BARS: Final = {"ttft_mean_s": 25.0, "tpot_mean_s": 9.0}
"""Of the median over rows on Hopper; the predictor of the package itself is 50 and 14 % off."""

FITTED: Final = "nothing; engines have the catalogued profiles"
WHY: Final = (
    "How engines were started: the benches' public scripts, see `dse/measurements/silicon_runs.py`. Not modelled: "
    "TensorRT-LLM waiting to fill its batches (Llama-70B, 1024/1024 on fewer than 8), its admission of no more than "
    "fits to the end, SGLang polling for requests every 10 or 30 steps (Blackwell), weights of 4 bits of "
    "experts alone (gpt-oss). Prompts are random tokens, which may not visit experts uniformly: with `expert_skew` 1.2 "
    "steps of mixtures come nearer, but those of Llama-4-Scout (vLLM 0.15) do not. Prompts of DeepSeek take 0.1 to "
    "0.25 s longer than predicted, which is not explained."
)


def installed() -> None:
    """Check that the measurements are there.

    Raises
    ------
    SpecError
        If the package is not installed.
    """
    systems_folder()


def engines_of_others(reference: Path, options: Options) -> list[Finding]:
    """vLLM, TensorRT-LLM and SGLang in closed loops: H100 and H200 with bars, B200 without."""
    from dse.measurements.silicon import read_silicon

    del reference
    frame = read_silicon()
    found = []
    for data, some, bars in (
        ("H100 and H200", frame["accelerator"].isin(HOPPER), BARS),
        ("B200", frame["accelerator"] == "b200", {}),
    ):
        compared = compare(silicon_runs(frame[some]), jobs=options.jobs)
        data = f"aiconfigurator-core's measurements of vLLM, TensorRT-LLM and SGLang on {data}"
        found.append(Finding("validation", data, FITTED, compared, bars, f"{by_configuration_text(compared)}. {WHY}"))
    return found


def by_configuration(compared: pd.DataFrame) -> Mapping[str, float]:
    """Return the median over configurations of the median absolute error of each, percent, by metric.

    A configuration is all rows that differ in lengths and concurrency alone; some have three rows, others sixty.

    Parameters
    ----------
    compared
        Of :func:`dse.validation.errors.compare`.
    """
    known = compared[compared["error_percent"].notna()]
    absolute = known.assign(absolute=known["error_percent"].abs())
    medians = absolute.groupby(["metric", *CONFIGURATION])["absolute"].median()
    return {str(metric): float(value) for metric, value in medians.groupby("metric").median().items()}


def by_configuration_text(compared: pd.DataFrame) -> str:
    """Return :func:`by_configuration` in words."""
    medians = by_configuration(compared)
    said = ", ".join(f"{metric_name(metric)} {value:.1f} %" for metric, value in sorted(medians.items()))
    return f"Medians over {compared.groupby(list(CONFIGURATION)).ngroups} configurations, each with its own: {said}"
