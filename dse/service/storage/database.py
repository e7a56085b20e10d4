"""The database of the service: SQLite in a file, or PostgreSQL.

Every transaction goes through :meth:`Database.reading` or :meth:`Database.writing`, which turn the ways in which a
database can be away into :class:`Unavailable`.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Float, create_engine, event, literal_column, text
from sqlalchemy import exc as sql_errors
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.sql.elements import ColumnElement

from dse.service.storage.errors import Unavailable
from dse.storage.database import BUSY_S, CONNECT_S, address_of, first_line, make_tables, of_database, shown
from simulator import SpecError

DIALECTS: Final = ("sqlite", "postgresql")
MIGRATIONS: Final = Path(__file__).parent / "migrations"
VERSION_TABLE: Final = "service_alembic_version"
"""Optuna's tables in the same database have an ``alembic_version`` of their own."""
MIGRATING, CREATING = 0x64736501, 0x64736502
"""Keys of PostgreSQL's advisory locks: one process migrates, one creates a study at a time."""

_CLOCKS: Final = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
}


class Database:
    """Connections to the database of the service; safe to use from several threads.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.

    Attributes
    ----------
    place
        The address without the password, for messages.

    Raises
    ------
    SpecError
        If it cannot be opened.
    """

    def __init__(self, url: str) -> None:
        address = address_of(url)
        self.url = address.render_as_string(hide_password=False)
        self.place = shown(address)
        self.dialect = address.get_backend_name()
        if self.dialect not in DIALECTS:
            raise SpecError(f"--storage {self.place}: allowed: {' or '.join(DIALECTS)}")
        if self.dialect == "sqlite" and address.database in (None, "", ":memory:"):
            raise SpecError(f"--storage {self.place}: several processes share it: name a file, sqlite:///FILE")
        try:
            self.engine = _engine(address)
            self.ping()
        except ImportError:
            raise SpecError(
                f"--storage {self.place}: its driver is not installed: pip install 'dse-llm[postgresql]'"
            ) from None
        except Unavailable as error:
            raise SpecError(f"--storage {error}") from None

    def migrate(self) -> None:
        """Make the tables, or bring them to the form that this version needs; several processes may do so at once.

        Raises
        ------
        SpecError
            If a later version of the service, or another one of Optuna, has been at work in the database.
        Unavailable
            If the database is away.
        """
        # It would tell of every part of itself.
        logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        with self._available():
            make_tables(self.url)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.alone(MIGRATING) as connection:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise SpecError(f"--storage {self.place}: made by a later version of the service: {error}") from None

    def ping(self) -> None:
        """Ask the database for a sign of life.

        Raises
        ------
        Unavailable
            If there is none.
        """
        with self.reading() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """End the connections."""
        self.engine.dispose()

    @property
    def now(self) -> ColumnElement[float]:
        """Seconds since 1970 by the database's clock: that of machines may differ."""
        return literal_column(_CLOCKS[self.dialect], Float)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that reads."""
        with self._available(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes; on SQLite, others that write wait from its beginning."""
        with self._available(), self.engine.connect() as connection:
            writer = connection.execution_options(writes=True)
            with writer.begin():
                yield writer

    @contextmanager
    def alone(self, key: int) -> Iterator[Connection]:
        """Open a transaction that writes, one at a time for each key."""
        with self.writing() as connection:
            if self.dialect == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield connection

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except sql_errors.TimeoutError:
            raise Unavailable(f"{self.place}: all connections are in use") from None
        except sql_errors.SQLAlchemyError as error:
            if not of_database(error):
                raise
            raise Unavailable(f"{self.place}: {first_line(error)}") from error


def _engine(address: URL) -> Engine:
    if address.get_backend_name() == "sqlite":
        # Reading takes no turns; without room in the pool, threads would wait for each other.
        engine = create_engine(address, connect_args={"timeout": BUSY_S}, pool_size=20, max_overflow=80)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # A connection that leads nowhere any more is noticed within seconds.
    alive = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
    limits = {"connect_timeout": CONNECT_S, **alive}
    return create_engine(address, connect_args=limits, pool_pre_ping=True, pool_size=10, max_overflow=20)


def _prepare_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    """Let readers and one writer work side by side, and leave the beginning of transactions to the engine."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # SQLite's own knows no letters beyond ASCII.
    connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)
    deadline = time.monotonic() + BUSY_S
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            # Somebody else is at it; SQLite does not wait here.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that first reads and then writes could not wait for another writer.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
