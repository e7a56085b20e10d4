"""Processes for tests, quick to start."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import BaseContext
from typing import Final

HEAVY: Final = ["dse.study", "dse.storage.stored_trials", "dse.service.storage.database"]
"""Modules that take a second to import."""


def quick_starts() -> BaseContext:
    """Return a way to start processes which imports what takes long once for all of them, where there is one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    return context
