"""What the pools of one LLM stage can do at best, by every path that a request may take through them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dse.bounds.lengths import Lengths
from dse.bounds.pool_floor import PoolFloor, pool_floor
from simulator.lowering.pools import hand_over_ps
from simulator.spec.deployment import Deployment
from simulator.workload import PS_PER_S

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Path:
    """From the pool that reads a prompt to the pool that ends the answer; arrays have the shape (n,).

    Attributes
    ----------
    first, last
        Places of the pools among those of the stage.
    possible
        Which requests may take it.
    first_token_s, decode_s
        Least time from reaching the stage to the first token, and from there to the last, hand-over included.
    whole_s
        Least time from reaching the stage to the last token.
    gap_s
        Least time between two tokens that do not come together.
    iterations
        Least steps from the first token to the last.
    request_s
        Way to the engine and back.
    hop_s
        Time to the next stage behind it.
    """

    first: int
    last: int
    possible: Flags
    first_token_s: Floats
    decode_s: Floats
    whole_s: Floats
    gap_s: Floats
    iterations: Integers
    request_s: float
    hop_s: float


@dataclass(frozen=True, eq=False)
class StageFloor:
    """Floors of an LLM stage.

    Attributes
    ----------
    rows
        The requests that pass it, as rows of the workload, shape (n,).
    pools, clients
        Floors of each pool, and its number of clients.
    paths
        Ways through the pools.
    served
        Which requests some client can take, shape (n,).
    lends
        Whether prefill and decode clients may help each other out.
    """

    rows: Integers
    pools: tuple[PoolFloor, ...]
    clients: tuple[int, ...]
    paths: tuple[Path, ...]
    served: Flags
    lends: bool

    def least(self, of: Callable[[Path], Floats | float]) -> Floats:
        """Return the least of a figure over the paths that a request may take; infinite for those without."""
        found = np.full(len(self.rows), np.inf)
        for path in self.paths:
            np.minimum(found, np.where(path.possible, of(path), np.inf), out=found)
        return found

    def work_of(self, path: Path) -> dict[int, Floats]:
        """Return the least busy time that a request costs each pool of a path, shape (n,).

        Where clients lend themselves, prompts alone and whole requests share steps, so that the prices of both together
        hold for all.
        """
        first, last = self.pools[path.first], self.pools[path.last]
        if path.first == path.last:
            return {path.first: first.work_s}
        if self.lends:
            return {path.first: first.parts_of_work_s[0], path.last: last.parts_of_work_s[1]}
        return {path.first: first.prefill_work_s, path.last: last.decode_work_s}

    def prompt_work_of(self, path: Path) -> dict[int, Floats]:
        """Return the least busy time up to the first token that a request costs each pool of a path, shape (n,)."""
        return {path.first: self.pools[path.first].prefill_work_s}

    @cached_property
    def dynamic_j(self) -> Floats:
        """Least energy that each request costs beside that of devices at rest, shape (n,)."""

        def along(path: Path) -> Floats:
            first, last, work = self.pools[path.first], self.pools[path.last], self.work_of(path)
            if path.first == path.last:
                return first.power_s(work[path.first]) * first.dynamic_w
            prompt = first.prefill_power_s(work[path.first]) * first.dynamic_w
            return prompt + last.decode_power_s(work[path.last]) * last.dynamic_w

        return self.least(along)

    @cached_property
    def prompt_machines(self) -> list[Floats]:
        """Work of prompts for a machine of one unit, shape (n,), by several ways to weigh the pools."""
        return self._machines(self.prompt_work_of, [frozenset(path.first for path in self.paths)])

    @cached_property
    def machines(self) -> list[Floats]:
        """Work of whole requests for a machine of one unit, shape (n,), by several ways to weigh the pools."""
        first, last = (frozenset(getattr(path, end) for path in self.paths) for end in ("first", "last"))
        return self._machines(self.work_of, list(dict.fromkeys([first, last, first | last])))

    @cached_property
    def counts_answers(self) -> bool:
        """Whether who has a first token has a place in a batch until the last, so that answers hold up prompts."""
        both = all(path.first == path.last for path in self.paths)
        return both and all(floor.pool.role == "both" and floor.keeps_order for floor in self.pools)

    @cached_property
    def answers(self) -> tuple[Floats, float]:
        """Most of the work of :attr:`machines` that comes after first tokens, and most of it that is open at a time.

        Only where it :attr:`counts_answers`.
        """
        mean = [float(floor.work_s[path.possible].mean()) if path.possible.any() else 0.0 for floor, path in self._own]
        speed = sum(count / value for count, value in zip(self.clients, mean, strict=True) if value > 0)
        found, most = np.zeros(len(self.rows)), 0.0
        for (floor, _), value in zip(self._own, mean, strict=True):
            if value > 0:
                np.maximum(found, floor.parts_of_work_s[1] / (value * speed), out=found)
        for (floor, path), value, count in zip(self._own, mean, self.clients, strict=True):
            if value > 0:
                most += floor.most_open_s(found, count, path.possible)
        return found, most

    @property
    def _own(self) -> list[tuple[PoolFloor, Path]]:
        return [(self.pools[path.first], path) for path in self.paths]

    def _machines(self, work_of: Callable[[Path], dict[int, Floats]], groups: list[frozenset[int]]) -> list[Floats]:
        """Return work at prices of the clients' time that add up to 1: what all of them together do in a second."""
        works = [work_of(path) for path in self.paths]
        found = []
        for group in groups:
            mean = {}
            for pool in group:
                own = [w[pool][path.possible] for w, path in zip(works, self.paths, strict=True) if pool in w]
                values = np.concatenate(own) if own else np.zeros(0)
                mean[pool] = float(values.mean()) if len(values) else 0.0
            mean = {pool: value for pool, value in mean.items() if value > 0}
            speed = sum(self.clients[pool] / value for pool, value in mean.items())
            if not speed:
                continue
            # A second of a client that is twice as quick is worth twice as much.
            price = {pool: 1 / value / speed for pool, value in mean.items()}
            least = np.full(len(self.rows), np.inf)
            for path, work in zip(self.paths, works, strict=True):
                own_work = np.zeros(len(self.rows))
                for pool, value in price.items():
                    if pool in work:
                        own_work += value * work[pool]
                np.minimum(least, np.where(path.possible, own_work, np.inf), out=least)
            found.append(np.where(np.isfinite(least), least, 0.0))
        return found


