"""The kernel's draws for many requests at once, and what they decide whatever else happens."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from dse.bounds.lengths import Lengths
from simulator.kernel.draws import MASK, MULTIPLIER
from simulator.kernel.speculation import DRAW

Integers = npt.NDArray[np.int64]

_SHIFT: Final = 16


def draws(numbers: Integers, seed: int, salt: Integers | int) -> Integers:
    """Return the 32 random bits of requests for some purpose (*Draws* in ``docs/semantics.md``)."""
    return _mixed((_mixed((seed + numbers) & MASK) + salt) & MASK)


def _mixed(bits: Integers) -> Integers:
    for _ in range(2):
        bits = ((bits ^ (bits >> _SHIFT)) * MULTIPLIER) & MASK
    return bits ^ (bits >> _SHIFT)


@lru_cache(maxsize=16)
def speculative_iterations(lengths: Lengths, thresholds: tuple[int, ...], seed: int) -> Integers:
    """Return the steps from the first token of each request to its last, shape (n,), if none is ever read again.

    How many drafted tokens are accepted depends on the seed, the request and the tokens that it has so far, on nothing
    else.
    """
    numbers = lengths.numbers
    if numbers is None:
        raise ValueError("lengths: the requests' numbers are needed, given none")
    steps = np.zeros(len(lengths), dtype=np.int64)
    active = np.flatnonzero(lengths.later_tokens > 0)
    generated = np.ones(len(active), dtype=np.int64)
    mixed = _mixed((seed + numbers[active]) & MASK)
    accepted_from = np.sort(np.asarray(thresholds, dtype=np.int64))
    while len(active):
        steps[active] += 1
        drawn = _mixed((mixed + DRAW + generated) & MASK)
        generated += 1 + np.searchsorted(accepted_from, drawn, side="right")
        left = generated < lengths.output_tokens[active]
        active, generated, mixed = active[left], generated[left], mixed[left]
    return steps
