"""What many designs cannot beat: floors of latencies and prices, put together from those of their pools.

A design's latency has a part of the pool that reads its prompt and one of the pool that decodes. Where one pool does
both it is known for every setting of it. Else the sum of the two parts is taken on cells of requests, each represented
by its shortest prompt and its shortest answer, so that it stays a floor. Whatever is left out here (hand-overs,
waiting) only adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dse.bounds import Lengths, PoolFloor, pool_floor
from dse.screening.pool_settings import Floats, PoolSettings
from simulator.metrics import percentile

Booleans = npt.NDArray[np.bool_]

CELLS_A_SIDE = 24
"""Cells by length of prompt, and of answer within each; a floor of a sum is a hundredth or two lower for it."""
LATE_ROWS = 512
"""Last arrivals among which the one that ends last is looked for."""
GROUPS = 64
"""Groups of neighbouring arrivals between which work is counted."""


@dataclass(frozen=True)
class Wanted:
    """A percentile of a latency (its mean: ``percent`` None) of which floors are wanted."""

    metric: str
    percent: float | None

    def of(self, values: Floats) -> float:
        """Return it of some values, all of which count the same."""
        if not len(values):
            return 0.0
        return float(values.mean()) if self.percent is None else percentile(values, self.percent)

    def late(self, requests: int) -> int:
        """Return how many requests may be beyond it; -1 for a mean."""
        if self.percent is None:
            return -1
        return requests - max(1, int(np.ceil(requests * self.percent / 100 - 1e-9)))


@dataclass(frozen=True)
class Traffic:
    """The requests of an LLM stage; arrays have the shape (requests,) in order of arrival.

    Attributes
    ----------
    lengths, arrival_s
        Of each; 0 for those that follow others.
    before_s, after_s
        Least time in services before and behind the LLM.
    follows
        Which follow others, so that nobody knows when they arrive.
    others_s
        Least end-to-end latencies of requests that pass services alone, shape (others,).
    """

    lengths: Lengths
    arrival_s: Floats
    before_s: Floats
    after_s: Floats
    follows: Booleans
    others_s: Floats

    @cached_property
    def several(self) -> Booleans:
        """Which have a time per output token."""
        return np.asarray(self.lengths.output_tokens > 1)

    @cached_property
    def groups(self) -> npt.NDArray[np.intp]:
        """First request of each group of neighbouring arrivals, shape (groups,)."""
        count = len(self.arrival_s)
        return np.unique(np.linspace(0, count, min(GROUPS, count), endpoint=False).astype(np.intp))

    @property
    def weights(self) -> Floats:
        """Requests in each of the cells, shape (cells,)."""
        weights = self.cells.weights
        assert weights is not None
        return weights

    @cached_property
    def cells(self) -> Lengths:
        """Groups of nearly equal size, by prompt and within those by answer, each by what is least in it."""
        lengths, sizes = self.lengths, []
        # Of a prompt that others share, and of one read again, at least so much is computed.
        each = (
            lengths.prompt_tokens,
            lengths.output_tokens,
            lengths.prompt_tokens - lengths.reused_tokens,
            lengths.prompt_tokens - lengths.known_tokens,
        )
        least: list[list[int]] = []
        by_prompt = np.argsort(self.lengths.prompt_tokens, kind="stable")
        for strip in np.array_split(by_prompt, CELLS_A_SIDE):
            by_output = strip[np.argsort(self.lengths.output_tokens[strip], kind="stable")]
            for cell in np.array_split(by_output, CELLS_A_SIDE):
                if len(cell):
                    least.append([int(values[cell].min()) for values in each])
                    sizes.append(len(cell))
        prompt, output, new, new_again = np.array(least, dtype=np.int64).reshape(-1, len(each)).T
        cells = Lengths.of(prompt, output, weights=sizes, longest_tokens=lengths.longest_tokens)
        return replace(cells, reused_tokens=prompt - new, known_tokens=prompt - new_again)


class PoolFloors:
    """Floors of the settings of a pool, each worked out once.

    Attributes
    ----------
    whole
        Floor of what is wanted, as far as the pool takes part in it; and the least time per output token of any
        request; shape (settings, wanted + 1).
    prompt_s, answer_s
        Least time of its part of the prompt and of the answer in each cell, infinite where it cannot be held,
        shape (settings, cells).
    end_s
        Least time at which its part of the last request ends, shape (settings,).
    work_s, prompt_work_s
        Least work of its part of all requests, and of their prompts, by groups of arrivals, shape (settings, groups).
    dynamic_j
        Least energy of its part of all requests beside that of devices at rest, shape (settings,).
    holds_all
        Whether it can hold its part of every request, shape (settings,).
    spared_s
        Work, or that of prompts for TTFT, of the requests that a wanted percentile leaves out,
        shape (settings, wanted).
    """

    def __init__(self, settings: PoolSettings, traffic: Traffic, wanted: Sequence[Wanted]) -> None:
        self._settings, self._traffic, self._wanted = settings, traffic, wanted
        self._alike: dict[tuple[object, ...], tuple[Floats, Floats, Floats, float]] = {}
        cells, groups = len(traffic.cells), len(traffic.groups)
        self.whole = np.zeros((0, len(wanted) + 1))
        self.prompt_s, self.answer_s = np.zeros((0, cells)), np.zeros((0, cells))
        self.end_s, self.dynamic_j = np.zeros(0), np.zeros(0)
        self.holds_all = np.zeros(0, dtype=np.bool_)
        self.work_s, self.prompt_work_s = np.zeros((0, groups)), np.zeros((0, groups))
        self.spared_s = np.zeros((0, len(wanted)))

    def extend(self) -> None:
        """Work out the settings that came in since the last time."""
        first, last = len(self.whole), len(self._settings.plans)
        names = ("whole", "prompt_s", "answer_s", "end_s", "dynamic_j", "work_s", "prompt_work_s", "spared_s")
        for name in (*names, "holds_all") if last > first else ():
            table = getattr(self, name)
            setattr(self, name, np.concatenate([table, np.zeros((last - first, *table.shape[1:]), table.dtype)]))
        for row in range(first, last):
            plan = self._settings.plans[row]
            if plan:
                floor = pool_floor(plan.pool, self._traffic.lengths)
                self.whole[row], self.prompt_s[row], self.answer_s[row], self.end_s[row] = self._of(floor)
                self._count_work(row, floor)

    def _of(self, floor: PoolFloor) -> tuple[Floats, Floats, Floats, float]:
        """Return the floors of latencies, which many settings have in common."""
        client = floor.client
        key = (
            client.plan.engine,
            client.policy,
            client.token_budget if client.policy == "chunked" else 0,
            client.max_batch if floor.can_preempt else 0,
            client.total_blocks,
            client.block_tokens,
            client.draft,
            client.pace,
            (client.min_prompt, client.max_prompt),
            floor.pool.role,
            floor.pool.prefix_cache,
        )
        if key not in self._alike:
            self._alike[key] = self._latencies(floor)
        return self._alike[key]

    def _latencies(self, floor: PoolFloor) -> tuple[Floats, Floats, Floats, float]:
        traffic, role = self._traffic, floor.pool.role
        prompt_s, answer_s = _parts(floor)
        first_s = np.where(floor.holds | self._pass_by(role), prompt_s, np.inf)
        whole_s = first_s + answer_s
        way_s = 0.0 if role == "decode" else floor.request_s
        each: dict[str, Floats] = {
            "ttft": first_s + traffic.before_s + way_s,
            "e2e": np.concatenate([whole_s + traffic.before_s + traffic.after_s + way_s, traffic.others_s]),
            "tpot": np.where(floor.holds, answer_s / np.maximum(traffic.lengths.later_tokens, 1), np.inf)[
                traffic.several
            ],
        }
        whole = [wanted.of(each[wanted.metric]) for wanted in self._wanted]
        late = slice(-LATE_ROWS, None)
        ends = (traffic.arrival_s + whole_s + traffic.before_s + traffic.after_s)[late]
        on_cells = pool_floor(floor.pool, traffic.cells)
        # A cell whose least request cannot be held holds none; whom a pool admits depends on more than that.
        can = on_cells.holds_prompt if role == "prefill" else on_cells.holds_answer
        can = can | ((traffic.cells.output_tokens == 1) & (role == "decode"))
        cell_prompt_s, cell_answer_s = _parts(on_cells)
        return (
            np.array([*whole, float(each["tpot"].min(initial=np.inf))]),
            np.where(can, cell_prompt_s + way_s, np.inf),
            cell_answer_s,
            float(np.where(np.isfinite(ends), ends, traffic.arrival_s[late]).max()),
        )

    def _pass_by(self, role: str) -> Booleans:
        """Tell which requests never come to a pool, whether it could hold them or not: to decode, a single token."""
        return np.asarray((self._traffic.lengths.output_tokens == 1) & (role == "decode"))

    def _count_work(self, row: int, floor: PoolFloor) -> None:
        traffic, role = self._traffic, floor.pool.role
        known = floor.holds & ~traffic.follows
        prompt_s = np.where(known, floor.prefill_work_s, 0.0) if role != "decode" else np.zeros(len(known))
        if role == "both":
            work_s, power_s = floor.work_s, floor.power_s(floor.work_s)
        elif role == "prefill":
            work_s, power_s = floor.prefill_work_s, floor.prefill_power_s(floor.prefill_work_s)
        else:
            work_s, power_s = floor.decode_work_s, floor.decode_power_s(floor.decode_work_s)
        whole_s = np.where(known, work_s, 0.0)
        self.holds_all[row] = (floor.holds | self._pass_by(role)).all()
        # Who follows somebody that is rejected never arrives.
        served = floor.holds if self.holds_all[row] else known
        self.dynamic_j[row] = float(power_s[served].sum()) * floor.dynamic_w
        self.work_s[row] = np.add.reduceat(whole_s, traffic.groups)
        self.prompt_work_s[row] = np.add.reduceat(prompt_s, traffic.groups)
        for column, wanted in enumerate(self._wanted):
            work_s = prompt_s if wanted.metric == "ttft" else whole_s
            counted = len(known) + (len(traffic.others_s) if wanted.metric == "e2e" else 0)
            late = min(wanted.late(counted), len(known)) if wanted.metric != "tpot" else -1
            spared = np.partition(work_s, len(work_s) - late)[len(work_s) - late :].sum() if late > 0 else 0.0
            self.spared_s[row, column] = spared if late >= 0 else np.inf

    def waits_s(self, setting: npt.NDArray[np.intp], clients: Floats) -> Floats:
        """Return what all that arrives together leaves for each latency wanted, shape (n, wanted).

        What arrives in some groups of arrivals, but for the requests that may be late, must be done in the time from
        the first of them to the last and the wanted latency: the demand bound of :mod:`dse.bounds.demand`, between
        groups only.
        """
        traffic = self._traffic
        first_s = traffic.arrival_s[traffic.groups]
        last_s = np.append(first_s[1:], traffic.arrival_s[-1])
        found = np.zeros((len(setting), len(self._wanted)))
        if traffic.follows.any():
            return found
        for name, columns in (
            ("prompt_work_s", [i for i, w in enumerate(self._wanted) if w.metric == "ttft"]),
            ("work_s", [i for i, w in enumerate(self._wanted) if w.metric == "e2e"]),
        ):
            if not columns:
                continue
            work_s = getattr(self, name)[setting] / clients[:, None]
            done_s = np.cumsum(work_s, axis=1)
            begins_s = np.maximum.accumulate(first_s - done_s + work_s, axis=1)
            behind_s = (done_s - last_s + begins_s).max(axis=1)
            for column in columns:
                found[:, column] = np.maximum(behind_s - self.spared_s[setting, column] / clients, 0.0)
        return found


def _parts(floor: PoolFloor) -> tuple[Floats, Floats]:
    """Return the least time of a prompt and of an answer in a pool, 0 for what it does not do."""
    nothing = np.zeros(len(floor.lengths))
    role = floor.pool.role
    return (
        nothing if role == "decode" else floor.prefill_s,
        nothing if role == "prefill" else floor.decode_s,
    )


def on_cells(values: Floats, weights: Floats, wanted: Wanted) -> Floats:
    """Return percentiles or means of values that stand for several requests each.

    Parameters
    ----------
    values
        Of each design and cell, shape (designs, cells).
    weights
        Requests in each cell, shape (cells,).
    wanted
        Percentile or mean.

    Returns
    -------
    ndarray, shape (designs,)
    """
    if wanted.percent is None:
        return np.asarray(values @ weights / weights.sum())
    order = np.argsort(values, axis=1)
    reached = np.cumsum(weights[order], axis=1)
    rank = np.ceil(weights.sum() * wanted.percent / 100 - 1e-9)
    place = np.argmax(reached >= max(rank, 1.0), axis=1)
    return np.asarray(np.take_along_axis(values, order, axis=1)[np.arange(len(values)), place])
