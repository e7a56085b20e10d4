"""A process of the bench: does jobs that come over a pipe until it is closed."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

from dse.service.work.confined import confine

if TYPE_CHECKING:
    from dse.service.settings import Settings
    from simulator.files import Finder

READY: Final = "ready"
"""The first thing that a process says."""
NICENESS: Final = 5
"""Below the server, which is to answer quickly while these compute; above the workers, for which nobody waits."""


def work(pipe: int) -> None:
    """Do jobs until the pipe of this number is closed: the first thing that comes is where modules are, and settings.

    What comes is unpickled: it is the server alone that has the other end.
    """
    # An interrupt at the terminal goes to all processes: the server ends this one when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    connection = Connection(pipe)
    sys.path[:], settings = connection.recv()
    from simulator.files import files_from

    confine(parent=parent, memory_gb=settings.limits.memory_gb, niceness=NICENESS)
    _warm_up()
    find = _finder(settings)
    connection.send(READY)
    while True:
        try:
            function, args, kwargs = connection.recv()
        except EOFError:
            return
        with files_from(find):
            _answer(connection, function, args, kwargs)


def _answer(
    connection: Connection, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    try:
        connection.send((function(*args, **kwargs), None))
    except MemoryError:
        # Without what it holds on to: to pickle that would take memory again.
        connection.send((None, MemoryError()))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(traceback.format_exc())
        connection.send((None, error))


def _warm_up() -> None:
    """Import and compile what most jobs need."""
    import dse.capacity
    import dse.explain
    import dse.once  # noqa: F401
    from simulator import Deployment, Workload, simulate

    deployment = Deployment.parse({"pools": [{"model": "llama-3.1-8b", "accelerator": "h100-sxm"}]})
    lengths = {"statistics": "azure-2023-conversation"}
    load = {"requests": 10, "arrivals": {"process": "poisson", "rate_rps": 1}, "lengths": lengths}
    simulate(deployment, Workload.parse(load))


def _finder(settings: Settings) -> Finder:
    """Return what finds uploaded traces; the database is opened when the first is asked for."""
    from functools import cache

    from dse.service.storage.database import Database
    from dse.service.storage.traces import Traces, finder

    @cache
    def find_in_database() -> Finder:
        return finder(Traces(Database(settings.url)), settings.data)

    return lambda name, kind: find_in_database()(name, kind)
