"""The page in the browser: a few files, read when the server starts, and plotly's script."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from typing import Final

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from dse.service.storage.errors import NotFound

TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}
INDEX: Final = "index.html"
PLOTLY: Final = "plotly.js"
SMALL_BYTES: Final = 1_000
"""Not worth compressing."""
ASKED: Final = "no-cache"
FOREVER: Final = "public, max-age=31536000, immutable"
"""What an address with a version says can never change."""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class File:
    """A file as it is sent, and compressed."""

    content: bytes
    compressed: bytes | None
    etag: str
    media: str

    @classmethod
    def of(cls, name: str, content: bytes) -> File:
        """Return a file of some bytes."""
        media = TYPES[name.rpartition(".")[2]]
        worth = len(content) > SMALL_BYTES and not media.startswith(("image/png", "font/"))
        etag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
        return cls(content, gzip.compress(content, 9, mtime=0) if worth else None, etag, media)


def plotly_version() -> str:
    """Return the version of the package that plotly's script comes with."""
    return metadata.version("plotly")


@cache
def files() -> dict[str, File]:
    """Return the files of the page by name; what is not here is not served, whatever a path says."""
    found = {}
    for entry in resources.files("dse.service").joinpath("page").iterdir():
        if entry.is_file() and entry.name.rpartition(".")[2] in TYPES:
            content = entry.read_bytes()
            # With its version in the address, browsers keep the script, which is most of all bytes, for good.
            content = content.replace(b"/static/plotly.js", f"/static/plotly.js?v={plotly_version()}".encode())
            found[entry.name] = File.of(entry.name, content)
    return found


@cache
def plotly() -> File:
    """Return plotly's script; compressed when it is first asked for, which takes a second."""
    content = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    return File.of(PLOTLY, content)


@router.get("/")
async def get_page(request: Request) -> Response:
    """Return the page."""
    return _sent(request, files()[INDEX], ASKED)


@router.get("/static/{name}")
async def get_static(request: Request, name: str) -> Response:
    """Return a file of the page."""
    if name == PLOTLY:
        known = request.query_params.get("v") == plotly_version()
        return _sent(request, await to_thread.run_sync(plotly), FOREVER if known else ASKED)
    if (file := files().get(name)) is None or name == INDEX:
        raise NotFound(f"the page has no file {name[:100]!r}")
    return _sent(request, file, ASKED)


def _sent(request: Request, file: File, caching: str) -> Response:
    headers = {"ETag": file.etag, "Cache-Control": caching, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(None, 304, headers)
    if file.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, 200, {**headers, "Content-Encoding": "gzip"}, file.media)
    return Response(file.content, 200, headers, file.media)
