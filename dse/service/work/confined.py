"""What binds a process that simulates: it ends with its supervisor, gives way to others, and has a memory limit."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

NICENESS: Final = 5
LOOK_S: Final = 1.0
"""Seconds between two looks for the parent, where the system does not tell of its end."""
_PR_SET_PDEATHSIG: Final = 1


def confine(*, parent: int, memory_gb: float, niceness: int = NICENESS) -> None:
    """Bind this process and those that it will start.

    Parameters
    ----------
    parent
        Process with which this one ends, however that ends.
    memory_gb
        Memory that each process may take.
    niceness
        How far it steps back behind others.
    """
    _end_with(parent)
    with contextlib.suppress(OSError, AttributeError):
        os.nice(niceness)
        if os.getsid(0) == os.getpid():
            # Linux gives every session the same share, and looks at niceness only within one.
            Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = int(memory_gb * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before it was watched
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)
