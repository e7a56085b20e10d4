"""Optuna's journal format with many records in one write, and a file that a full disk does not spoil."""

from __future__ import annotations

import errno
import json
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from optuna.storages.journal import BaseJournalBackend

from dse.patience import Patience

FULL: Final = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up", errno.EFBIG: "the file is full"}


class JournalFile(BaseJournalBackend):
    """A file with a JSON record a line, in Optuna's format; one process at a time writes to it.

    Parameters
    ----------
    path
        Made if it is not there.
    patience
        With a full disk.
    """

    def __init__(self, path: Path, patience: Patience) -> None:
        self._path, self._patience = path, patience
        self._ends = array("q", [0])
        self._held: list[bytes] | None = None
        _mend(path)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the records from a number on, those that are held back, too."""
        if self._held is None or log_number_from < len(self._ends) - 1:
            with self._path.open("rb") as file:
                known = min(log_number_from, len(self._ends) - 1)
                file.seek(self._ends[known])
                for number, line in enumerate(file, start=known):
                    if number == len(self._ends) - 1:
                        self._ends.append(self._ends[-1] + len(line))
                    if number >= log_number_from:
                        yield json.loads(line)
        for line in (self._held or [])[max(0, log_number_from - len(self._ends) + 1) :]:
            yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records, or hold them back."""
        lines = [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
        if self._held is None:
            self._write(lines)
        else:
            self._held += lines

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold records back, and write all of them at once at the end."""
        self._held = []
        try:
            yield
            self._write(self._held)
        finally:
            self._held = None

    def _write(self, lines: list[bytes]) -> None:
        """Write whole records and wait until they are on the disk; wait, too, while that is full."""

        def full(error: Exception) -> str | None:
            reason = FULL.get(error.errno or 0) if isinstance(error, OSError) else None
            return f"{self._path}: {reason}" if reason else None

        if lines:
            self._patience.until_done(lambda: _append(self._path, b"".join(lines)), full)


def _append(path: Path, content: bytes) -> None:
    """Append all or nothing."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except BaseException:
            # Half a record would spoil what is written after it; a second Ctrl-C may come here as well.
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _mend(path: Path) -> None:
    """Drop a last line that a killed process left unfinished; make the file if it is not there."""
    with path.open("a+b") as file:
        size = file.tell()
        whole, step = size, 1 << 16
        while whole > 0:
            start = max(0, whole - step)
            file.seek(start)
            found = file.read(whole - start).rfind(b"\n")
            if found >= 0:
                whole = start + found + 1
                break
            whole = start
        if whole < size:
            file.truncate(whole)
