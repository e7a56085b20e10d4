"""What ``dse serve``, ``dse worker`` and ``dse token`` share: where things are kept, limits, logs."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from simulator.errors import SpecError

if TYPE_CHECKING:
    from dse.service.settings import Settings
    from dse.service.storage.database import Database

Data = Annotated[
    Path | None,
    typer.Option(
        help="folder for the database and copies of traces",
        envvar="DSE_DATA",
        show_default="the user's data folder, e.g. ~/.local/share/dse",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        help="database, e.g. postgresql://USER@HOST/NAME", envvar="DSE_STORAGE", show_default="SQLite in the folder"
    ),
]
StorageFile = Annotated[
    Path | None,
    typer.Option(
        help="file that holds the address of the database, so that no password stands in a command",
        envvar="DSE_STORAGE_FILE",
    ),
]
Limit = Annotated[
    list[str] | None,
    typer.Option(help="NAME=VALUE, e.g. trials=5000 or memory_gb=16; may be repeated (names: docs/service.md)"),
]
JsonLogs = Annotated[bool, typer.Option("--json-logs", help="log as lines of JSON")]
PARTS: Final = (
    "alembic",
    "fastapi",
    "limits",
    "platformdirs",
    "prometheus_client",
    "pythonjsonlogger",
    "sqlalchemy",
    "uvicorn",
)
"""What the extra ``service`` installs and Python imports."""


class Level(StrEnum):
    """The least that is logged."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


LogLevel = Annotated[
    Level | None, typer.Option(help="the least that is logged", show_default="warning; info with --json-logs")
]


def check_installed() -> None:
    """Check that the extra ``service`` is there.

    Raises
    ------
    SpecError
        Naming what is missing and how it is installed.
    """
    missing = [name for name in PARTS if find_spec(name) is None]
    if missing:
        raise SpecError(f"{', '.join(missing)}: not installed: pip install 'dse-llm[service]'")


def settings_of(
    data: Path | None,
    storage: str | None,
    storage_file: Path | None,
    limits: list[str] | None = None,
    **others: Any,
) -> Settings:
    """Return the settings that options say, with the data folder made.

    Raises
    ------
    SpecError
        If an option is not usable, or the folder cannot be written.
    """
    from dse.service.settings import Settings

    given = {name: value for name, value in others.items() if value is not None}
    settings = Settings.parse(
        {
            "data": str((data or _default_data()).absolute()),
            "storage": _storage(storage, storage_file),
            "limits": dict(map(_limit, limits or ())),
            **given,
        },
        source="options",
    )
    try:
        settings.prepared()
        # Not by a file of a name: others may start at the same moment.
        tempfile.TemporaryFile(dir=settings.data).close()
    except OSError as error:
        raise SpecError(f"--data: {settings.data}: cannot be written: {error.strerror or error}") from None
    return settings


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """Open the database with its tables up to date.

    Raises
    ------
    SpecError
        If it is away, or not one that this version can use.
    """
    from sqlalchemy.exc import DatabaseError

    from dse.service.storage.database import Database
    from dse.service.storage.errors import Unavailable
    from dse.storage.database import address_of, shown

    try:
        with closing(Database(settings.url)) as database:
            database.migrate()
            yield database
    except Unavailable as error:
        raise SpecError(f"--storage {error}") from None
    except DatabaseError as error:
        # A file that is no database, or tables that are somebody else's.
        raise SpecError(f"--storage {shown(address_of(settings.url))}: {error.orig}") from None


def begin_logs(level: Level | None, *, as_json: bool) -> None:
    """Log to standard error."""
    number = logging.getLevelName((level or (Level.info if as_json else Level.warning)).upper())
    if as_json:
        from dse.service.api.logs import log_as_json

        log_as_json(number)
    else:
        logging.basicConfig(level=number, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)


def _default_data() -> Path:
    from platformdirs import user_data_path

    return user_data_path("dse", appauthor=False)


def _storage(storage: str | None, file: Path | None) -> str | None:
    if file is None:
        return storage
    if storage is not None:
        raise SpecError("--storage and --storage-file: give one")
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"--storage-file: {file}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    if not text:
        raise SpecError(f"--storage-file: {file}: holds nothing")
    return text


def _limit(text: str) -> tuple[str, float | int]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        raise SpecError(f"--limit: given {text!r}; allowed: NAME=NUMBER, e.g. trials=5000") from None
    return name, int(number) if number.is_integer() else number
