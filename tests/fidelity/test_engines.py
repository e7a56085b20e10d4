"""Engines against measured runs: the rows of the page of fidelity, with what they must not exceed.

Where a bar of the page is missed, the test holds what was reached, so that it does not get worse unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from dse.validation.errors import errors
from dse.validation.reference import engines
from dse.validation.reference.row import Finding, Options

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"

if not REFERENCE.is_dir():
    pytest.skip(f"reference data absent: {REFERENCE} is no folder", allow_module_level=True)

Study = Callable[[Path, Options], Sequence[Finding]]


def medians(finding: Finding) -> dict[str, float]:
    """Return the median absolute errors in percent by metric."""
    table = errors(finding.frame).set_index("metric")
    return {str(metric): float(value) for metric, value in table["median_ape"].items()}


def unseen(study: Study) -> list[Finding]:
    """Return the rows of a study that were not fitted."""
    return [finding for finding in study(REFERENCE, Options(jobs=1)) if finding.kind == "validation"]


@pytest.mark.parametrize("study", [engines.llama2_latency, engines.trtllm_online, engines.rtx_4090])
def test_engines_that_nothing_was_fitted_to(study: Study) -> None:
    findings = unseen(study)
    assert findings
    assert all(finding.kept for finding in findings), [medians(finding) for finding in findings]


def test_a_model_that_the_fit_has_not_seen() -> None:
    (finding,) = unseen(engines.vllm_015)
    found = medians(finding)
    means = {"e2e_mean_s": 5.0, "ttft_mean_s": 12.0, "tpot_mean_s": 5.0}
    assert {metric for metric, bar in means.items() if found[metric] > bar} == set()
    errors_of = finding.frame.assign(size=finding.frame["error_percent"].abs()).groupby("metric")["size"]
    tails = {metric: sizes for metric, sizes in errors_of if str(metric).endswith(("_p90_s", "_p99_s"))}
    of_both = {
        metric: float(np.median([*tails[f"{metric}_p90_s"], *tails[f"{metric}_p99_s"]])) for metric in ("e2e", "ttft")
    }
    assert of_both["e2e"] <= 8.0
    assert of_both["ttft"] <= 20.0


def test_an_engine_of_2023() -> None:
    larger, clients = unseen(engines.splitwise)
    # The page's bars for prompts are 8 and 10 %; why they are missed is said there.
    assert medians(larger)["tpot_mean_s"] <= 5.0
    assert medians(larger)["ttft_mean_s"] <= 10.5
    assert medians(clients)["tpot_mean_s"] <= 6.0
    assert medians(clients)["ttft_mean_s"] <= 13.5
