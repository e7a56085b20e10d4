"""Rows of codes that agree in some columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces.codes import Codes

Indices = npt.NDArray[np.intp]

MAX_KEY = 2**62


@dataclass(frozen=True)
class Distinct:
    """The different combinations of some columns.

    Attributes
    ----------
    first
        A row with each combination, shape (combinations,).
    of_row
        Combination of each row, shape (rows,).
    """

    first: Indices
    of_row: Indices


def distinct(codes: Codes, columns: Sequence[int]) -> Distinct:
    """Return the different combinations of some columns of rows of codes, shape (rows, dimensions)."""
    key = np.zeros(len(codes), dtype=np.int64)
    room = 1
    for column in columns:
        values = codes[:, column].astype(np.int64) + 1
        radix = int(values.max(initial=0)) + 1
        if room > MAX_KEY // radix:
            # Number what was seen so far anew: there are no more combinations than rows.
            key = np.unique(key, return_inverse=True)[1].astype(np.int64)
            room = len(codes)
        key = key * radix + values
        room *= radix
    _, first, of_row = np.unique(key, return_index=True, return_inverse=True)
    return Distinct(first, of_row.reshape(-1))
