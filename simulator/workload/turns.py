"""The turns of the sessions of one class: how much text each brings and what its prompt has grown to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SpecError
from simulator.spec.classes import ResolvedClass
from simulator.spec.distributions import MAX_TOKENS, TokenDistribution
from simulator.spec.llm_stages import ReasonStage
from simulator.spec.stages import the_llm
from simulator.workload.draws import (
    Use,
    draw_counts,
    draw_lengths,
    draw_seconds,
    draw_tokens,
    stream,
    whole_tokens,
)
from simulator.workload.requests import PS_PER_S

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Turns:
    """Turns of one class, those of a session adjacent and in order; arrays of shape ``(turns,)``, int64.

    Attributes
    ----------
    session
        Session of the class that a turn belongs to, from 0.
    number
        0 for a session's first turn.
    query
        Tokens of text that the turn brings.
    prompt
        Tokens of the whole prompt: system prompt, history, media and query.
    answer
        Tokens of the LLM's answer, thoughts left out.
    summary
        Tokens of the summary of several answers; None if there is none.
    media
        Patches to encode; None without media.
    wait_ps
        From the end of the turn before to the arrival, picoseconds.
    """

    session: Integers
    number: Integers
    query: Integers
    prompt: Integers
    answer: Integers
    summary: Integers | None
    media: Integers | None
    wait_ps: Integers


def draw_turns(
    each: ResolvedClass,
    prompt: NDArray[np.int32],
    output: NDArray[np.int32],
    system: Integers,
    *,
    seed: int,
    owner: int,
) -> Turns:
    """Return the turns of a class's sessions.

    Parameters
    ----------
    each
        The class.
    prompt, output
        Query and answer of the first turn of each session, shape ``(sessions,)``.
    system
        Tokens of each session's system prompt, shape ``(sessions,)``.
    seed, owner
        See :func:`~simulator.workload.draws.stream`; ``owner`` is the number of the class.

    Raises
    ------
    SpecError
        If a first prompt is too long.
    """
    session = each.session
    sessions = np.arange(prompt.size)
    counts = np.ones_like(sessions)
    if session is not None:
        counts = draw_counts(session.turns, prompt.size, stream(seed, Use.TURNS, owner))
    of_session = np.repeat(sessions, counts)
    first = np.cumsum(counts) - counts
    number = np.arange(of_session.size) - np.repeat(first, counts)
    later = number > 0
    query, answer = prompt[of_session].astype(np.int64), output[of_session].astype(np.int64)
    wait_ps = np.zeros_like(number)
    if session is not None:
        n = int(np.count_nonzero(later))
        query[later] = _tokens(session.prompt_tokens, n, seed, Use.LATER_PROMPT, owner)
        answer[later] = _later_answers(each, n, seed, owner)
        wait_s = draw_seconds(session.wait_s, n, stream(seed, Use.WAIT, owner))
        # A month at most: a lognormal has no end, and time must fit the clock.
        wait_ps[later] = np.rint(np.minimum(wait_s, 30 * 86_400) * PS_PER_S)
    media, added = None, np.zeros_like(number)
    if each.media is not None and each.encoder is not None:
        images = draw_counts(each.media.images, number.size, stream(seed, Use.IMAGES, owner))
        media = images * each.encoder.patches_per_image
        added = images * each.encoder.prompt_tokens_per_image
    llm = the_llm(each.pipeline)
    summary = None
    if isinstance(llm, ReasonStage) and llm.summary_tokens is not None:
        summary = _tokens(llm.summary_tokens, number.size, seed, Use.SUMMARY, owner).astype(np.int64)
    said = answer if summary is None else summary
    text = np.cumsum(query + added + said)
    history = text - (query + added + said)
    history -= np.repeat(history[first], counts)
    whole = system[of_session] + history + query + added
    turns = Turns(of_session, number, query, whole, answer, summary, media, wait_ps)
    if session is not None:
        turns = _ended(turns, first, counts, session.max_context_tokens)
    if turns.prompt.max() > MAX_TOKENS or (media is not None and media.max() >= 1 << 31):
        raise SpecError(
            f"workload: a prompt of {turns.prompt.max():,} tokens, with its system prompt and media, "
            f"is too long; at most {MAX_TOKENS:,}"
        )
    return turns


def _tokens(distribution: TokenDistribution, n: int, seed: int, use: Use, owner: int) -> NDArray[np.int32]:
    return whole_tokens(draw_tokens(distribution, n, stream(seed, use, owner)), None)


def _later_answers(each: ResolvedClass, n: int, seed: int, owner: int) -> NDArray[np.int32]:
    """Return answers of turns after the first."""
    assert each.session is not None
    if each.session.output_tokens is not None:
        return _tokens(each.session.output_tokens, n, seed, Use.LATER_OUTPUT, owner)
    assert each.lengths is not None
    # Learned outputs go with prompts; those of later turns are as if after prompts of their own.
    with_prompts = stream(seed, Use.LATER_OUTPUT_CLASS, owner)
    return draw_lengths(each.lengths, n, with_prompts, stream(seed, Use.LATER_OUTPUT, owner))[1]


def _ended(turns: Turns, first: Integers, counts: Integers, limit: int) -> Turns:
    """Return the turns before the first of each session that exceeds a limit; a session's first turn stays."""
    over = (turns.prompt + turns.answer > limit) & (turns.number > 0)
    if not over.any():
        return turns
    end = np.minimum.reduceat(np.where(over, turns.number, turns.number.size), first)
    kept = turns.number < np.repeat(end, counts)
    arrays: dict[str, Any] = {name: None if array is None else array[kept] for name, array in vars(turns).items()}
    return Turns(**arrays)
