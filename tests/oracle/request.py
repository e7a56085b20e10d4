"""A request while it is served."""

from dataclasses import dataclass

from .records import RequestOutcome


@dataclass(eq=False)
class Request:
    """One request: where it is in its pipeline, and how far the LLM stage has got with it."""

    index: int
    query: int
    prompt: int
    output: int
    outcome: RequestOutcome
    stage: int = 0  # the stage it is at, or on its way to; past the last one when it is done
    joined_ps: int = -1  # when it joined the queue of the service client it is at
    generated: int = 0
    prefilled: int = 0
    context: int = 0
    needs_prefill: bool = True  # False while all its KV is stored: decoding, or after a hand-over
    blocks: int = 0
    last_token_ps: int = -1

    @property
    def target(self) -> int:
        """Tokens to prefill, counted from its last admission."""
        return self.prompt + self.generated

    @property
    def tokens_to_prefill(self) -> int:
        return self.target - self.prefilled if self.needs_prefill else 0
