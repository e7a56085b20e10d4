"""A request while it is served."""

from dataclasses import dataclass, field

from .records import OracleRequest, RequestOutcome


@dataclass(eq=False)
class Request:
    """One request: where it is on its way, and how far the LLM stage has got with it."""

    index: int
    given: OracleRequest
    way: tuple[int, ...]  # the stages that it passes
    outcome: RequestOutcome
    needs: int  # how many others must still be done before it arrives
    deadline_ps: int
    former: int = -1  # the client on which the request that released it finished
    place: int = 0  # of its way: where it is, or on its way to; past the last one when it is done
    joined_ps: int = -1  # when it first joined the queue of the client it is at
    rank: int = 0  # in the queue that it joined last
    generated: int = 0
    prefilled: int = 0
    spared: int = 0  # of these, what was not computed as it was covered at the last admission
    context: int = 0
    needs_prefill: bool = True  # False while all its KV is stored: decoding, swapped, or after a hand-over
    swapped: bool = False
    stays: bool = False  # it is decoded on the prefill client that lends itself
    blocks: int = 0  # its private ones, without the fixed ones
    fixed: int = 0
    references: list[int] = field(default_factory=list)  # the chunks it references in the cache, in order
    fetch_from: int = 0  # tiers brought the chunks from this one ...
    fetched: int = 0  # ... to this one (not included)
    next_tier: int = 0
    last_token_ps: int = -1

    @property
    def prompt(self) -> int:
        return self.given.prompt_tokens

    @property
    def output(self) -> int:
        return self.given.output_tokens

    @property
    def query(self) -> int:
        return self.prompt if self.given.query_tokens is None else self.given.query_tokens

    @property
    def stage(self) -> int:
        """The stage it is at, or on its way to."""
        return self.way[self.place]

    @property
    def target(self) -> int:
        """Tokens to prefill, counted from its last admission."""
        return self.prompt + self.generated

    @property
    def tokens_to_prefill(self) -> int:
        return self.target - self.prefilled if self.needs_prefill else 0

    @property
    def tokens_to_generate(self) -> int:
        return self.output - self.generated

    # -- the records of its visits

    def visit(self) -> tuple[int, int, int]:
        """(reached, started, left) of the stage it is at."""
        return self.outcome.visits[self.place]

    def reach(self, now: int) -> None:
        assert self.visit() == (-1, -1, -1)
        self.outcome.visits[self.place] = (now, -1, -1)

    def start(self, now: int) -> None:
        reached, started, left = self.visit()
        assert (started, left) == (-1, -1)
        self.outcome.visits[self.place] = (reached, now, -1)

    def leave(self, now: int) -> None:
        reached, started, left = self.visit()
        assert left == -1
        self.outcome.visits[self.place] = (reached, started, now)
