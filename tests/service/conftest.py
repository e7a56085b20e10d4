"""A service on SQLite and on a real PostgreSQL, and a study that takes a second or two."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dse.service.settings import Settings
from dse.service.storage.database import Database
from dse.service.storage.studies import Studies, StudyRow
from dse.spec import StudySpec

from ..dse.conftest import SMALL, small
from ..dse.postgres import PostgreSQL, binaries, make_folder


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server for all tests; each begins with an empty database."""
    if not (binaries() and find_spec("psycopg")):
        pytest.skip("PostgreSQL's programs (initdb, pg_ctl) or psycopg are not on this machine")
    folder = make_folder()
    with PostgreSQL(folder) as server:
        # Processes are killed here, the machine is not: without waiting for the disk, a start after that is quick.
        execute(server, "ALTER SYSTEM SET fsync = off")
        execute(server, "SELECT pg_reload_conf()")
        yield server
    shutil.rmtree(folder)


def execute(server: PostgreSQL, statement: str) -> None:
    """Let a server do something outside of transactions."""
    import psycopg

    with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement)


def emptied(server: PostgreSQL) -> str:
    """Return the URL of a server's database, without the tables of the last test."""
    execute(server, "DROP SCHEMA public CASCADE")
    execute(server, "CREATE SCHEMA public")
    return server.url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'service.db'}"
    return emptied(request.getfixturevalue("postgresql"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A database with the service's tables."""
    opened = Database(url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def studies(database: Database) -> Studies:
    """Its studies."""
    return Studies(database)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings on SQLite, with leases short enough to wait for."""
    return Settings(data=tmp_path / "data", lease_s=2.0).prepared()


@pytest.fixture
def spec() -> StudySpec:
    """A study of 60 designs, 300 requests each."""
    return small()


def changed(**changes: Any) -> StudySpec:
    """Return the small study with some top-level keys replaced."""
    return StudySpec.parse({**SMALL, **changes})


def created(studies: Studies, spec: StudySpec, **changes: Any) -> StudyRow:
    """Keep a study."""
    given: dict[str, Any] = {"designs": 100, "requests": 300, "traces": (), "idempotency_key": None}
    return studies.create(spec, **{**given, "most_active": 10_000, "most": 10_000, **changes})
