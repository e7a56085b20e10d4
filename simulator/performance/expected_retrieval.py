"""The time that a prefix takes on average to come from tiers, where hit rates are known and not simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.performance.tiers import ResolvedTier


@dataclass(frozen=True)
class ExpectedRetrieval:
    """Time of a prefix of so many bytes: ``latency_s + s_per_byte · bytes + miss · recompute``.

    Attributes
    ----------
    latency_s
        Mean start-up time.
    s_per_byte
        Mean time of a byte.
    miss
        Chance that no tier holds the prefix, and it is computed again.
    """

    latency_s: float
    s_per_byte: float
    miss: float


def expected_retrieval(tiers: Sequence[ResolvedTier]) -> ExpectedRetrieval:
    """Return the expected time of a retrieval through tiers, nearest first.

    ``f_n = h_n (t_n + S / B_n) + (1 − h_n) f_{n+1}`` for tier n with hit rate h, latency t and bandwidth B, and S
    bytes; behind the last tier f is the time to compute the prefix again (the expected-value form of HERMES,
    arXiv:2504.09775). Being linear in S and in that time, it is told by three numbers. Transfers are taken to have
    the link for themselves.
    """
    latency_s = s_per_byte = 0.0
    reached = 1.0
    for tier in tiers:
        rate = tier.hit_rate or 0.0
        latency_s += reached * rate * tier.latency_us * 1e-6
        s_per_byte += reached * rate / (tier.gb_per_s * 1e9)
        reached *= 1 - rate
    return ExpectedRetrieval(latency_s, s_per_byte, reached)
