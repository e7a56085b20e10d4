"""From the ``hash_ids`` of a recorded trace to ids of chunks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.workload.prefixes import Prefixes


class Hashes(NamedTuple):
    """Lists of numbers, one list for each row: those of row i are ``ids[offsets[i] : offsets[i + 1]]``."""

    offsets: NDArray[np.int64]
    ids: NDArray[np.int64]


def prefixes_of(hashes: Hashes, prompt_tokens: NDArray[np.int64], chunk_tokens: int) -> Prefixes:
    """Return the prefixes that recorded hashes tell.

    Only full chunks of the prompt count: the hash of a last, partial chunk is that of a text that ends there. Where
    the same hash stands behind different texts (hashes of a chunk alone, not of all text up to it), it becomes
    different ids.

    Parameters
    ----------
    hashes
        One number for each chunk of a row's prompt, in order.
    prompt_tokens
        Lengths of the prompts, shape ``(n,)``.
    chunk_tokens
        Tokens of a chunk.
    """
    known = np.minimum(np.diff(hashes.offsets), prompt_tokens // chunk_tokens)
    first = np.cumsum(known) - known
    place = np.arange(known.sum()) - np.repeat(first, known)
    ids = np.unique(hashes.ids[np.repeat(hashes.offsets[:-1], known) + place], return_inverse=True)[1]
    before = np.where(place > 0, np.roll(ids, 1), -1)
    # Each id needs one and the same predecessor wherever it stands: by induction all the text before it is the same.
    if ids.size and np.any(_any_of_each(ids, before)[ids] != before):
        ids = _chained(ids, first, known)
    return Prefixes(chunk_tokens, ids.astype(np.int32), first, known.astype(np.int32), known.astype(np.int32))


def _any_of_each(ids: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each id one of the values that stand beside it."""
    found = np.zeros(int(ids.max()) + 1, dtype=np.int64)
    found[ids] = values
    return found


def _chained(ids: NDArray[np.int64], first: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ids of chunks and all chunks before them, from ids of the chunks alone."""
    chained = np.empty_like(ids)
    text = np.full(first.size, -1)  # id of the text so far of each row
    used = 0
    for depth in range(int(known.max())):
        rows = np.flatnonzero(known > depth)
        here = np.stack([text[rows], ids[first[rows] + depth]])
        distinct, number = np.unique(here, axis=1, return_inverse=True)
        text[rows] = chained[first[rows] + depth] = used + number.reshape(-1)
        used += distinct.shape[1]
    return chained
