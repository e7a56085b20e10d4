"""``dse worker``: runs the studies of a server, on this machine or another."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from dse.cli.console import announce_compilation, err
from dse.cli.service_options import (
    Data,
    JsonLogs,
    Level,
    Limit,
    LogLevel,
    Storage,
    StorageFile,
    begin_logs,
    check_installed,
    settings_of,
)
from simulator.errors import SpecError

if TYPE_CHECKING:
    from dse.service.settings import Settings


def worker(
    data: Data = None,
    storage: Storage = None,
    storage_file: StorageFile = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", help="processes that simulate", show_default="all processors")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="end after one study, or if none waits")] = False,
    limit: Limit = None,
    log_level: LogLevel = None,
    json_logs: JsonLogs = False,
    embedded: Annotated[bool, typer.Option("--embedded", hidden=True)] = False,
) -> None:
    """Take studies from the database of a server and run them, one at a time.

    Any number of workers may share a database, on any number of machines. One that is killed loses nothing that is
    finished: another goes on with its study. Ctrl-C or SIGTERM gives the study back.

    **Examples**

        dse worker

        dse worker --storage postgresql://dse@head/studies --jobs 16

        dse worker --data /srv/dse --once
    """
    check_installed()
    if embedded:
        _beside_server()
        return
    if jobs is not None and jobs < 1:
        raise SpecError(f"--jobs: must be at least 1, given {jobs}")
    settings = settings_of(data, storage, storage_file, limit)
    begin_logs(log_level, as_json=json_logs)
    announce_compilation()
    _work(settings, jobs or os.cpu_count() or 1, once=once, say=_nothing if json_logs else _print)


def _work(
    settings: Settings,
    jobs: int,
    *,
    once: bool = False,
    stopping: Callable[[], bool] = bool,
    say: Callable[[str], None],
) -> None:
    from dse.service.storage.errors import Unavailable
    from dse.service.work.worker import run_worker

    try:
        run_worker(settings, jobs=jobs, once=once, stopping=stopping, say=say)
    except Unavailable as error:
        raise SpecError(f"--storage {error}") from None


def _beside_server() -> None:
    """Work for the server that started this process, and end with it; it says how on standard input."""
    from dse.service.serving.children import at_end_of_keeper, first_line
    from dse.service.settings import Settings

    given = json.loads(first_line())
    ended = threading.Event()
    at_end_of_keeper(ended)
    begin_logs(Level(given["level"]) if given["level"] else None, as_json=given["json"])
    _work(Settings.parse(given["settings"]), given["jobs"], stopping=ended.is_set, say=_nothing)


def _print(line: str) -> None:
    err.print(line, soft_wrap=True)


def _nothing(_: str) -> None:
    """Say nothing: the log has it."""
