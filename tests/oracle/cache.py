"""The prefix cache of a client: which chunks it has, and who references them."""

from collections import Counter
from collections.abc import Sequence

from .records import OracleClientSpec
from .request import Request
from .tiers import Tier


class PrefixCache:
    """Entries of a client's cache. References are counted from the requests that the client holds.

    `entries` has the least recently used first; the place of those that are referenced means nothing. Without a
    cache (`spec.cached` is False) it is always empty.
    """

    def __init__(
        self, spec: OracleClientSpec, chunk_tokens: int, tiers: Sequence[Tier], happened: Counter[str]
    ) -> None:
        assert spec.write in ("through", "back", "none")
        assert spec.cached or not spec.tiers, "tiers stand behind a cache"
        if spec.cached:
            assert spec.role in ("both", "prefill")
            assert spec.policy != "static"
            assert chunk_tokens % spec.block_tokens == 0
        self.spec = spec
        self.chunk_tokens = chunk_tokens
        self.chunk_blocks = chunk_tokens // spec.block_tokens
        self.tiers = tiers
        self.happened = happened
        self.entries: list[int] = []

    # -- counting

    def referenced(self, holders: Sequence[Request]) -> set[int]:
        return {chunk for request in holders for chunk in request.references}

    def unreferenced(self, holders: Sequence[Request]) -> list[int]:
        """Entries without references, the least recently used first."""
        referenced = self.referenced(holders)
        return [chunk for chunk in self.entries if chunk not in referenced]

    def most_hits(self, request: Request) -> int:
        """The limit for hits: at least one token of the prompt is computed."""
        return min(request.given.prompt_chunks, (request.prompt - 1) // self.chunk_tokens)

    def hits(self, request: Request) -> int:
        """How many leading chunks of its prompt are entries."""
        chunks = request.given.chunk_ids[: self.most_hits(request)]
        missing = [i for i, chunk in enumerate(chunks) if chunk not in self.entries]
        return missing[0] if missing else len(chunks)

    def covered(self, request: Request) -> int:
        """How many leading chunks need not be computed if it is admitted now."""
        if self.spec.expected is not None:
            return self.most_hits(request)
        if not self.spec.cached:
            return 0
        hits = self.hits(request)
        return max(hits, request.fetched) if hits >= request.fetch_from else hits

    # -- a request's life

    def publish_prompt(self, request: Request) -> None:
        """The prompt is computed: its chunks that it does not reference yet become entries, or are the entries'."""
        if self.spec.cached:
            self.publish(request, len(request.references), request.given.prompt_chunks)

    def publish_answer(self, request: Request) -> None:
        """A request has finished: the same for the chunks of its answer, or for all of them after a swap."""
        if self.spec.cached:
            self.publish(request, len(request.references), self.chunks_at_finish(request))

    def chunks_at_finish(self, request: Request) -> int:
        """How many chunks have all their KV when a request has finished: that of its last token is never computed."""
        return min(len(request.given.chunk_ids), (request.prompt + request.output - 1) // self.chunk_tokens)

    def publish(self, request: Request, first: int, stop: int) -> None:
        for chunk in request.given.chunk_ids[first:stop]:
            assert chunk not in request.references
            request.references.append(chunk)
            request.blocks -= self.chunk_blocks
            assert request.blocks >= 0
            if chunk in self.entries:
                self.happened["dedup"] += 1
            else:
                self.become_entry(chunk)

    def become_entry(self, chunk: int) -> None:
        self.entries.append(chunk)
        if self.spec.write == "through":
            for tier in self.tiers:
                tier.store(chunk)

    def drop_references(self, request: Request, holders: Sequence[Request]) -> None:
        """Last chunk first; an entry that loses its last reference becomes the most recently used."""
        while request.references:
            chunk = request.references.pop()
            if chunk not in self.referenced(holders):
                self.entries.remove(chunk)
                self.entries.append(chunk)

    def do_not_keep(self, request: Request, holders: Sequence[Request]) -> None:
        """A request has finished, its references are dropped: see what it says about its chunks."""
        keep = request.given.keep
        assert keep in ("keep", "drop", "offload")
        if not self.spec.cached or keep == "keep":
            return
        for chunk in reversed(request.given.chunk_ids[: self.chunks_at_finish(request)]):
            if chunk in self.unreferenced(holders):
                self.happened[keep] += 1
                if keep == "offload" and self.tiers:
                    self.tiers[0].store(chunk)
                self.entries.remove(chunk)

    # -- room

    def make_room(self, free_blocks: int, need: int, holders: Sequence[Request]) -> None:
        """After the admissions of a plan: `free_blocks` counts entries without reference as free."""
        room = free_blocks - need
        assert room >= 0
        if self.chunk_blocks * len(self.unreferenced(holders)) > room:
            goal = max(0, room - self.spec.eviction_blocks)
            while self.chunk_blocks * len(self.unreferenced(holders)) > goal:
                self.evict(self.unreferenced(holders)[0])
        assert self.chunk_blocks * len(self.unreferenced(holders)) <= room

    def evict(self, chunk: int) -> None:
        self.happened["eviction"] += 1
        self.entries.remove(chunk)
        if self.spec.write == "back" and self.tiers:
            self.happened["write back"] += 1
            self.tiers[0].store(chunk)
