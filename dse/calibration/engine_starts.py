"""Where fits of engines begin: what is known of an engine without the runs that it is fitted to.

Round figures by hand; :func:`dse.calibration.engines.fit_engine` leaves them where runs say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dse.measurements.measured_run import MeasuredRun
from dse.measurements.splitwise import read_splitwise
from dse.measurements.vllm_runs import read_vllm_runs
from simulator.spec.engine_profile import EngineProfile

VLLM: Final[dict[str, Any]] = {
    "name": "vllm-0.15",
    "source": "runs of vLLM 0.15 (sim-to-real-accuracy-validation, inference-sim): vllm015_h100_runs.csv",
    "accelerators": ["h100-sxm"],
    "step_us": 1200.0,
    "parallel_step_us": 200.0,
    "sequence_us": 5.0,
    "launch_share": 0.8,
    "request_us": 8000.0,
    "graph_tokens": 512,
    "defaults": {
        "memory_utilization": 0.9,
        "block_tokens": 16,
        "max_batch_requests": 256,
        "token_budget_tokens": 2048,
        "schedule_ahead": True,
    },
}

SPLITWISE: Final[dict[str, Any]] = {
    "name": "splitwise-2023",
    "source": "an engine of 2023 on servers with eight accelerators (Mutinifni/splitwise-sim): "
    "splitwise_prompt_and_token_time.csv",
    "note": "Launches from Python, no captured graphs, library collectives. Large all-reduces among four accelerators "
    "and more took far longer than the library takes alone; why is not known.",
    "accelerators": ["a100-80gb", "h100-sxm"],
    "step_us": 3000.0,
    "sequence_us": 250.0,
    "launch_share": 0.7,
    "eager_layer_us": 450.0,
    "prompt_step_us": 10000.0,
    "own_all_reduce": False,
    "collective_us": 20.0,
    "bulk_tokens": 2048,
    "bulk_share": 0.15,
    "defaults": {"memory_utilization": 0.9, "block_tokens": 16, "schedule_ahead": False},
}


@dataclass(frozen=True)
class Fit:
    """What an engine is fitted to, and which of its figures.

    Attributes
    ----------
    start
        Where to begin.
    free
        The figures.
    file
        In the reference folder.
    read
        Its reader.
    """

    start: EngineProfile
    free: tuple[str, ...]
    file: str
    read: Callable[[Path], Sequence[MeasuredRun]]

    def runs(self, reference: Path) -> Sequence[MeasuredRun]:
        """Return the runs in a copy of the reference data."""
        return self.read(reference / self.file)


def _start(data: dict[str, Any]) -> EngineProfile:
    return EngineProfile.parse({"date": "by hand", "calibrated": "by hand", **data}, source=str(data["name"]))


FITS: Final = {
    "vllm-0.15": Fit(
        _start(VLLM),
        ("step_us", "parallel_step_us", "sequence_us", "launch_share", "request_us"),
        "engine/vllm015_h100_runs.csv",
        read_vllm_runs,
    ),
    "splitwise-2023": Fit(
        _start(SPLITWISE),
        (
            "step_us",
            "eager_layer_us",
            "prompt_step_us",
            "sequence_us",
            "compute_slowdown",
            "host_slowdown",
            "collective_us",
            "bulk_share",
        ),
        "engine/splitwise_prompt_and_token_time.csv",
        read_splitwise,
    ),
}
"""By the engine's name."""
