"""Names that a person gives to parts of a system: any text on one line, as they stand in tables, files and commands."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Final

from pydantic import AfterValidator

_NOT_ON_A_LINE: Final = frozenset({"Cc", "Zl", "Zp"})
"""Unicode's control characters, and what separates lines and paragraphs."""


def on_one_line(name: str) -> str:
    """Return a name as it is.

    Raises
    ------
    ValueError
        If it holds a line break or another control character.
    """
    if found := next((each for each in name if unicodedata.category(each) in _NOT_ON_A_LINE), None):
        raise ValueError(f"holds the control character U+{ord(found):04X}; allowed: text on one line")
    return name


Name = Annotated[str, AfterValidator(on_one_line)]
