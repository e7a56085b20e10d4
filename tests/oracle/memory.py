"""What a client of an LLM stage holds: the blocks of its requests and of its prefix cache."""

from collections import Counter
from collections.abc import Sequence

from .cache import PrefixCache
from .records import OracleClientSpec
from .request import Request
from .tiers import Tier


def ceil_div(a: int, b: int) -> int:
    """Smallest integer not below a / b."""
    return -(-a // b)


class Memory:
    """The requests that hold blocks of a client, and all counting of blocks."""

    def __init__(
        self, spec: OracleClientSpec, chunk_tokens: int, tiers: Sequence[Tier], happened: Counter[str]
    ) -> None:
        self.spec = spec
        self.cache = PrefixCache(spec, chunk_tokens, tiers, happened)
        self.running: list[Request] = []  # in order of admission
        self.leaving: list[Request] = []  # handed over, blocks held until the hand-over arrives

    # -- counting

    def blocks_for(self, tokens: int) -> int:
        return ceil_div(tokens, self.spec.block_tokens)

    def lasting_tokens(self, request: Request) -> int:
        """Tokens of a request whose KV will be here at its end."""
        return request.prompt if self.spec.role == "prefill" else request.prompt + request.output

    def fixed(self, request: Request) -> int:
        """The blocks of a request that do not grow."""
        in_window = min(self.lasting_tokens(request), self.spec.window_tokens)
        return self.spec.state_blocks + ceil_div(in_window * self.spec.window_share, 1024 * self.spec.block_tokens)

    def can_ever_hold(self, request: Request) -> bool:
        return self.blocks_for(self.lasting_tokens(request)) + self.fixed(request) <= self.spec.total_blocks

    def holders(self) -> list[Request]:
        return self.running + self.leaving

    def private_blocks(self) -> int:
        return sum(r.blocks + r.fixed for r in self.holders())

    def referenced_blocks(self) -> int:
        return self.cache.chunk_blocks * len(self.cache.referenced(self.holders()))

    def unreferenced_blocks(self) -> int:
        return self.cache.chunk_blocks * len(self.cache.unreferenced(self.holders()))

    def blocks_in_use(self) -> int:
        return self.private_blocks() + self.referenced_blocks()

    def free_blocks(self) -> int:
        """Entries without reference count as free."""
        return self.spec.total_blocks - self.blocks_in_use()

    def blocks_of_context(self, request: Request) -> int:
        """Blocks that hold a request's KV, its own and those it references."""
        return request.blocks + self.cache.chunk_blocks * len(request.references)

    # -- growth

    def decoding(self) -> list[Request]:
        return [r for r in self.running if not r.needs_prefill]

    def tokens_with_next_step(self, request: Request) -> int:
        """Tokens whose KV may be stored after the next decode step of a request."""
        if self.spec.draft == 0:
            return request.context + 1
        return min(request.context + 1 + self.spec.draft, request.prompt + request.output)

    def growth_of(self, request: Request) -> int:
        """The blocks that a decoding request needs for its next step."""
        if self.spec.policy == "static":
            return 0
        if self.spec.draft == 0:
            return 1 if request.context % self.spec.block_tokens == 0 else 0
        growth = self.blocks_for(self.tokens_with_next_step(request)) - request.blocks
        assert growth >= 0
        return growth

    def growth(self) -> int:
        return sum(self.growth_of(r) for r in self.decoding())

    # -- taking and freeing

    def blocks_needed(self, request: Request) -> int:
        """Blocks that must be free for the admission of a request."""
        if self.spec.policy == "static":
            return self.blocks_for(self.lasting_tokens(request)) + self.fixed(request)
        if not request.needs_prefill:
            return self.blocks_for(self.tokens_with_next_step(request)) + self.fixed(request)
        hits = request.given.chunk_ids[: self.cache.hits(request)]
        unreferenced = [chunk for chunk in hits if chunk in self.cache.unreferenced(self.holders())]
        private = self.blocks_for(request.target) - self.cache.chunk_blocks * len(hits)
        return private + self.cache.chunk_blocks * len(unreferenced) + self.fixed(request)

    def take(self, request: Request) -> None:
        """What a request takes at its admission."""
        assert request.blocks == request.fixed == 0
        assert request.references == []
        if self.spec.policy == "static":
            request.blocks = self.blocks_for(self.lasting_tokens(request))
        elif request.needs_prefill:
            request.references = list(request.given.chunk_ids[: self.cache.hits(request)])
            request.blocks = self.blocks_for(request.target) - self.cache.chunk_blocks * len(request.references)
        else:
            request.blocks = self.blocks_for(request.context)
        assert request.blocks >= 0
        request.fixed = self.fixed(request)
        self.running.append(request)

    def free(self, request: Request) -> None:
        """A request leaves: it was preempted, its KV has arrived elsewhere, or it has finished."""
        self.cache.drop_references(request, self.holders())
        holders = self.leaving if request in self.leaving else self.running
        holders.remove(request)
        request.blocks = request.fixed = 0

    def free_finished(self, request: Request) -> None:
        assert request in self.running
        self.cache.publish_answer(request)
        self.free(request)
        self.cache.do_not_keep(request, self.holders())

    # -- checking

    def check(self) -> None:
        """Everything has a place, at every time but amid a plan."""
        assert 0 <= self.blocks_in_use() <= self.spec.total_blocks
        assert self.blocks_in_use() + self.unreferenced_blocks() <= self.spec.total_blocks
        assert len(set(self.cache.entries)) == len(self.cache.entries)
        assert self.cache.referenced(self.holders()) <= set(self.cache.entries)
        assert self.spec.cached or not self.cache.entries

    def check_at_end(self) -> None:
        assert self.running == self.leaving == []
        assert self.blocks_in_use() == 0
        assert self.unreferenced_blocks() <= self.spec.total_blocks
