"""Uploaded traces: kept in the database in pieces, so that workers of other machines need no shared folder."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from dse.service.storage.database import Database
from dse.service.storage.disk import written
from dse.service.storage.errors import Conflict, NoRoom, NotFound
from dse.service.storage.tables import CHUNKS, STUDY_TRACES, TRACES
from simulator import SpecError
from simulator.files import Finder

CHUNK: Final = 1_000_000
"""Bytes of a piece."""
PIECES: Final = 8
"""Written in one transaction: others that write wait no longer than for these."""
ATTEMPTS: Final = 5
FRESH_S: Final = 60.0
"""A copy that was written so recently may be of a trace that was added meanwhile."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Batch = list[dict[str, object]]


@dataclass(frozen=True)
class TraceRow:
    """A trace.

    Attributes
    ----------
    name
        What specifications call it.
    sha256, bytes
        Of its content.
    format, requests, span_s
        What the simulator's reader found in it.
    created_s
        Seconds since 1970 by the database's clock.
    """

    name: str
    sha256: str
    bytes: int
    format: str
    requests: int
    span_s: float
    created_s: float


class Traces:
    """The traces of a database.

    Parameters
    ----------
    database
        With the tables of the service.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, name: str, file: Path, *, format: str, requests: int, span_s: float, most_bytes: int
    ) -> tuple[TraceRow, bool]:
        """Keep a trace that was read and found good.

        Parameters
        ----------
        name
            What specifications call it.
        file
            With its content; read in pieces.
        format, requests, span_s
            What the reader found.
        most_bytes
            That all traces together may have.

        Returns
        -------
        tuple
            The trace, and whether it is new: the same content under the same name changes nothing.

        Raises
        ------
        SpecError
            If the name cannot be one.
        Conflict
            If other content has the name.
        NoRoom
            If it is too much with what is there.
        """
        check_name(name)
        digest = _digest(file)
        size = file.stat().st_size
        if found := self._same(name, digest):
            return found, False
        with self._database.reading() as connection:
            _check_room(connection, size, most_bytes)
        values = {
            "name": name,
            "sha256": digest,
            "bytes": size,
            "format": format,
            "requests": requests,
            "span_s": span_s,
            "created_s": self._database.now,
        }
        try:
            for _ in range(ATTEMPTS):
                self._write(digest, file)
                with self._database.writing() as connection:
                    # Somebody may have deleted another trace of the same content meanwhile, and with it the pieces.
                    if _pieces(connection, digest) != -(-size // CHUNK):
                        continue
                    _check_room(connection, size, most_bytes)
                    row = connection.execute(insert(TRACES).values(values).returning(TRACES)).one()
                    return TraceRow(**row._mapping), True
        except IntegrityError:
            # Somebody else was quicker with the name.
            if found := self._same(name, digest):
                return found, False
            raise
        except NoRoom:
            self.remove_orphans(digest)
            raise
        raise Conflict(f"trace {name!r}: the same content is being deleted; try again")

    def list(self) -> list[TraceRow]:
        """Return all traces, by name."""
        with self._database.reading() as connection:
            return [TraceRow(**row._mapping) for row in connection.execute(select(TRACES).order_by(TRACES.c.name))]

    def get(self, name: str) -> TraceRow:
        """Return a trace.

        Raises
        ------
        NotFound
            If there is none of that name.
        """
        row = None
        if NAME.fullmatch(name):
            with self._database.reading() as connection:
                row = connection.execute(select(TRACES).where(TRACES.c.name == name)).one_or_none()
        if row is None:
            raise NotFound(f"no trace {name!r}")
        return TraceRow(**row._mapping)

    def total_bytes(self) -> int:
        """Return the size of all traces together."""
        with self._database.reading() as connection:
            return _total(connection)

    def delete(self, name: str) -> None:
        """Delete a trace.

        Raises
        ------
        NotFound
            If there is none of that name.
        Conflict
            If a study needs it.
        """
        trace = self.get(name)
        users = select(func.count()).select_from(STUDY_TRACES).where(STUDY_TRACES.c.trace == name)
        try:
            with self._database.writing() as connection:
                if number := connection.execute(users).scalar_one():
                    studies = "a study needs it" if number == 1 else f"{number:,} studies need it"
                    raise Conflict(f"trace {name!r}: {studies}; delete them first")
                connection.execute(delete(TRACES).where(TRACES.c.name == name))
        except IntegrityError:
            raise Conflict(f"trace {name!r}: a study needs it; delete that first") from None
        self.remove_orphans(trace.sha256)

    def content(self, sha256: str) -> Iterator[bytes]:
        """Yield the content of a trace piece by piece."""
        number = 0
        while True:
            piece = select(CHUNKS.c.content).where(CHUNKS.c.sha256 == sha256, CHUNKS.c.number == number)
            with self._database.reading() as connection:
                found = connection.execute(piece).scalar_one_or_none()
            if found is None:
                return
            yield found
            number += 1

    def path_of(self, name: str, folder: Path) -> Path:
        """Return a file with the content of a trace, which is copied from the database at first.

        Parameters
        ----------
        name
            Of the trace.
        folder
            Of this machine's data; the file is ``traces/HASH`` there, whatever names the content has.

        Raises
        ------
        NotFound
            If there is no trace of that name.
        Unavailable
            If the disk has no room for the copy.
        """
        trace = self.get(name)
        place = _copies(folder)
        target = place / trace.sha256
        if target.is_file() and target.stat().st_size == trace.bytes:
            return target
        with written(place):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, partial = tempfile.mkstemp(dir=place, prefix=".partial-")
            try:
                digest = hashlib.sha256()
                with os.fdopen(handle, "wb") as file:
                    for piece in self.content(trace.sha256):
                        file.write(piece)
                        digest.update(piece)
                if digest.hexdigest() != trace.sha256:
                    raise NotFound(f"trace {name!r}: its content was deleted")
                os.replace(partial, target)
            finally:
                Path(partial).unlink(missing_ok=True)
        return target

    def remove_copies(self, folder: Path) -> None:
        """Delete copies of traces that were deleted, and what was left of those that were cut off.

        Parameters
        ----------
        folder
            Of this machine's data.
        """
        there = list(_copies(folder).glob("*"))
        if not there:
            return
        with self._database.reading() as connection:
            needed = set(connection.execute(select(TRACES.c.sha256)).scalars())
        for copy in there:
            # Whoever has it open reads it to the end.
            with suppress(OSError):
                if copy.name not in needed and time.time() - copy.stat().st_mtime > FRESH_S:
                    copy.unlink()

    def remove_orphans(self, sha256: str | None = None) -> None:
        """Delete pieces that no trace has, e.g. of an upload that was cut off: those of one content, or all."""
        used = select(TRACES.c.sha256).where(TRACES.c.sha256 == CHUNKS.c.sha256).exists()
        orphans = delete(CHUNKS).where(~used)
        with self._database.writing() as connection:
            connection.execute(orphans if sha256 is None else orphans.where(CHUNKS.c.sha256 == sha256))

    def _same(self, name: str, digest: str) -> TraceRow | None:
        """Return the trace of a name if it has the same content; None if there is none."""
        try:
            found = self.get(name)
        except NotFound:
            return None
        if found.sha256 != digest:
            raise Conflict(f"trace {name!r}: there is one with other content; use another name, or delete it first")
        return found

    def _write(self, digest: str, file: Path) -> None:
        """Write the pieces that are not there yet."""
        with self._database.reading() as connection:
            numbers = select(CHUNKS.c.number).where(CHUNKS.c.sha256 == digest)
            there = set(connection.execute(numbers).scalars())
        batch: Batch = []
        with file.open("rb") as source:
            number = 0
            while piece := source.read(CHUNK):
                if number not in there:
                    batch.append({"sha256": digest, "number": number, "content": piece})
                if len(batch) == PIECES:
                    self._insert(batch)
                    batch = []
                number += 1
        if batch:
            self._insert(batch)

    def _insert(self, batch: Batch) -> None:
        """Write pieces, save for those that somebody else has written meanwhile."""
        statement = {
            "sqlite": sqlite.insert(CHUNKS).on_conflict_do_nothing(),
            "postgresql": postgresql.insert(CHUNKS).on_conflict_do_nothing(),
        }[self._database.dialect]
        with self._database.writing() as connection:
            connection.execute(statement, batch)


def check_name(name: str) -> None:
    """Check that a trace may have a name.

    Raises
    ------
    SpecError
        If not.
    """
    if not NAME.fullmatch(name):
        raise SpecError(
            f"trace: name {name[:100]!r}; allowed: up to 100 letters, digits, dots, dashes and underscores, "
            "a letter or digit first"
        )


def finder(traces: Traces, folder: Path) -> Finder:
    """Return what finds files that specifications name: uploaded traces, copied under a folder; nothing else."""

    def find(name: str, kind: str) -> Path:
        if kind != "trace":
            raise SpecError(f"files are not taken here, given {name!r} as {kind}; only uploaded traces, by their names")
        try:
            return traces.path_of(name, folder)
        except NotFound:
            raise SpecError(f"trace: no {name[:100]!r} was uploaded") from None

    return find


def _copies(folder: Path) -> Path:
    return folder / "traces"


def _digest(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _total(connection: Connection) -> int:
    each = select(TRACES.c.sha256, func.max(TRACES.c.bytes).label("bytes")).group_by(TRACES.c.sha256).subquery()
    return int(connection.execute(select(func.coalesce(func.sum(each.c.bytes), 0))).scalar_one())


def _check_room(connection: Connection, size: int, most_bytes: int) -> None:
    total = _total(connection)
    if total + size > most_bytes:
        raise NoRoom(f"all traces together may have {most_bytes:,} bytes, {total:,} are there; delete one first")


def _pieces(connection: Connection, digest: str) -> int:
    number = select(func.count()).select_from(CHUNKS).where(CHUNKS.c.sha256 == digest)
    return connection.execute(number).scalar_one()
