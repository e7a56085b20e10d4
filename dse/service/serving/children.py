"""Processes that a server starts again when they end, and that end with it, however it ends."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
HEALTHY_S: Final = 30.0
"""A process that lived so long starts at once when it ends; pauses double for one that keeps ending."""

LAST_S: Final = 1.0
"""After the second request to end, which is urgent, and after the kill."""


class Child:
    """A process that is kept alive.

    It is told what it needs to know as one line on its standard input, which stays open as long as this process
    lives: at its end the child is to end too, also if this process is killed.

    Parameters
    ----------
    name
        For messages.
    command
        Program and arguments; nothing secret, as anyone on the machine can read it.
    line
        What to say on its standard input.
    """

    def __init__(self, name: str, command: Sequence[str], line: str) -> None:
        self.name = name
        self._command, self._line = tuple(command), line
        self._ending = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep_alive, name=f"keeps {name}", daemon=True)

    def start(self) -> None:
        """Start it, and start it again whenever it ends."""
        self._thread.start()

    def ask_to_end(self) -> None:
        """Let it finish what it is at and end; asking again changes nothing."""
        with self._lock:
            if not self._ending.is_set() and self._process is not None:
                self._process.terminate()
            self._ending.set()

    def end(self, by_s: float) -> bool:
        """Wait for its end; kill it if it takes too long.

        Parameters
        ----------
        by_s
            Time of ``time.monotonic`` at which it is asked once more, and killed a moment later.

        Returns
        -------
        bool
            Whether it ended by itself.
        """
        self.ask_to_end()
        if self._thread.ident is None:
            return True
        self._thread.join(max(0.0, by_s - time.monotonic()))
        if not self._thread.is_alive():
            return True
        for act in (_terminate, _kill_group):
            with self._lock:
                if self._process is not None:
                    act(self._process.pid)
            self._thread.join(LAST_S)
        return False

    def _keep_alive(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._ending.is_set():
            started_s = time.monotonic()
            try:
                process = self._begin()
            except OSError as error:
                log.error("%s does not start: %s; again in %.1f s", self.name, error, pause_s)
            else:
                if process is None:
                    return
                code = _waited(process)
                with self._lock:
                    self._process = None
                if self._ending.is_set():
                    return
                if time.monotonic() - started_s > HEALTHY_S:
                    pause_s = FIRST_PAUSE_S
                log.warning("%s ended %s; it starts again in %.1f s", self.name, _said(code), pause_s)
            self._ending.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _begin(self) -> subprocess.Popen[str] | None:
        """Start the process, unless the end came first."""
        with self._lock:
            if self._ending.is_set():
                return None
            # A session of its own: Ctrl-C on the terminal is for the server, which then ends its children in order.
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, text=True, start_new_session=True)
            process = self._process
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(self._line + "\n")
            process.stdin.flush()
        return process


def _waited(process: subprocess.Popen[str]) -> int:
    """Wait for the end of a process and of those that it started; return its exit code."""
    if hasattr(os, "waitid"):
        # Before its number is free for others.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        _kill_group(process.pid)
    code = process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    return code


def _terminate(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)


def _said(code: int) -> str:
    """Return how a process ended."""
    if code >= 0:
        return f"with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"


def first_line() -> str:
    """Return what the process that keeps this one alive says on standard input."""
    return sys.stdin.readline().rstrip("\n")


def at_end_of_keeper(act: threading.Event) -> None:
    """Set an event when the process that keeps this one alive has ended.

    Parameters
    ----------
    act
        What is set.
    """

    def listen() -> None:
        # Not sys.stdin: at its end the interpreter would wait for a thread that reads it.
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        act.set()

    threading.Thread(target=listen, name="keeper", daemon=True).start()
