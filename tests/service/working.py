"""A real worker beside a server, and studies for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from dse.service.settings import Settings

_WORKER = """
import sys
from dse.service.settings import Settings
from dse.service.work.worker import run_worker

if __name__ == "__main__":
    run_worker(Settings.model_validate_json(sys.argv[1]), jobs=1)
"""


@contextmanager
def worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker in a process of its own until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, settings.model_dump_json()],
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ended(client: httpx.Client, id: str, *, patience_s: float = 120.0) -> dict[str, Any]:
    """Wait for the end of a study, and return it."""
    until = time.monotonic() + patience_s
    while True:
        study: dict[str, Any] = client.get(f"/v1/studies/{id}").json()
        if study["state"] in ("finished", "failed", "cancelled"):
            return study
        assert time.monotonic() < until, study
        time.sleep(0.1)
