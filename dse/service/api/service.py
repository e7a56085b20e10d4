"""What the server consists of, opened at its start and closed at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fastapi import Request

from dse.service.api.bench import Bench
from dse.service.api.events import Events
from dse.service.api.views import Views
from dse.service.settings import Settings
from dse.service.storage.database import Database
from dse.service.storage.studies import Studies
from dse.service.storage.tokens import Tokens
from dse.service.storage.traces import Traces, finder
from dse.service.storage.workers import Workers
from simulator.files import files_from


@dataclass(frozen=True)
class Service:
    """The parts that routes work with.

    Attributes
    ----------
    settings
        Of the server.
    database, studies, traces, tokens, workers
        What is stored; these wait for the database, so they are called in threads.
    bench
        Processes for what takes long.
    views
        What the server knows of studies, kept while it holds.
    events
        Who watches which study.
    """

    settings: Settings
    database: Database
    studies: Studies
    traces: Traces
    tokens: Tokens
    workers: Workers
    bench: Bench
    views: Views
    events: Events

    @classmethod
    def opened(cls, settings: Settings) -> Self:
        """Open the database, bring its tables up to date and start the bench.

        Raises
        ------
        SpecError
            If the database cannot be opened.
        """
        settings.prepared()
        with ExitStack() as undo:
            database = Database(settings.url)
            undo.callback(database.close)
            database.migrate()
            studies, traces, tokens = Studies(database), Traces(database), Tokens(database)
            views = Views(studies, finder(traces, settings.data))
            bench = Bench(settings)
            bench.start()
            undo.pop_all()
        return cls(
            settings=settings,
            database=database,
            studies=studies,
            traces=traces,
            tokens=tokens,
            workers=Workers(database),
            bench=bench,
            views=views,
            events=Events(views, tokens, settings.limits.watchers),
        )

    def close(self) -> None:
        """End the bench's processes and the connections to the database."""
        self.bench.close()
        self.database.close()

    @contextmanager
    def files(self, used: set[str] | None = None) -> Iterator[None]:
        """Let names of files in specifications stand for uploaded traces, and for nothing else.

        Parameters
        ----------
        used
            To which the names that are asked for are added.
        """
        find = finder(self.traces, self.settings.data)

        def noting(name: str, kind: str) -> Path:
            path = find(name, kind)
            if used is not None:
                used.add(name)
            return path

        with files_from(noting):
            yield


def service_of(request: Request) -> Service:
    """Return the parts of the server that a request came to."""
    found = request.app.state.service
    assert isinstance(found, Service)
    return found
