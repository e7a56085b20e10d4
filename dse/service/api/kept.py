"""Answers as bytes, kept as long as they hold and there is room."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from time import monotonic
from typing import Final

MOST_BYTES: Final = 64_000_000
"""Of all answers that are kept."""
LARGEST_BYTES: Final = MOST_BYTES // 8
"""Of one; a larger one is made anew each time."""
BESIDE_BYTES: Final = 1_000
"""That an answer takes beside its content: a stranger may ask for any number of empty pages."""


@dataclass(frozen=True)
class Answer:
    """An answer as it is sent.

    Attributes
    ----------
    content, etag
        The bytes, and what tells them from others.
    media, name
        Their type; and what a file of them is called, if they are one.
    """

    content: bytes
    etag: str
    media: str = "application/json"
    name: str = ""

    @classmethod
    def of(cls, content: bytes, media: str = "application/json", name: str = "") -> Answer:
        """Return an answer of some bytes."""
        return cls(content, f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"', media, name)


@dataclass
class _Kept:
    """An answer, the revision of its study, and when it was last known to hold."""

    answer: Answer
    revision: int
    held_s: float


class Answers:
    """Answers about studies, the last one to each question; what was not asked for the longest goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Hashable], _Kept] = OrderedDict()
        self._bytes = 0

    def of(self, id: str, name: Hashable, revision: int) -> Answer | None:
        """Return the answer to a question about a study at a revision; None if it is not kept."""
        found = self._kept.get((id, name))
        if found is None or found.revision != revision:
            return None
        self._kept.move_to_end((id, name))
        found.held_s = monotonic()
        return found.answer

    def older(self, id: str, name: Hashable, within_s: float) -> Answer | None:
        """Return the answer at whatever revision, if it held some seconds ago."""
        found = self._kept.get((id, name))
        return found.answer if found is not None and monotonic() - found.held_s < within_s else None

    def keep(self, id: str, name: Hashable, revision: int, answer: Answer) -> Answer:
        """Keep an answer instead of what was kept of an earlier revision, and return it."""
        before = self._kept.get((id, name))
        if len(answer.content) > LARGEST_BYTES or (before is not None and before.revision > revision):
            return answer
        if before is not None:
            self._bytes -= _size(before.answer)
        self._kept[id, name] = _Kept(answer, revision, monotonic())
        self._kept.move_to_end((id, name))
        self._bytes += _size(answer)
        while self._bytes > MOST_BYTES:
            self._bytes -= _size(self._kept.popitem(last=False)[1].answer)
        return answer


def _size(answer: Answer) -> int:
    return len(answer.content) + BESIDE_BYTES
