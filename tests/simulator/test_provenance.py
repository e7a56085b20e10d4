"""Whether a pool's coefficients were fitted, and to what."""

from __future__ import annotations

from typing import Any

import pytest

from simulator import Deployment, Pool, Workload, catalog, simulate
from simulator.performance.engine import engine_of
from simulator.performance.provenance import Status, provenance, provenance_of


def profile(**changes: Any) -> dict[str, Any]:
    return {
        "name": "engine-1.0",
        "source": "runs",
        "date": "2026-11-21",
        "accelerators": ["h100-sxm"],
        "step_us": 1000,
        **changes,
    }


def pool(accelerator: str, engine: Any = None) -> Pool:
    return Pool.parse({"model": "llama-3.1-8b", "accelerator": accelerator, "engine": engine or profile()})


@pytest.mark.parametrize(
    ("accelerator", "engine", "calibrated", "words"),
    [
        ("h100-sxm", profile(), "yes", "engine-1.0, kernels calibrated"),
        ("h100-sxm", profile(accelerators=[]), "yes", "engine-1.0, kernels calibrated"),
        ("a100-80gb", profile(), "transferred", "engine-1.0 transferred from h100-sxm, kernels calibrated"),
        (
            "h100-pcie",
            profile(accelerators=["h100-pcie"]),
            "transferred",
            "engine-1.0, kernels transferred from h100-sxm",
        ),
        ("mi300x", profile(), "datasheet", "engine-1.0 transferred from h100-sxm, kernels by datasheet"),
        ("mi300x", profile(accelerators=["mi300x"]), "datasheet", "engine-1.0, kernels by datasheet"),
        ("h100-sxm", profile(calibrated="by hand"), "datasheet", "engine-1.0 by hand, kernels calibrated"),
    ],
)
def test_the_worse_of_both(accelerator: str, engine: dict[str, Any], calibrated: Status, words: str) -> None:
    some = pool(accelerator, engine)
    found = provenance(some)
    assert found.calibrated == calibrated
    assert found.words == words
    assert found == provenance_of(engine_of(some))
    assert found.kernels_source == catalog.kernel_profile(accelerator).source
    assert found.engine_source == "runs"


@pytest.mark.parametrize("accelerator", catalog.accelerator_names())
def test_every_accelerator_has_a_status(accelerator: str) -> None:
    found = provenance(Pool(model="llama-3.1-8b", accelerator=accelerator))
    assert found.kernels == catalog.kernel_profile(accelerator).calibrated
    assert found.calibrated in ("yes", "transferred", "datasheet")
    assert found.kernels_source


def test_results_have_it() -> None:
    pools = [pool("h100-sxm"), pool("l4").model_copy(update={"name": "other"})]
    load = Workload.parse(
        {
            "requests": 20,
            "arrivals": {"process": "poisson", "rate_rps": 2},
            "lengths": {"statistics": "azure-2023-conversation"},
        }
    )
    result = simulate(Deployment(pools=tuple(pools)), load)
    assert [use.calibrated for use in result.pools] == ["yes", "transferred"]
