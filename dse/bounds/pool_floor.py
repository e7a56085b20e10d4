"""What one pool can do at best for requests: least times of each alone, and least work of each in any company."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from dse.bounds.amortised import Prices, best_prices, prompt_price
from dse.bounds.demand import fullest_s, largest_sum
from dse.bounds.draws import speculative_iterations
from dse.bounds.lengths import Lengths
from dse.bounds.step_floor import KNOTS, Client, StepFloor, client_of, step_floor
from simulator.kernel.layout import COEFFICIENT_SHIFT
from simulator.performance.power import PowerShares, shares_of
from simulator.performance.price import pool_usd_per_hour
from simulator.spec.deployment import Pool
from simulator.workload import PS_PER_S

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

FIXED_POINT: Final = 1 << COEFFICIENT_SHIFT


@dataclass(frozen=True, eq=False)
class PoolFloor:
    """Floors of a pool for requests of some lengths; arrays have the shape (n,).

    What a request cannot beat here wherever it comes from and whatever else is served. A request that the pool can
    never hold has floors all the same: :attr:`holds` says which to look at.
    """

    client: Client
    lengths: Lengths
    seed: int | None = None

    @property
    def pool(self) -> Pool:
        """The pool, reduced to one client."""
        return self.client.pool

    @property
    def request_s(self) -> float:
        """Time of a request's way to the engine and back, seconds."""
        return self.client.request_s

    @property
    def kv_blocks(self) -> int:
        """KV blocks of a client."""
        return self.client.total_blocks

    @property
    def usd_per_hour(self) -> float:
        """Price of a client."""
        return pool_usd_per_hour(self.pool)

    @property
    def accelerators(self) -> int:
        """Accelerators of a client."""
        return self.pool.accelerators_per_client

    @property
    def idle_w(self) -> float:
        """Power of a client that does nothing."""
        return sum(count * chip.idle_w for chip, count in self.client.plan.engine.hardware)

    @property
    def dynamic_w(self) -> float:
        """Power that a client draws more at full load; 0 if stages differ, whose shares of the work are not known."""
        if self.pool.mixed:
            return 0.0
        return sum(count * chip.tdp_w for chip, count in self.client.plan.engine.hardware) - self.idle_w

    # -- who can be held

    @cached_property
    def admits(self) -> Flags:
        """Which prompts are of a length that is sent here."""
        prompt = self.lengths.prompt_tokens
        return np.asarray((prompt >= self.client.min_prompt) & (prompt <= self.client.max_prompt))

    @cached_property
    def holds_prompt(self) -> Flags:
        """Which prompts a client could hold alone, the answer elsewhere."""
        prompt = self.lengths.prompt_tokens
        return self.client.fits(prompt, self.client.fixed_blocks(prompt))

    @cached_property
    def holds_answer(self) -> Flags:
        """Which requests a client could hold to their end."""
        context = self.lengths.context_tokens
        # Who stays on a prefill client holds there what it took for its prompt.
        here = self.lengths.prompt_tokens if self.pool.role == "prefill" else context
        return self.client.fits(context, self.client.fixed_blocks(here))

    @cached_property
    def holds(self) -> Flags:
        """Which requests a client can take: with their answer, or a prefill client their prompt."""
        return self.admits & (self.holds_prompt if self.pool.role == "prefill" else self.holds_answer)

    # -- steps

    @cached_property
    def steps(self) -> StepFloor:
        """Floors of its steps."""
        client = self.client
        most = max(client.token_budget, client.max_batch * (1 + client.draft)) + client.draft
        if client.policy != "chunked":
            most = max(most, self.lengths.longest_tokens)
        # Few different ones, so that floors are kept from pool to pool.
        return step_floor(client, 1 << (most - 1).bit_length() if most > 2048 else 2048)

    @property
    def _most_chunk(self) -> int | None:
        return self.client.token_budget if self.client.policy == "chunked" else None

    @cached_property
    def can_preempt(self) -> bool:
        """Whether KV blocks may run out while requests decode, so that some are evicted and read again."""
        client, longest = self.client, self.lengths.longest_tokens
        if client.policy == "static":
            return False
        if self.pool.role == "prefill":
            # Those on their way to a decode client hold blocks, too.
            return True
        context = np.array([longest])
        if self.lengths.numbers is not None:
            # What is handed over is not asked for the length of its prompt.
            context = self.lengths.context_tokens[self.holds_answer]
        blocks = -(-context // client.block_tokens) + client.fixed_blocks(context)
        if self.lengths.numbers is None:
            # Representatives do not say how long the others are.
            return bool(min(client.max_batch, self.lengths.count) * int(blocks[0]) > client.total_blocks)
        return largest_sum(blocks, client.max_batch) > client.total_blocks

    @cached_property
    def computed_tokens(self) -> Integers:
        """Least tokens of each prompt that are computed: a prefix cache spares what others share."""
        spared = self.lengths.reused_tokens if self.pool.prefix_cache else 0
        return np.asarray(self.lengths.prompt_tokens - spared)

    @cached_property
    def _computed_again(self) -> Integers:
        """Least tokens that are computed when a request is read again with one token of its answer."""
        spared = self.lengths.known_tokens if self.pool.prefix_cache else 0
        return np.asarray(self.lengths.prompt_tokens + 1 - spared)

    def _prompt_attention_ps(self, prompt: Integers, computed: Integers) -> Floats:
        """Return the least attention time of the last ``computed`` tokens of prompts, before rounding."""
        client = self.client
        length, last = prompt.astype(np.float64), computed.astype(np.float64)
        time = client.prefill_pair * (length * last - last * (last - 1) / 2)
        if client.policy == "chunked":
            # A chunk that begins behind others reads their KV, however short it is: c · max(x · pair, read) with
            # x ≤ chunk. The sum of c · x over chunks of at most that size is least if all are that long.
            extra = max(0.0, client.prefill_read / client.token_budget - client.prefill_pair)
            if extra:
                # Concave in what is computed, which may be more than the least: least at one of the ends.
                least = length * last - last * (last + client.token_budget) / 2
                time += extra * np.maximum(0.0, np.minimum(least, length * (length - client.token_budget) / 2))
        if client.window_pair:
            time += client.window_pair * (
                _pairs(length, client.window_tokens) - _pairs(length - last, client.window_tokens)
            )
        return time / FIXED_POINT

    # -- each alone

    @cached_property
    def prefill_s(self) -> Floats:
        """Least time from admission to the first token, seconds."""
        return self._prefill_ps(self.lengths.prompt_tokens, self.computed_tokens) * self._s_per_ps

    @property
    def _s_per_ps(self) -> float:
        return self.client.pace / PS_PER_S

    def _prefill_ps(self, prompt: Integers, computed: Integers) -> Floats:
        tokens = computed.astype(np.float64)
        return self.steps.prefill(tokens, self._most_chunk) + self._prompt_attention_ps(prompt, computed)

    @cached_property
    def _again_ps(self) -> Floats | None:
        """Least time in which a request that is read again gets its next token; None if none ever is."""
        return self._prefill_ps(self.lengths.prompt_tokens + 1, self._computed_again) if self.can_preempt else None

    @cached_property
    def decode_iterations(self) -> Integers:
        """Least steps from the first to the last token: a step emits one token, with speculation 1 + draft at most.

        With a seed the draws say how many tokens each step emits; not if requests may be read again, which shifts them.
        """
        client = self.client
        if client.draft and self.seed is not None and self.lengths.numbers is not None and not self.can_preempt:
            return speculative_iterations(self.lengths, client.thresholds, self.seed)
        return np.asarray(-(-self.lengths.later_tokens // (1 + client.draft)))

    @cached_property
    def decode_s(self) -> Floats:
        """Least time from the first token to the last, hand-over apart, seconds."""
        return self._decoding(self.steps.decode_step, 0.0, self._again_ps) * self._s_per_ps

    @cached_property
    def gap_s(self) -> Floats:
        """Least time between two tokens that do not come together, seconds."""
        first = (
            self.steps.decode_step
            + self._window_ps
            + self.client.attention_ps * (self.lengths.prompt_tokens + (1.0 + self.client.draft))
        )
        return (first if self._again_ps is None else np.minimum(first, self._again_ps)) * self._s_per_ps

    @cached_property
    def _window_ps(self) -> Floats:
        seen = self.lengths.prompt_tokens + self.lengths.output_tokens // 2
        return np.asarray(self.client.window_ps * np.minimum(self.client.window_tokens, seen).astype(np.float64))

    def _decoding(self, base_ps: float | Floats, block_ps: float, again_ps: Floats | None) -> Floats:
        """Return the least sum over the tokens after the first, picoseconds.

        A step costs ``base_ps``, attention over the context, and ``block_ps`` for each KV block held. A token that
        comes when a request is read again costs at least ``again_ps``.
        """
        client, lengths = self.client, self.lengths
        draft = client.draft
        steps = self.decode_iterations.astype(np.float64)
        base = base_ps + self._window_ps
        slope = float(client.attention_ps)
        if block_ps:
            base = base + block_ps * self._fixed_per_decode
            slope += block_ps * self._blocks_per_token
        shortest = lengths.prompt_tokens + (1.0 + draft)
        if draft == 0:
            contexts = lengths.later_contexts
        else:
            # Of any steps that lead to the end, the t-th from the end has at most t · (1 + draft) tokens to go.
            later = lengths.later_tokens.astype(np.float64)
            before = np.maximum(np.ceil(later / (1 + draft)) - 1, 0)
            contexts = steps * shortest + before * later - (1 + draft) * before * (before + 1) / 2
        whole = steps * base + slope * contexts
        if again_ps is None:
            return whole
        longest = lengths.context_tokens + draft
        cheaper = base + slope * longest > again_ps
        if not cheaper.any():
            return whole
        return np.where(cheaper, steps * np.minimum(base + slope * shortest, again_ps), whole)

    # -- work

    @cached_property
    def _blocks_per_token(self) -> float:
        return 0.0 if self.client.policy == "static" else 1.0 / self.client.block_tokens

    @cached_property
    def _fixed_per_decode(self) -> Floats:
        """Blocks that a decoding request holds for itself, besides those that its context fills."""
        client, lengths = self.client, self.lengths
        here = lengths.prompt_tokens if self.pool.role == "prefill" else lengths.context_tokens
        fixed = client.fixed_blocks(here).astype(np.float64)
        if client.policy == "static":
            return fixed + -(-lengths.context_tokens // client.block_tokens)
        fixed -= client.draft / client.block_tokens
        if self.pool.prefix_cache:
            fixed -= lengths.reused_tokens / client.block_tokens
        return fixed

    @cached_property
    def _block_decodes(self) -> Floats:
        """KV blocks held, summed over a request's steps."""
        held = self._fixed_per_decode * self.decode_iterations
        if self._blocks_per_token:
            held += self._decoding_contexts * self._blocks_per_token
        return held

    @cached_property
    def _decoding_contexts(self) -> Floats:
        if self.client.draft == 0:
            return self.lengths.later_contexts
        return self.decode_iterations * (self.lengths.prompt_tokens + 1.0)

    def _most_decodes(self) -> int:
        """Return the most requests that can decode in one step."""
        least = float((self._fixed_per_decode + (self.lengths.prompt_tokens + 1) * self._blocks_per_token).min())
        allowed = self.client.total_blocks / least if least > 0 else np.inf
        return int(max(1, min(self.client.max_batch, allowed)))

    def prices(self, prompts: bool, decodes: bool) -> Prices:
        """Return the prices of work that bound best the time of all prompts, all decodes, or both together.

        Parameters
        ----------
        prompts, decodes
            Whether the time of that work counts.
        """
        lengths, held = self.lengths, np.maximum(self._block_decodes, 0.0)
        return best_prices(
            self.steps,
            lengths.total(self.computed_tokens) if prompts else 0.0,
            lengths.total(self.decode_iterations) if decodes else 0.0,
            lengths.total(held) if decodes else 0.0,
            self._most_decodes(),
            lengths.total(self._batch_share * self.decode_iterations) if decodes else 0.0,
        )

    @cached_property
    def _batch_share(self) -> Floats:
        """Share that the prompt of each request has of the token budget, which limits static batches; 0 for others.

        All of a static batch are admitted in one step: one prompt of any length, or several within the token budget.
        So whoever decodes together there has at most one whole share. A decode client is given no prompts.
        """
        if self.client.policy != "static" or self.pool.role == "decode":
            return np.zeros(len(self.lengths))
        return np.minimum(1.0, self.lengths.prompt_tokens / self.client.token_budget)

    @cached_property
    def prefill_work_s(self) -> Floats:
        """Least busy time that each prompt costs a client; not to be added to :attr:`decode_work_s`."""
        return self._prompt_work_ps(prompt_price(self.steps)) * self._s_per_ps

    @cached_property
    def decode_work_s(self) -> Floats:
        """Least busy time that the tokens after the first cost a client; not to be added to :attr:`prefill_work_s`."""
        work = self._decode_work_ps(self.prices(prompts=False, decodes=True))
        if self.can_preempt:
            # Prices at which reading again costs something, too.
            other = self._decode_work_ps(self.prices(prompts=True, decodes=True))
            work = max(work, other, key=self.lengths.total)
        return work * self._s_per_ps

    @cached_property
    def work_s(self) -> Floats:
        """Least busy time that each request costs a client that serves it from prompt to end."""
        prompt, answer = self.parts_of_work_s
        return prompt + answer

    @cached_property
    def parts_of_work_s(self) -> tuple[Floats, Floats]:
        """Least busy time of a prompt and of what follows, at prices that hold for both together."""
        prices = self.prices(prompts=True, decodes=True)
        prompt, answer = self._prompt_work_ps(prices.prompt_token), self._decode_work_ps(prices)
        return prompt * self._s_per_ps, answer * self._s_per_ps

    @cached_property
    def prompt_blocks(self) -> Floats:
        """Least KV blocks that a request holds for itself from its first token on."""
        own = self.lengths.prompt_tokens - (self.lengths.reused_tokens if self.pool.prefix_cache else 0)
        return (-(-own // self.client.block_tokens) + self.client.state_blocks).astype(np.float64)

    def most_open_s(self, of_s: Floats, clients: int, rows: Flags | Integers) -> float:
        """Return the most of some work that is open where requests have their first token and not their last.

        Where :attr:`keeps_order`: when the last of them was admitted, all were in the batch with their prompts' blocks.

        Parameters
        ----------
        of_s
            Work of each after its first token, shape (n,).
        clients
            Clients that hold them.
        rows
            Which requests may be there.
        """
        of_s, blocks = of_s[rows], self.prompt_blocks[rows]
        places = largest_sum(of_s, clients * self.client.max_batch)
        return min(places, fullest_s(of_s, blocks, float(clients * self.client.total_blocks)))

    @property
    def keeps_order(self) -> bool:
        """Whether no more requests have their first token, but not their last, than a batch holds.

        True where nobody is evicted, and where the queue is first come, first served: who is evicted waits at its
        front, before all who were never admitted.
        """
        return not self.can_preempt or self.pool.batching.order == "fcfs"

    # -- energy

    @cached_property
    def _drawn_by_token_s(self) -> float:
        """Least time at full dynamic power that a token adds to a step by arithmetic and memory traffic."""
        shares, linear = self._shares, self.client.plan.cost.linear
        drawn = shares.compute * linear.compute_s + shares.memory * linear.memory_s
        # Steps are counted at the knot at or before their tokens.
        most = np.append(KNOTS[1:] - 1, self.steps.most_tokens).clip(1)
        inside = self.steps.most_tokens >= KNOTS
        inside[0] = False
        # Beyond the table all are counted at the last knot but one.
        each = drawn[:-1] / most[:-1]
        each[-1] = drawn[-2] / max(float(KNOTS[-1]), self.steps.most_tokens)
        return float(each[inside[:-1]].min())

    @property
    def _shares(self) -> PowerShares:
        return shares_of(self.client.plan.engine.accelerator)

    @cached_property
    def _prefill_drawn_s(self) -> Floats:
        pairs = self._pairs_computed * (self.client.plan.cost.prefill_pair_s * self._shares.compute)
        return np.asarray(self.computed_tokens * self._drawn_by_token_s + pairs)

    def prefill_power_s(self, busy_s: Floats) -> Floats:
        """Return the least time at full :attr:`dynamic_w` of prompts that keep a client busy for so long."""
        return self._power_s(busy_s, self._prefill_drawn_s)

    def decode_power_s(self, busy_s: Floats) -> Floats:
        """Return the least time at full dynamic power of what follows the first tokens."""
        return self._power_s(busy_s, self._decode_drawn_s)

    def power_s(self, busy_s: Floats) -> Floats:
        """Return the least time at full dynamic power of requests that are served from prompt to end."""
        return self._power_s(busy_s, self._prefill_drawn_s + self._decode_drawn_s)

    @cached_property
    def _pairs_computed(self) -> Floats:
        length, last = self.lengths.prompt_tokens.astype(np.float64), self.computed_tokens.astype(np.float64)
        return length * last - last * (last - 1) / 2

    @cached_property
    def _decode_drawn_s(self) -> Floats:
        steps = self.decode_iterations.astype(np.float64)
        tokens = steps * (1 + self.client.draft)
        if self.can_preempt:
            # A token may come when a request is read again, then at least one token is computed.
            return np.asarray(steps * self._drawn_by_token_s)
        shares, cost = self._shares, self.client.plan.cost
        context = shares.compute * cost.decode_compute_s + shares.memory * cost.decode_memory_s
        each = shares.compute * float(cost.sequences.compute_s[1])
        emitted = self.lengths.later_tokens
        return np.asarray(tokens * self._drawn_by_token_s + self._decoding_contexts * context + emitted * each)

    def _power_s(self, busy_s: Floats, drawn_s: Floats) -> Floats:
        return np.minimum(busy_s, self._shares.active * busy_s + drawn_s)

    def _prompt_work_ps(self, price: float) -> Floats:
        computed = self.computed_tokens
        return np.asarray(price * computed + self._prompt_attention_ps(self.lengths.prompt_tokens, computed))

    def _decode_work_ps(self, prices: Prices) -> Floats:
        again: Floats | None = None
        if self.can_preempt:
            computed = self._computed_again
            attention = self._prompt_attention_ps(self.lengths.prompt_tokens + 1, computed)
            again = np.asarray(prices.prompt_token * computed + attention)
        return self._decoding(prices.decode + prices.batch * self._batch_share, prices.block, again)


def _pairs(tokens: Floats, window: int) -> Floats:
    """Return the (query, key) pairs of the first tokens of a prompt if each sees at most a window."""
    inside = np.minimum(tokens, window)
    return np.asarray(inside * (inside + 1) / 2 + (tokens - inside) * window)


def pool_floor(pool: Pool, lengths: Lengths, seed: int | None = None) -> PoolFloor:
    """Return the floors of a pool for requests of some lengths; pools that differ in ``clients`` share them.

    Parameters
    ----------
    pool
        The pool.
    lengths
        Of requests, or of representatives.
    seed
        Of the draws, where they are known: it tells how many drafted tokens are accepted.

    Raises
    ------
    SpecError
        If a name is unknown, or the model cannot be sharded in this way or does not fit.
    """
    client = client_of(pool)
    return _pool_floor(client, lengths, seed if client.draft else None)


@lru_cache(maxsize=64)
def _pool_floor(client: Client, lengths: Lengths, seed: int | None) -> PoolFloor:
    return PoolFloor(client, lengths, seed)
