"""Traces in pieces, tokens as hashes, and the rows of workers."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from dse.service.storage.database import Database
from dse.service.storage.errors import Conflict, NoRoom, NotFound, Unavailable
from dse.service.storage.studies import Studies
from dse.service.storage.tables import CHUNKS, TOKENS, WORKERS
from dse.service.storage.tokens import Tokens
from dse.service.storage.traces import CHUNK, TraceRow, Traces, finder
from dse.service.storage.workers import Workers
from dse.spec import StudySpec
from simulator import SpecError

from .conftest import created


@pytest.fixture
def traces(database: Database) -> Traces:
    return Traces(database)


@pytest.fixture
def upload(tmp_path: Path) -> Callable[..., Path]:
    def write(size: int = 2_500_000, seed: int = 0) -> Path:
        path = tmp_path / f"upload-{size}-{seed}"
        path.write_bytes(random.Random(seed).randbytes(size))
        return path

    return write


def add(traces: Traces, name: str, path: Path, **changes: Any) -> tuple[TraceRow, bool]:
    given: dict[str, Any] = {"format": "azure", "requests": 5, "span_s": 60.0, "most_bytes": 10**9}
    return traces.add(name, path, **{**given, **changes})


def pieces(database: Database) -> int:
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(CHUNKS)).scalar_one()


@pytest.mark.parametrize("size", [1, CHUNK, 2 * CHUNK + 1])
def test_content_comes_back_as_it_was(
    traces: Traces, upload: Callable[..., Path], tmp_path: Path, database: Database, size: int
) -> None:
    path = upload(size)
    row, new = add(traces, "mine.csv.gz", path)
    assert new
    assert (row.bytes, row.format, row.requests, row.span_s) == (size, "azure", 5, 60)
    assert row.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert traces.list() == [row] == [traces.get("mine.csv.gz")]
    assert b"".join(traces.content(row.sha256)) == path.read_bytes()
    assert pieces(database) == -(-size // CHUNK)
    copy = traces.path_of("mine.csv.gz", tmp_path / "data")
    assert copy == tmp_path / "data" / "traces" / row.sha256
    assert copy.read_bytes() == path.read_bytes()
    # A copy that is there is not read again; one that was cut off is.
    before = copy.stat().st_ino
    assert traces.path_of("mine.csv.gz", tmp_path / "data").stat().st_ino == before
    copy.write_bytes(b"")
    assert traces.path_of("mine.csv.gz", tmp_path / "data").read_bytes() == path.read_bytes()
    assert [each.name for each in copy.parent.iterdir()] == [copy.name]


def test_content_has_one_copy_for_as_long_as_it_is_needed(
    traces: Traces, upload: Callable[..., Path], tmp_path: Path
) -> None:
    """Names cost nothing, so that a disk cannot be filled with them."""
    folder = tmp_path / "data"
    for name in ("a.csv", "a.1", "a.2.3"):
        row, _ = add(traces, name, upload(10))
        traces.path_of(name, folder)
    other, _ = add(traces, "other", upload(10, seed=1))
    traces.path_of("other", folder)
    (folder / "traces" / ".partial-x").touch()
    assert {each.name for each in (folder / "traces").iterdir()} == {row.sha256, other.sha256, ".partial-x"}
    traces.delete("a.csv")
    traces.delete("other")
    # What was just written may belong to somebody who was quicker than the question which traces there are.
    traces.remove_copies(folder)
    assert len(list((folder / "traces").iterdir())) == 3
    for each in (folder / "traces").iterdir():
        os.utime(each, (0, 0))
    traces.remove_copies(folder)
    assert [each.name for each in (folder / "traces").iterdir()] == [row.sha256]
    traces.remove_copies(tmp_path / "nowhere")


def test_a_full_disk_is_a_time_to_wait(
    traces: Traces, upload: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(traces, "a", upload(10))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Unavailable, match="No space left"):
        finder(traces, tmp_path)("a", "trace")
    assert list((tmp_path / "traces").iterdir()) == []


def test_names_are_given_once(traces: Traces, upload: Callable[..., Path], database: Database) -> None:
    row, _ = add(traces, "a", upload())
    assert add(traces, "a", upload()) == (row, False)
    with pytest.raises(Conflict, match="other content"):
        add(traces, "a", upload(seed=1))
    twin, new = add(traces, "b", upload())
    assert new
    assert twin.sha256 == row.sha256
    assert pieces(database) == 3
    assert traces.total_bytes() == 2_500_000
    traces.delete("a")
    assert pieces(database) == 3
    traces.delete("b")
    assert pieces(database) == 0
    with pytest.raises(NotFound):
        traces.delete("b")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-x", "a b", "a\0", "ü", "a" * 101])
def test_names_never_are_paths(traces: Traces, upload: Callable[..., Path], tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="allowed: up to 100"):
        add(traces, name, upload(10))
    with pytest.raises(NotFound):
        traces.path_of(name, tmp_path)
    with pytest.raises(SpecError):
        finder(traces, tmp_path)(name, "trace")
    assert traces.list() == []


def test_only_traces_are_found(traces: Traces, upload: Callable[..., Path], tmp_path: Path) -> None:
    add(traces, "a", upload(10))
    find = finder(traces, tmp_path)
    assert find("a", "trace").is_file()
    with pytest.raises(SpecError, match="files are not taken here"):
        find("a", "model")


def test_not_more_is_kept_than_allowed(traces: Traces, upload: Callable[..., Path], database: Database) -> None:
    add(traces, "a", upload(1000), most_bytes=1500)
    with pytest.raises(NoRoom, match="1,000 are there"):
        add(traces, "b", upload(1000, seed=1), most_bytes=1500)
    assert pieces(database) == 1


def test_trace_that_a_study_needs_stays(
    traces: Traces, studies: Studies, upload: Callable[..., Path], spec: StudySpec
) -> None:
    add(traces, "a", upload(10))
    id = created(studies, spec, traces=["a", "a"]).id
    with pytest.raises(Conflict, match="a study needs it"):
        traces.delete("a")
    studies.cancel(id)
    studies.delete(id)
    traces.delete("a")


def test_what_cut_off_uploads_left_is_removed(traces: Traces, upload: Callable[..., Path], database: Database) -> None:
    row, _ = add(traces, "a", upload(10))
    with database.writing() as connection:
        connection.execute(CHUNKS.insert(), [{"sha256": "0" * 64, "number": n, "content": b"x"} for n in range(3)])
    traces.remove_orphans()
    assert pieces(database) == 1
    assert b"".join(traces.content(row.sha256))


def test_same_content_from_several_at_once(traces: Traces, upload: Callable[..., Path], database: Database) -> None:
    path, outcomes = upload(), list[bool]()
    threads = [threading.Thread(target=lambda: outcomes.append(add(traces, "a", path)[1])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 5 + [True]
    assert pieces(database) == 3


def test_30_mb_are_never_held_at_once(traces: Traces, upload: Callable[..., Path], tmp_path: Path) -> None:
    path = upload(30_000_000)
    tracemalloc.start()
    try:
        add(traces, "large.csv", path)
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        copy = traces.path_of("large.csv", tmp_path / "data")
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert copy.read_bytes() == path.read_bytes()
    # Twice the pieces that are written together, as drivers copy them.
    assert written < 20_000_000
    assert read < 10_000_000


# Tokens


def test_token_is_kept_as_a_hash(database: Database) -> None:
    tokens = Tokens(database)
    assert not tokens.any()
    row, secret = tokens.create("planner", "run", None)
    assert tokens.any()
    assert secret.startswith("dse_")
    assert len(secret) == 47
    assert tokens.check(secret) == row
    assert tokens.list() == [row]
    with database.reading() as connection:
        content = str(connection.execute(select(TOKENS)).all())
    assert secret not in content
    assert secret.removeprefix("dse_") not in content
    assert hashlib.sha256(secret.encode()).hexdigest() in content


@pytest.mark.parametrize("wrong", ["", "dse_", "\0", "\ud800", "x" * 100_000])
def test_wrong_tokens_are_none(database: Database, wrong: str) -> None:
    tokens = Tokens(database)
    _, secret = tokens.create("a", "read", None)
    assert tokens.check(wrong) is None
    assert tokens.check(secret[:-1]) is None
    assert tokens.check(secret.upper()) is None


def test_token_ends(database: Database) -> None:
    tokens = Tokens(database)
    row, secret = tokens.create("a", "admin", 1.0)
    assert row.expires_s == pytest.approx(time.time() + 86_400, abs=5)
    assert tokens.check(secret)
    with database.writing() as connection:
        connection.execute(update(TOKENS).values(expires_s=database.now - 1))
    assert tokens.check(secret) is None
    _, other = tokens.create("b", "admin", None)
    for each in tokens.list():
        tokens.revoke(each.id)
    assert tokens.check(other) is None
    for id in (row.id, "x", "\0"):
        with pytest.raises(NotFound):
            tokens.revoke(id)


@pytest.mark.parametrize(
    ("name", "scope", "days"),
    [("", "read", None), ("a" * 201, "read", None), ("a\0", "read", None), ("a", "root", None), ("a", "read", -1.0)],
)
def test_impossible_tokens_are_refused(database: Database, name: str, scope: Any, days: float | None) -> None:
    with pytest.raises(SpecError, match="given"):
        Tokens(database).create(name, scope, days)


# Workers


def test_workers_are_alive_as_long_as_they_say_so(database: Database) -> None:
    workers = Workers(database)
    assert not workers.seen("a")
    workers.register("a", "host", 12, 4)
    workers.register("b", "h" * 300, 13, 1)
    assert [(each.id, each.pid, each.jobs) for each in workers.living(60)] == [("a", 12, 4), ("b", 13, 1)]
    with database.writing() as connection:
        connection.execute(update(WORKERS).where(WORKERS.c.id == "a").values(seen_s=database.now - 100_000))
    assert [each.id for each in workers.living(60)] == ["b"]
    workers.register("c", "host", 14, 1)
    with database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM service_workers")).scalar_one() == 2
    assert workers.seen("b")
    workers.remove("b")
    assert [each.id for each in workers.living(60)] == ["c"]
