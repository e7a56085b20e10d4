"""A runner as its supervisor sees it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import IO, Final

from dse.service.work.job import Job

log = logging.getLogger("dse.service.runner")

AGAIN_S: Final = 2.0
"""Seconds after which a runner is asked again to stop: it may not have listened yet."""
LAST_WORDS_S: Final = 2.0


class RunnerProcess:
    """A process that runs one study.

    Parameters
    ----------
    job
        What it runs.
    """

    def __init__(self, job: Job) -> None:
        self._extra = {"study": job.study, "worker": job.worker}
        # A group of its own: Ctrl-C on the terminal is for the supervisor, which ends runners in order.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dse.service.work.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._asked_s: float | None = None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._pass_on, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(job.to_line() + "\n")
            self._process.stdin.close()

    @property
    def code(self) -> int | None:
        """Exit code; None while it runs."""
        return self._process.poll()

    @property
    def end(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode
        if code >= 0:
            return f"its process ended with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process was ended by signal {-code}"

    def ask_to_stop(self) -> None:
        """Let it finish what is being simulated, and stop; may be called again and again."""
        now = time.monotonic()
        if self._asked_s is None or now - self._asked_s >= AGAIN_S:
            self._asked_s = now
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and the processes that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Hear its last words."""
        self._reader.join(LAST_WORDS_S)

    def _pass_on(self, lines: IO[str]) -> None:
        """Log what it says."""
        with contextlib.suppress(ValueError), lines:
            for line in lines:
                try:
                    said = json.loads(line)
                    level, message = int(said["level"]), str(said["message"])
                except (ValueError, KeyError, TypeError):
                    said, level, message = {}, logging.INFO, line.rstrip()
                extra = {**self._extra, "traceback": said["traceback"]} if "traceback" in said else self._extra
                log.log(level, "%s", message, extra=extra)
