"""Engines of tests."""

from __future__ import annotations

from typing import Any, Final

from simulator import catalog

#: An engine that adds to its kernels what any did before engines had profiles (``EngineOverheads()``), and has no
#: defaults: its requests are at once where they are served.
PLAIN: Final[dict[str, Any]] = {
    "name": "plain",
    "source": "tests",
    "date": "2026-11-21",
    "calibrated": "by hand",
    "step_us": 1500.0,
    "sequence_us": 5.0,
}

#: Microseconds of a request's way to the engine that pools have by default, and back.
REQUEST_US: Final = catalog.engine_profile("vllm-0.15").request_us
REQUEST_S: Final = REQUEST_US * 1e-6
REQUEST_PS: Final = round(REQUEST_US * 1e6)
