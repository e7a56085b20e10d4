"""Fetching: a request brings chunks from the tiers of its client before it joins the queue there."""

from collections.abc import Callable
from dataclasses import dataclass

from .cost import linear_cost, prefill_cost
from .llm import LlmClient
from .request import Request
from .tiers import Tier

HopLater = Callable[[int, Request, Callable[[int], None]], None]


@dataclass
class Fetch:
    """A request that was routed to a client by its arrival at the LLM stage."""

    request: Request
    client: LlmClient
    hop: HopLater  # (time, request, what then)

    def begin(self, now: int) -> None:
        request = self.request
        if self.client.spec.expected is not None:
            self.expect(now, *self.client.spec.expected)
            return
        request.fetch_from = request.fetched = self.client.memory.cache.hits(request)
        request.next_tier = 0
        self.go_on(now)

    def expect(self, now: int, latency_ps: int, chunk: int, miss: int) -> None:
        """Wait for as long as the prefix takes on average, if there is one, then join the queue."""
        count = self.client.memory.cache.most_hits(self.request)
        if count == 0:
            self.client.join_queue(now, self.request)
            return
        self.client.happened["expected retrieval"] += 1
        wait_ps = latency_ps + ((count * chunk + miss * self.recompute_ps(0, count)) >> 10)
        self.hop(now + max(1, wait_ps), self.request, lambda then: self.client.join_queue(then, self.request))

    def recompute_ps(self, first: int, count: int) -> int:
        """How long the prefill of `count` chunks after `first` others takes."""
        profile, chunk_tokens = self.client.spec.profile, self.client.memory.cache.chunk_tokens
        tokens, earlier = count * chunk_tokens, first * chunk_tokens
        return linear_cost(profile.linear, tokens) + prefill_cost(
            profile, earlier, tokens, self.client.spec.window_tokens
        )

    def go_on(self, now: int) -> None:
        """Fetch from the next tier that is worth it; join the queue if there is none."""
        while self.request.next_tier < len(self.client.tiers):
            tier = self.client.tiers[self.request.next_tier]
            chunks = self.chunks_in(tier)
            if chunks and self.is_worth_it(tier, len(chunks)):
                self.fetch(now, tier, chunks)
                return
            if chunks:
                self.client.happened["recompute rather than fetch"] += 1
            self.request.next_tier += 1
        self.client.join_queue(now, self.request)

    def chunks_in(self, tier: Tier) -> list[int]:
        """The request's next chunks, as far as the tier has them."""
        request = self.request
        wanted = request.given.chunk_ids[request.fetched : self.client.memory.cache.most_hits(request)]
        return list(wanted[: tier.leading(wanted)])

    def is_worth_it(self, tier: Tier, count: int) -> bool:
        if self.client.spec.always_fetch:
            return True
        sharing = len(tier.link.transfers) + 1
        recompute_ps = self.recompute_ps(self.request.fetched, count)
        return tier.spec.latency_ps + count * tier.spec.chunk_ps * sharing < recompute_ps

    def fetch(self, now: int, tier: Tier, chunks: list[int]) -> None:
        for chunk in chunks:
            tier.touch(chunk)
        tier.outcome.hit_chunks += len(chunks)
        self.client.happened["fetch"] += 1
        self.client.happened["fetches share a link"] += bool(tier.link.transfers)

        def received(now: int) -> None:
            self.receive(now, chunks)

        def sent(now: int) -> None:
            self.hop(now + max(1, tier.spec.latency_ps), self.request, received)

        tier.link.start(now, self.request, len(chunks) * tier.spec.chunk_ps, sent)

    def receive(self, now: int, chunks: list[int]) -> None:
        self.request.fetched += len(chunks)
        for nearer in reversed(self.client.tiers[: self.request.next_tier]):
            for chunk in chunks:
                nearer.store(chunk)
        self.request.next_tier += 1
        self.go_on(now)
