"""From the turns of one class to its calls of LLMs: one a turn, several in a cascade, many with branches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.spec.classes import ResolvedClass
from simulator.spec.distributions import MAX_TOKENS
from simulator.spec.llm_stages import CascadeStage, ReasonStage
from simulator.spec.stages import RouteStage, added_prompt_tokens, services_before, the_llm
from simulator.workload.draws import Use, draw_weighted, stream
from simulator.workload.sessions import KEEP
from simulator.workload.turns import Integers, Turns


@dataclass(frozen=True)
class Calls:
    """Calls of one class, those of a turn adjacent; arrays of shape ``(calls,)``, int64.

    Attributes
    ----------
    turn
        Index of the turn.
    way
        Index into the ways of the plan.
    prompt, output
        Tokens to read and to write.
    needs, wait_ps, keep
        As in :class:`~simulator.workload.sessions.Sessions`.
    ahead, followers
        The calls that follow stand ``ahead`` places behind this one and after it, so many of them.
    prompt_text, whole_text
        Tokens of the prompt, and of prompt and answer, that are the beginning of the session's text.
    """

    turn: Integers
    way: Integers
    prompt: Integers
    output: Integers
    needs: Integers
    wait_ps: Integers
    keep: Integers
    ahead: Integers
    followers: Integers
    prompt_text: Integers
    whole_text: Integers


def draw_calls(each: ResolvedClass, ways: tuple[int, ...], turns: Turns, *, seed: int, owner: int) -> Calls:
    """Return the calls that a class makes in its turns.

    Parameters
    ----------
    each, ways
        The class, and its ways (:attr:`~simulator.spec.pipeline_plan.PipelinePlan.class_ways`).
    turns
        Its turns.
    seed, owner
        See :func:`~simulator.workload.draws.stream`; ``owner`` is the number of the class.
    """
    llm = the_llm(each.pipeline)
    if isinstance(llm, CascadeStage):
        calls = _cascade(llm, ways, turns, stream(seed, Use.FALLBACK, owner))
    elif isinstance(llm, ReasonStage) and llm.branches > 1:
        calls = _branches(llm, ways, turns, stream(seed, Use.BRANCH, owner))
    else:
        choice: Integers = np.zeros(turns.prompt.size, dtype=np.int64)
        if isinstance(llm, RouteStage):
            choice = _routed(llm, each, turns, stream(seed, Use.ROUTE, owner))
        calls = _single(turns, np.array(ways)[choice], llm.factor if isinstance(llm, ReasonStage) else 1.0)
    if added_prompt_tokens(services_before(each.pipeline)):
        # The answer stands behind documents, which are not in the history of the next turn.
        calls = _changed(calls, whole_text=calls.prompt_text)
    if each.session is None:
        return _changed(calls, keep=np.zeros_like(calls.keep))
    return _in_session(calls, turns, KEEP[each.session.keep])


def _changed(calls: Calls, **arrays: Integers) -> Calls:
    return Calls(**{**vars(calls), **arrays})


def _single(turns: Turns, way: Integers, factor: float) -> Calls:
    """Return one call a turn."""
    zero = np.zeros_like(way)
    output = turns.answer if factor == 1 else _times(turns.answer, factor)
    return Calls(
        turn=np.arange(way.size),
        way=way,
        prompt=turns.prompt,
        output=output,
        needs=zero,
        wait_ps=zero,
        keep=np.ones_like(zero),
        ahead=zero,
        followers=zero,
        prompt_text=turns.prompt,
        # What is thought is not in the history.
        whole_text=turns.prompt + (output if factor == 1 else 0),
    )


def _times(tokens: Integers, factor: float | NDArray[np.float64]) -> Integers:
    found: Integers = np.clip(np.rint(tokens * factor), 1, MAX_TOKENS).astype(np.int64)
    return found


def _routed(router: RouteStage, each: ResolvedClass, turns: Turns, chance: np.random.Generator) -> Integers:
    """Return for each turn the place of its target."""
    if router.by == "class":
        found = next(place for place, (_, names) in enumerate(router.to) if each.name in _names(names))
        return np.full(turns.prompt.size, found)
    numbers = np.array([what for _, what in router.to])
    if router.by == "chance":
        return draw_weighted(numbers, turns.prompt.size, chance)
    order = np.argsort(numbers)
    tokens = turns.answer
    if router.by == "prompt_tokens":
        tokens = turns.prompt + added_prompt_tokens(services_before(each.pipeline))
    return order[np.searchsorted(numbers[order], tokens, side="right") - 1]


def _names(what: float | tuple[str, ...]) -> tuple[str, ...]:
    return what if isinstance(what, tuple) else ()


def _cascade(cascade: CascadeStage, ways: tuple[int, ...], turns: Turns, chance: np.random.Generator) -> Calls:
    """Return for each turn the calls of the stages that are asked, each following the one before."""
    n, last = turns.prompt.size, len(cascade.fallback)
    refused = chance.random((n, last)) < np.array(cascade.fallback)
    asked = 1 + np.cumprod(refused, axis=1).sum(axis=1)
    turn = np.repeat(np.arange(n), asked)
    place = np.arange(turn.size) - np.repeat(np.cumsum(asked) - asked, asked)
    accepted = place == asked[turn] - 1
    calls = _single(turns, np.zeros(n, dtype=np.int64), 1.0)
    calls = Calls(**{name: array[turn] for name, array in vars(calls).items()})
    return _changed(
        calls,
        way=np.array(ways)[np.minimum(2 * place + accepted, 2 * last)],
        needs=np.where(place > 0, 1, 0),
        ahead=np.where(accepted, 0, 1),
        followers=np.where(accepted, 0, 1),
        whole_text=np.where(accepted, calls.whole_text, calls.prompt_text),
    )


def _branches(reason: ReasonStage, ways: tuple[int, ...], turns: Turns, chance: np.random.Generator) -> Calls:
    """Return for each turn the call that reads the prompt, the branches, and what follows them."""
    n, k = turns.prompt.size, reason.branches
    size = k + 2
    # Places in a turn: 0 reads the prompt, 1 … k are branches, k + 1 goes on.
    place = np.tile(np.arange(size), n)
    turn = np.repeat(np.arange(n), size)
    spread = np.exp(chance.normal(-(reason.sigma**2) / 2, reason.sigma, (n, k))) if reason.sigma else np.ones((n, k))
    outputs = np.empty((n, size), dtype=np.int64)
    outputs[:, 0] = 1
    outputs[:, 1:-1] = _times(turns.answer[:, None], spread * reason.factor)
    outputs[:, -1] = turns.answer if turns.summary is None else turns.summary
    prompts = np.repeat(turns.prompt, size).reshape(n, size)
    if turns.summary is not None:
        prompts[:, -1] = np.minimum(turns.prompt + reason.needed * turns.answer, MAX_TOKENS)
    branch, end = (place > 0) & (place <= k), place == k + 1
    known = turns.prompt[turn]
    zero = np.zeros_like(place)
    return Calls(
        turn=turn,
        way=np.array(ways)[np.where(end, 2, branch)],
        prompt=prompts.reshape(-1),
        output=outputs.reshape(-1),
        needs=np.where(end, reason.needed, branch),
        wait_ps=zero,
        # The branches of a turn need its prompt until the last of them is done.
        keep=end.astype(np.int64),
        ahead=np.where(branch, k + 1 - place, ~end),
        followers=np.where(branch, 1, np.where(end, 0, k)),
        prompt_text=known,
        whole_text=known,
    )


def _in_session(calls: Calls, turns: Turns, keep: int) -> Calls:
    """Return calls of which the first of each turn follows the last of the turn before."""
    opens = np.ones(calls.turn.size, dtype=np.bool_)
    opens[1:] = calls.turn[1:] != calls.turn[:-1]
    closes = np.append(opens[1:], True)
    number = turns.number[calls.turn]
    has_next = closes & np.append(number[1:] > 0, False)
    return _changed(
        calls,
        needs=np.where(opens & (number > 0), 1, calls.needs),
        wait_ps=np.where(opens, turns.wait_ps[calls.turn], calls.wait_ps),
        ahead=np.where(has_next, 1, calls.ahead),
        followers=np.where(has_next, 1, calls.followers),
        keep=calls.keep * keep,
    )