def stage_floor(deployment: Deployment, name: str, rows: Integers, lengths: Lengths) -> StageFloor:
    """Return the floors of an LLM stage for the requests that pass it."""
    given = [pool for pool in deployment.pools if pool.stage == name]
    pools = tuple(pool_floor(pool, lengths, deployment.seed) for pool in given)
    decoders = [number for number, pool in enumerate(given) if pool.role == "decode"]
    lending = deployment.lending
    alone = lengths.output_tokens == 1
    served = np.zeros(len(lengths), dtype=np.bool_)
    paths: list[Path] = []
    lent: list[Path] = []
    for first, floor in enumerate(pools):
        latency, per_token = hand_over_ps(floor.client.pool, deployment)
        hop_s = max(1, latency) / PS_PER_S
        role = given[first].role
        if role != "prefill":
            possible = floor.admits & floor.holds_answer
            path = _staying(first, floor, possible, hop_s)
            if role == "both":
                served |= possible
                paths.append(path)
            elif lending is not None and lending.prefill_above_tokens is not None:
                lent.append(path)
            continue
        prompt = floor.admits & floor.holds_prompt
        answered = np.zeros(len(lengths), dtype=np.bool_)
        for last in decoders:
            possible = prompt & (pools[last].holds_answer & ~alone)
            answered |= possible
            end_latency = hand_over_ps(pools[last].client.pool, deployment)[0]
            layers = floor.client.plan.engine.model.layers if deployment.link.layer_wise else 0
            paths.append(
                _handing_over(first, last, floor, pools[last], possible, latency, per_token, layers, end_latency)
            )
        served |= answered | (prompt & alone)
        stays = prompt & alone
        if lending is not None and lending.decode_above_tokens is not None and floor.client.policy != "static":
            stays |= answered & floor.holds_answer
        if stays.any():
            paths.append(_staying(first, floor, stays, hop_s))
    # Who could be served by lending alone is rejected.
    paths += [replace(path, possible=path.possible & served) for path in lent]
    return StageFloor(rows, pools, tuple(pool.clients for pool in given), tuple(paths), served, lending is not None)


def _staying(number: int, floor: PoolFloor, possible: Flags, hop_s: float) -> Path:
    whole = floor.prefill_s + floor.decode_s
    return Path(
        number,
        number,
        possible,
        floor.prefill_s,
        floor.decode_s,
        whole,
        floor.gap_s,
        floor.decode_iterations,
        floor.request_s,
        hop_s,
    )


def _handing_over(
    first: int,
    last: int,
    source: PoolFloor,
    target: PoolFloor,
    possible: Flags,
    latency_ps: int,
    ps_per_token: int,
    layers: int,
    end_latency_ps: int,
) -> Path:
    """Return the path by way of a hand-over.

    Sent layer by layer, what lay under the prefill is gone: the longer that took, the less is left. Prefill and
    transfer together last at least as long as the transfer.
    """
    transfer = source.lengths.prompt_tokens * float(ps_per_token)
    left = np.floor(transfer / layers) if layers else transfer
    # A link that is shared carries it no sooner.
    after_s = np.maximum(1.0, latency_ps + left) / PS_PER_S
    decode_s = after_s + target.decode_s
    whole_s = source.prefill_s + decode_s
    if layers:
        whole_s = np.maximum(whole_s, (latency_ps + transfer) / PS_PER_S + target.decode_s)
    hop_s = max(1, end_latency_ps) / PS_PER_S
    return Path(
        first,
        last,
        possible,
        source.prefill_s,
        decode_s,
        whole_s,
        target.gap_s,
        target.decode_iterations,
        source.request_s,
        hop_s,
    )
