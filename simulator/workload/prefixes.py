"""Which texts begin alike: ids of the chunks of each request's prompt and answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Prefixes:
    """Ids of the full chunks at the start of each row's text.

    Two ids are equal if and only if the text from the start to the end of the chunk is equal (with the same adapter).
    Row i has the ids ``chunks[chunk_first[i]:][:all_chunks[i]]``; rows may share a part of ``chunks``.

    Parameters
    ----------
    chunk_tokens
        Tokens of a chunk, a multiple of 16.
    chunks
        Ids from 0 without gaps, shape ``(m,)``, int32.
    chunk_first
        Where each row's ids start, shape ``(n,)``, int64.
    prompt_chunks, all_chunks
        Number of full chunks of the prompt, and of prompt and answer as far as known; shape ``(n,)``, int32.

    Raises
    ------
    ValueError
        If shapes differ, a number is out of range, or ``prompt_chunks`` exceeds ``all_chunks``.
    """

    chunk_tokens: int
    chunks: NDArray[np.int32]
    chunk_first: NDArray[np.int64]
    prompt_chunks: NDArray[np.int32]
    all_chunks: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Bring the arrays to the promised form."""
        if self.chunk_tokens < 16 or self.chunk_tokens % 16:
            raise ValueError(f"prefixes: chunk_tokens must be a multiple of 16, given {self.chunk_tokens}")
        arrays: dict[str, NDArray[Any]] = {
            name: np.array(getattr(self, name), dtype=kind)
            for name, kind in (
                ("chunks", np.int32),
                ("chunk_first", np.int64),
                ("prompt_chunks", np.int32),
                ("all_chunks", np.int32),
            )
        }
        first, known, whole = (arrays[name] for name in ("chunk_first", "prompt_chunks", "all_chunks"))
        if first.ndim != 1 or known.shape != first.shape or whole.shape != first.shape:
            raise ValueError("prefixes: chunk_first, prompt_chunks and all_chunks must have one length")
        if known.min() < 0 or np.any(known > whole):
            raise ValueError("prefixes: prompt_chunks must be from 0 to all_chunks")
        if first.min() < 0 or np.any(first + whole > arrays["chunks"].size):
            raise ValueError("prefixes: a row's ids lie outside chunks")
        if arrays["chunks"].size and arrays["chunks"].min() < 0:
            raise ValueError("prefixes: ids must not be negative")
        for name, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.chunk_first.size)

    @property
    def ids(self) -> int:
        """Number of different ids: all are below it."""
        return int(self.chunks.max()) + 1 if self.chunks.size else 0

    def of_rows(self, rows: NDArray[np.int64] | slice, *, compact: bool = False) -> Prefixes:
        """Return the prefixes of some rows, in their order.

        Parameters
        ----------
        rows
            Which rows.
        compact
            Whether to leave out chunks that none of them has, and to number the rest without gaps.
        """
        first, known, whole = self.chunk_first[rows], self.prompt_chunks[rows], self.all_chunks[rows]
        if not compact:
            return Prefixes(self.chunk_tokens, self.chunks, first, known, whole)
        begins, place = np.unique(first, return_inverse=True)
        size = np.zeros(begins.size, dtype=np.int64)
        np.maximum.at(size, place, whole)
        new_begins = np.cumsum(size) - size
        ids = self.chunks[np.arange(size.sum()) - np.repeat(new_begins - begins, size)]
        return Prefixes(self.chunk_tokens, without_gaps(ids), new_begins[place], known, whole)


def without_gaps(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return ids numbered from 0 without gaps, in the order of the ids."""
    if not ids.size:
        return ids
    used = np.zeros(int(ids.max()) + 1, dtype=np.bool_)
    used[ids] = True
    return (np.cumsum(used, dtype=np.int32) - np.int32(1))[ids]
