"""What is written into the data folder, and a disk that has no room for it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dse.service.storage.errors import Unavailable

FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """Say of a disk without room what is said of a database that is away: it passes, and nobody did wrong.

    Raises
    ------
    Unavailable
        If there is no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise Unavailable(f"{folder}: {error.strerror}") from None
