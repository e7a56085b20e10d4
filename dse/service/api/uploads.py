"""Files that arrive: written as they come, within limits, and gone again whatever happens."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from dse.service.api.problems import Refusal
from dse.service.storage.disk import written

IDLE_S: Final = 30.0
"""An upload from which nothing comes for so long is over."""
AT_ONCE: Final = 8
"""Uploads at the same time."""
_WRITTEN_BYTES: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"
_STALE_S: Final = 86_400.0
_PREFIX: Final = "upload-"


class Uploads:
    """Takes in files, a few at a time.

    Parameters
    ----------
    folder
        Where they are while they arrive.
    most_bytes
        Of one, unpacked.
    idle_s
        How long nothing may come.
    """

    def __init__(self, folder: Path, most_bytes: int, *, idle_s: float = IDLE_S) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._idle_s = idle_s
        self._arriving = 0

    @contextmanager
    def place(self) -> Iterator[Path]:
        """Give a place for a file that is deleted afterwards.

        Raises
        ------
        Refusal
            429 if too many arrive at the moment.
        Unavailable
            If the disk has no room.
        """
        if self._arriving >= AT_ONCE:
            detail = f"{self._arriving} files are being uploaded, as many as may be"
            raise Refusal(429, detail, kind="limit", headers={"Retry-After": "10"})
        self._arriving += 1
        try:
            with written(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._sweep()
                handle, name = tempfile.mkstemp(dir=self._folder, prefix=_PREFIX)
                os.close(handle)
                try:
                    yield Path(name)
                finally:
                    Path(name).unlink(missing_ok=True)
        finally:
            self._arriving -= 1

    def _sweep(self) -> None:
        """Delete what a server that was killed left behind."""
        for path in self._folder.glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - _STALE_S:
                    path.unlink()

    async def receive(self, request: Request, path: Path) -> None:
        """Write a request's body to a file, unpacked if it is gzip.

        Raises
        ------
        Refusal
            413 if it is too large, as soon as this is known; 408 if nothing comes any more; 422 if it is no whole gzip.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._most_bytes:
            raise _too_large(self._most_bytes)
        # Opened and written in threads: a disk can be slow.
        file = await run_in_threadpool(path.open, "wb")
        try:
            unpacking = _Unpacking(file, self._most_bytes)
            pieces = bytearray()
            async for piece in self._arrived(request):
                pieces += piece
                if len(pieces) >= _WRITTEN_BYTES:
                    await run_in_threadpool(unpacking.take, bytes(pieces))
                    pieces.clear()
            await run_in_threadpool(unpacking.take, bytes(pieces))
            unpacking.end()
        finally:
            await run_in_threadpool(file.close)

    async def _arrived(self, request: Request) -> AsyncIterator[bytes]:
        stream = aiter(request.stream())
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    yield await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                detail = f"the body: nothing came for {self._idle_s:g} s"
                raise Refusal(408, detail, headers={"Connection": "close"}) from None


class _Unpacking:
    """Writes what comes, unpacked if it begins as gzip does."""

    def __init__(self, file: IO[bytes], most_bytes: int) -> None:
        self._file = file
        self._left = most_bytes
        self._most_bytes = most_bytes
        self._unpacker: zlib._Decompress | None = None
        self._started = False

    def take(self, piece: bytes) -> None:
        """Write a piece; the first has more than one byte, or is all there is."""
        if not piece:
            return
        if not self._started:
            self._started = True
            if piece.startswith(_GZIP):
                self._unpacker = _unpacker()
        if self._unpacker is None:
            self._write(piece)
            return
        while piece:
            if self._unpacker.eof:
                # Another member of the same file, as `cat a.gz b.gz` makes; zeros may fill up its end.
                piece = piece.lstrip(b"\0")
                if not piece:
                    return
                self._unpacker = _unpacker()
            try:
                # No more at a time than may come: what unpacks to a thousand times its size is no surprise.
                self._write(self._unpacker.decompress(piece, _WRITTEN_BYTES))
            except zlib.error:
                raise _not_gzip("it is damaged") from None
            piece = self._unpacker.unconsumed_tail or self._unpacker.unused_data

    def end(self) -> None:
        """Check that nothing is missing."""
        if self._unpacker is None:
            return
        while not self._unpacker.eof:
            rest = self._unpacker.decompress(b"", _WRITTEN_BYTES)
            if not rest:
                raise _not_gzip("its end is missing")
            self._write(rest)

    def _write(self, content: bytes) -> None:
        self._left -= len(content)
        if self._left < 0:
            raise _too_large(self._most_bytes)
        self._file.write(content)


def _unpacker() -> zlib._Decompress:
    return zlib.decompressobj(wbits=31)


def _too_large(most: int) -> Refusal:
    detail = f"the file is larger than the {most:,} bytes allowed, unpacked"
    return Refusal(413, detail, kind="limit", headers={"Connection": "close"})


def _not_gzip(why: str) -> Refusal:
    return Refusal(422, f"the file begins as gzip does, but {why}")
