"""System prompts that sessions share, and ids for the chunks of every session's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from simulator.errors import SpecError
from simulator.spec.classes import ResolvedClass
from simulator.workload.draws import Use, draw_tokens, draw_zipf, stream, whole_tokens
from simulator.workload.prefixes import Prefixes
from simulator.workload.turns import Integers


@dataclass(frozen=True)
class SystemPrompts:
    """The system prompt of each session.

    Attributes
    ----------
    number
        Number of the system prompt, equal for equal ones; −1 for none; shape ``(sessions,)``.
    tokens
        Its length, 0 for none; shape ``(sessions,)``.
    """

    number: Integers
    tokens: Integers

    @classmethod
    def draw(cls, classes: Sequence[ResolvedClass], class_of: Integers, seed: int) -> Self:
        """Return system prompts for sessions of these classes."""
        number, tokens = np.full_like(class_of, -1), np.zeros_like(class_of)
        starts: dict[int, int] = {}
        used = 0
        for place, each in enumerate(classes):
            if each.prefix is None:
                continue
            if each.prefix_owner not in starts:
                starts[each.prefix_owner] = used
                used += each.prefix.system_prompts
            mine = np.flatnonzero(class_of == place)
            count = each.prefix.system_prompts
            drawn = draw_zipf(count, each.prefix.zipf, mine.size, stream(seed, Use.SYSTEM_PROMPT, place))
            lengths = stream(seed, Use.SYSTEM_PROMPT_TOKENS, each.prefix_owner)
            number[mine] = starts[each.prefix_owner] + drawn
            tokens[mine] = whole_tokens(draw_tokens(each.prefix.tokens, count, lengths), None)[drawn]
        return cls(number, tokens)


def chunk_texts(
    system: SystemPrompts,
    adapter: Integers | None,
    session: Integers,
    prompt_text: Integers,
    whole_text: Integers,
    chunk_tokens: int,
) -> Prefixes:
    """Return the ids of the chunks of all calls.

    The text of a session begins with its system prompt; full chunks of that are the same in all sessions with the same
    system prompt and adapter. All further chunks are the session's own. A call has the ids of the beginning of it.

    Parameters
    ----------
    system, adapter
        System prompt and adapter (None: none) of each session.
    session
        Session of each call, not decreasing, each session at least once; shape ``(n,)``.
    prompt_text, whole_text
        How far the prompt, and prompt and answer, of each call follow the session's text; tokens, shape ``(n,)``.
    chunk_tokens
        Tokens of a chunk.

    Raises
    ------
    SpecError
        If there are too many chunks to number.
    """
    known, whole = prompt_text // chunk_tokens, whole_text // chunk_tokens
    first = np.flatnonzero(np.diff(session, prepend=-1))
    size = np.maximum.reduceat(whole, first)
    total = int(size.sum())
    if total >= 1 << 31:
        raise SpecError(
            f"chunk_tokens: {chunk_tokens} makes {total:,} chunks of all texts; at most 2^31: "
            "raise chunk_tokens or lower requests"
        )
    shared = system.tokens // chunk_tokens
    # System prompts that have full chunks, each with each of its adapters: their ids come first.
    key = system.number if adapter is None else system.number * (int(adapter.max()) + 1) + adapter
    _, some, place = np.unique(np.where(shared > 0, key, -1), return_index=True, return_inverse=True)
    length = shared[some]
    base = np.cumsum(length) - length
    begin = np.cumsum(size) - size
    # Chunks of a session's own are numbered on; `offset` brings their place in `chunks` to that number.
    offset = length.sum() - np.cumsum(shared)
    chunks = np.arange(total, dtype=np.int32)
    chunks += np.repeat(offset.astype(np.int32), size)
    within = np.arange(shared.sum()) - np.repeat(np.cumsum(shared) - shared, shared)
    chunks[np.repeat(begin, shared) + within] = np.repeat(base[place], shared) + within
    of_call = np.repeat(np.arange(first.size), np.diff(np.append(first, session.size)))
    return Prefixes(chunk_tokens, chunks, begin[of_call], known.astype(np.int32), whole.astype(np.int32))
