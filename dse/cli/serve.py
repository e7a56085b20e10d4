"""``dse serve``: studies over HTTP, watched in a browser."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dse.cli.console import announce_compilation, err, out
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
    opened,
    settings_of,
)
from simulator.errors import SpecError

if TYPE_CHECKING:
    from dse.service.serving.children import Child
    from dse.service.settings import Settings

LOOPBACK = "127.0.0.1"


def serve(
    host: Annotated[str, typer.Option(help="address to listen on; others than loopback need a token")] = LOOPBACK,
    port: Annotated[int, typer.Option(help="port to listen on; 0: any that is free")] = 8000,
    data: Data = None,
    storage: Storage = None,
    storage_file: StorageFile = None,
    workers: Annotated[int, typer.Option(help="workers beside the server; 0: run dse worker yourself")] = 2,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", help="processes of each worker", show_default="its share of all")
    ] = None,
    require_token: Annotated[bool, typer.Option("--require-token", help="ask for a token on loopback, too")] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="name under which the server is reached, e.g. behind a proxy; asks for tokens; repeatable"),
    ] = None,
    proxy: Annotated[
        list[str] | None, typer.Option(help="address of a proxy that is believed when it says who asks; repeatable")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="certificate (PEM), to serve HTTPS")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="its key (PEM)")] = None,
    limit: Limit = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="start optuna-dashboard on this machine, for reading, and link it")
    ] = False,
    log_level: LogLevel = None,
    json_logs: JsonLogs = False,
) -> None:
    """Serve studies over HTTP: a page to set them up and watch them, and an API for programs.

    Everything is kept in one folder; the page and the API are at the address that it prints. Ctrl-C or SIGTERM ends
    it within seconds: studies go on where they were when it starts again.

    **Examples**

        dse serve

        dse token create me --scope admin && dse serve --host 0.0.0.0

        dse serve --storage postgresql://dse@head/studies --workers 4 --jobs 2 --json-logs

        dse serve --data /srv/dse --limit trials=2000 --limit memory_gb=16 --dashboard
    """
    check_installed()
    from dse.service.api.app import create_app
    from dse.service.serving import server

    if workers < 0:
        raise SpecError(f"--workers: must be 0 or more, given {workers}")
    if jobs is not None and jobs < 1:
        raise SpecError(f"--jobs: must be at least 1, given {jobs}")
    server.check_certificate(tls_cert, tls_key)
    given = {"host": host, "port": port, "hosts": allow_host}
    settings = settings_of(data, storage, storage_file, limit, **given)
    guarded = require_token or bool(allow_host) or not settings.is_loopback
    _check_tokens(settings, guarded=guarded)
    begin_logs(log_level, as_json=json_logs)
    tls = (tls_cert, tls_key) if tls_cert and tls_key else None
    listening = server.listen(settings, tls=tls is not None)
    children: list[Child] = []
    if dashboard:
        from dse.service.serving.dashboard import beside

        child, address = beside(settings.url)
        children.append(child)
        settings = settings.model_copy(update={"dashboard": address})
    announce_compilation()
    children += _workers(settings, workers, jobs, log_level, as_json=json_logs)
    app = create_app(settings, require_token=guarded)

    def ready() -> None:
        out.print(f"dse is ready: open {listening.url}", soft_wrap=True)
        if not json_logs:
            kept = settings.storage is None and settings.data
            place = f"kept in {kept}" if kept else "kept in the database"
            err.print(f"{_counted(workers)}, {place}; Ctrl-C ends it", soft_wrap=True)
        if guarded and tls is None and not settings.is_loopback:
            err.print("warning: without TLS, tokens can be read on the way: --tls-cert and --tls-key, or a proxy")

    server.run(
        app,
        listening,
        children,
        close_streams=lambda: app.state.service.events.close(),
        ready=ready,
        tls=tls,
        proxies=proxy or (),
    )


def _check_tokens(settings: Settings, *, guarded: bool) -> None:
    """Check that the database can be used, and that somebody could get in."""
    from dse.service.storage.tokens import Tokens

    with opened(settings) as database:
        if guarded and not Tokens(database).any():
            what = "--require-token or --allow-host" if settings.is_loopback else f"--host {settings.host}"
            place = "" if settings.storage else f" --data {settings.data}"
            raise SpecError(
                f"{what}: a token is required, and there is none; make one: dse token create NAME --scope run{place}"
            )


def _workers(settings: Settings, number: int, jobs: int | None, level: Level | None, *, as_json: bool) -> list[Child]:
    """Return the workers beside the server, not yet started."""
    from dse.service.serving.children import Child

    jobs = jobs or max(1, (os.cpu_count() or 1) // max(1, number))
    line = json.dumps(
        {"settings": settings.model_dump(mode="json"), "jobs": jobs, "level": level and level.value, "json": as_json}
    )
    command = (sys.executable, "-m", "dse", "worker", "--embedded")
    return [Child(f"worker {place + 1}", command, line) for place in range(number)]


def _counted(workers: int) -> str:
    if not workers:
        return "no workers here: studies wait for a dse worker elsewhere"
    return f"{workers} worker{'s' if workers > 1 else ''}"
