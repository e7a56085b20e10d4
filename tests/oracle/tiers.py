"""Tiers: caches of chunks behind the clients, one behind the other."""

from collections import Counter
from collections.abc import Sequence

from .links import Link
from .records import OracleClientSpec, OracleTier, TierOutcome


class Tier:
    """An LRU cache of chunks; `chunks` has the least recently used first."""

    def __init__(self, spec: OracleTier, link: Link, happened: Counter[str]) -> None:
        assert spec.capacity >= 0
        self.spec = spec
        self.link = link
        self.happened = happened
        self.behind: Tier | None = None
        self.chunks: list[int] = []
        self.outcome = TierOutcome()

    def leading(self, chunks: Sequence[int]) -> int:
        """How many of `chunks` are here, up to the first one that is not."""
        missing = [i for i, chunk in enumerate(chunks) if chunk not in self.chunks]
        return missing[0] if missing else len(chunks)

    def touch(self, chunk: int) -> None:
        self.chunks.remove(chunk)
        self.chunks.append(chunk)

    def store(self, chunk: int) -> None:
        if chunk in self.chunks:
            self.touch(chunk)
            return
        if self.spec.capacity == 0:
            return
        if len(self.chunks) == self.spec.capacity:
            self.evict()
        self.chunks.append(chunk)
        self.outcome.stored_chunks += 1
        assert len(self.chunks) <= self.spec.capacity

    def evict(self) -> None:
        """The least recently used chunk leaves, perhaps to the tier behind."""
        chunk = self.chunks.pop(0)
        self.happened["tier eviction"] += 1
        if self.spec.spills and self.behind is not None:
            self.happened["spill"] += 1
            self.behind.store(chunk)


def connect(tiers: Sequence[Tier], clients: Sequence[OracleClientSpec]) -> None:
    """Put the tiers behind each other, as the clients' chains say."""
    followers: dict[int, set[int]] = {}
    for spec in clients:
        assert len(set(spec.tiers)) == len(spec.tiers)
        for tier, behind in zip(spec.tiers, (*spec.tiers[1:], -1), strict=False):
            followers.setdefault(tier, set()).add(behind)
    assert all(len(behind) == 1 for behind in followers.values()), "chains that share a tier share what is behind it"
    for tier, (behind,) in followers.items():
        tiers[tier].behind = tiers[behind] if behind != -1 else None
