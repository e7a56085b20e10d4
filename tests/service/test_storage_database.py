"""Tables made and brought up to date, by several at once; what happens when the database is away."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import optuna
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from dse.service.storage.database import VERSION_TABLE, Database
from dse.service.storage.errors import Unavailable
from dse.service.storage.tables import metadata
from simulator import SpecError

from ..dse.postgres import PostgreSQL
from ..dse.processes import quick_starts
from .conftest import emptied


def test_migrations_make_the_tables_that_queries_are_written_with(database: Database) -> None:
    with database.reading() as connection:

        def ours(name: str | None, kind: str, _: object) -> bool:
            return kind != "table" or (str(name).startswith("service_") and name != VERSION_TABLE)

        options = {"version_table": VERSION_TABLE, "include_name": ours, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())


def test_migrating_again_changes_nothing(database: Database) -> None:
    def tables() -> set[str]:
        with database.reading() as connection:
            return set(inspect(connection).get_table_names())

    before = tables()
    database.migrate()
    assert tables() == before
    assert {"alembic_version", VERSION_TABLE} <= before
    # Optuna's own tools open it, too.
    assert optuna.get_all_study_summaries(storage=database.url) == []


def test_database_of_a_later_version_is_refused(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(SpecError, match="made by a later version"):
        database.migrate()


def migrate(url: str) -> None:
    Database(url).migrate()


def test_several_may_migrate_at_once(url: str) -> None:
    context = quick_starts()
    processes = [context.Process(target=migrate, args=(url,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    database = Database(url)
    with database.reading() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {VERSION_TABLE}")).scalar_one() == 1
    database.close()


def test_times_are_the_databases(database: Database) -> None:
    with database.reading() as connection:
        assert connection.execute(text(f"SELECT {database.now}")).scalar_one() == pytest.approx(time.time(), abs=2)


def test_sqlite_reads_while_somebody_writes(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    database.migrate()
    read = threading.Event()
    with database.writing() as connection:
        connection.execute(text("DELETE FROM service_workers"))

        def look() -> None:
            database.ping()
            with database.reading() as other:
                other.execute(text("SELECT count(*) FROM service_workers")).scalar_one()
            read.set()

        threading.Thread(target=look).start()
        assert read.wait(5)
    with database.reading() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
        assert connection.execute(text("PRAGMA busy_timeout")).scalar_one() == 30_000
    database.close()


def test_many_writers_of_sqlite_wait_for_each_other(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    database.migrate()
    failures: list[Exception] = []

    def write(worker: int) -> None:
        try:
            for turn in range(10):
                with database.writing() as connection:
                    seen = connection.execute(text("SELECT count(*) FROM service_workers")).scalar_one()
                    row = {"id": f"{worker}-{turn}", "seen": seen}
                    connection.execute(text("INSERT INTO service_workers VALUES (:id, '', 1, 1, 0, :seen)"), row)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.reading() as connection:
        counts = connection.execute(text("SELECT seen_s FROM service_workers ORDER BY seen_s")).scalars().all()
    assert [int(count) for count in counts] == list(range(80))
    database.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "not an address"),
        ("sqlite://", "name a file"),
        ("sqlite:////no/such/folder/x.db", "unable to open"),
        ("oracle://user:secret@host/x", "allowed: sqlite or postgresql"),
        ("postgresql://dse:secret@127.0.0.1:1/postgres", r"dse:\*\*\*@127.0.0.1:1"),
    ],
)
def test_unusable_place_is_one_clear_line(url: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


def test_database_that_goes_away_is_unavailable_until_it_is_back(postgresql: PostgreSQL) -> None:
    database = Database(emptied(postgresql))
    database.migrate()
    postgresql.stop()
    try:
        with pytest.raises(Unavailable):
            database.ping()
        with pytest.raises(Unavailable), database.writing() as connection:
            connection.execute(text("DELETE FROM service_workers"))
    finally:
        postgresql.start()
    database.ping()
    database.close()
