"""What the seconds of a step are made of: every operator of every pipeline stage, and what bounds it.

The rows are those that :func:`simulator.performance.step_cost.step_cost` adds up, taken one by one; for each pipeline
stage they add up to the step, with what the stage waits for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from simulator.catalog import base_name
from simulator.errors import SpecError
from simulator.performance.adapters import adapter_bytes
from simulator.performance.attention import attention_of
from simulator.performance.coefficients import Coefficients, coefficients_of
from simulator.performance.engine import Engine
from simulator.performance.layers import head_operators, layers, output_head, stage_operators
from simulator.performance.lookup import lookup_s
from simulator.performance.matrix_product import ACTIVATION_BYTES
from simulator.performance.operators import Operator
from simulator.performance.pipeline import Stage
from simulator.performance.speculation import draft_cost
from simulator.performance.state_space import sequence_state
from simulator.performance.step_cost import StepCost, stage_cost, step_cost

Bound = Literal["compute", "memory bandwidth", "links", "latency", "engine", "waiting"]
"""What most of a row's time goes to; latency: launches, tiles that do not fill the chip, start-ups of collectives."""

Kind = Literal["kernel", "engine", "waiting"]

LATENCY_BOUND: Final = 0.5
"""Share of the time below which no resource is said to bound a row."""

NEGLIGIBLE: Final = 1e-9
"""Share of a step below which a rest is rounding."""


@dataclass(frozen=True)
class StepLoad:
    """What one step works on.

    Attributes
    ----------
    chunks
        Prompts: for each the tokens of this step, and those of it that were computed before.
    decodes
        Requests that decode.
    context_tokens
        Tokens whose KV each of them has stored.
    """

    chunks: tuple[tuple[int, int], ...] = ()
    decodes: int = 0
    context_tokens: int = 0

    @property
    def sequences(self) -> int:
        """Requests in the step."""
        return len(self.chunks) + self.decodes

    def tokens(self, drafted: int) -> int:
        """Return the tokens of the step; a decode has one and those drafted."""
        return self.prompt_tokens + self.decodes * (1 + drafted)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of prompts."""
        return sum(tokens for tokens, _ in self.chunks)


@dataclass(frozen=True)
class Row:
    """One operator of a step on one accelerator, all layers and micro-batches together.

    Attributes
    ----------
    operator
        Its name.
    kind
        A kernel, the engine's own time, or waiting for other pipeline stages.
    seconds
        What it adds to the step.
    compute_s, memory_s, link_s
        What each resource alone would need at rates that it reaches.
    flops, moved_bytes, link_bytes
        Operations, bytes of memory and bytes sent.
    """

    operator: str
    kind: Kind
    seconds: float
    compute_s: float = 0.0
    memory_s: float = 0.0
    link_s: float = 0.0
    flops: float = 0.0
    moved_bytes: float = 0.0
    link_bytes: float = 0.0

    def __add__(self, other: Row) -> Row:
        """Return both as one row of this one's name."""
        numbers = {name: mine + getattr(other, name) for name, mine in vars(self).items() if name not in _WORDS}
        return replace(self, **numbers)

    def __mul__(self, times: float) -> Row:
        """Return the row repeated."""
        return replace(self, **{name: value * times for name, value in vars(self).items() if name not in _WORDS})

    @property
    def intensity(self) -> float | None:
        """Operations for each byte of memory; None where no memory is touched."""
        return self.flops / self.moved_bytes if self.moved_bytes > 0 else None

    @property
    def bound(self) -> Bound:
        """What most of its time goes to."""
        if self.kind != "kernel":
            return self.kind
        needs: dict[Bound, float] = {
            "compute": self.compute_s,
            "memory bandwidth": self.memory_s,
            "links": self.link_s,
        }
        name, longest = max(needs.items(), key=lambda need: need[1])
        return name if longest >= LATENCY_BOUND * self.seconds else "latency"


_WORDS: Final = ("operator", "kind")


@dataclass(frozen=True)
class StageRows:
    """The operators of one pipeline stage, in the order of a layer; their times add up to the step."""

    stage: Stage
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class StepExplanation:
    """One step, or several that follow each other, taken apart.

    Attributes
    ----------
    name
        ``prefill``, ``decode`` or ``mixed``.
    loads
        What each of the steps works on.
    seconds
        Duration of all of them.
    stages
        Pipeline stages.
    new_tokens
        Tokens that count as throughput: of the prompt, or generated (with speculation, those expected to be accepted).
    accelerators, ranks
        Accelerators of the client, and those of each pipeline stage.
    peak_flops_per_s, peak_16bit_flops_per_s, peak_bytes_per_s
        Datasheet's peaks of one accelerator: at the weights' precision, at 16 bits, of the memory.
    """

    name: str
    loads: tuple[StepLoad, ...]
    seconds: float
    stages: tuple[StageRows, ...]
    new_tokens: float
    accelerators: int
    ranks: int
    peak_flops_per_s: float
    peak_16bit_flops_per_s: float
    peak_bytes_per_s: float

    @property
    def rows(self) -> tuple[Row, ...]:
        """Rows of all stages, the mean over the stages, so that they add up to the step; largest first."""
        found: dict[str, Row] = {}
        for stage in self.stages:
            for row in stage.rows:
                each = row * (1.0 / len(self.stages))
                found[row.operator] = found[row.operator] + each if row.operator in found else each
        return tuple(sorted(found.values(), key=lambda row: -row.seconds))

    @property
    def groups(self) -> tuple[tuple[int, int, StageRows], ...]:
        """Neighbouring stages that are alike: number of the first and of the last, from 1, and what each does."""
        found: list[tuple[int, int, StageRows]] = []
        for number, stage in enumerate(self.stages, 1):
            if found and found[-1][2].rows == stage.rows:
                found[-1] = (found[-1][0], number, stage)
            else:
                found.append((number, number, stage))
        return tuple(found)

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second of the client, if it did nothing but this."""
        return self.new_tokens / self.seconds

    @property
    def flops(self) -> float:
        """Operations of the whole client."""
        return self.ranks * sum(row.flops for stage in self.stages for row in stage.rows)

    @property
    def moved_bytes(self) -> float:
        """Bytes of memory that the whole client moves."""
        return self.ranks * sum(row.moved_bytes for stage in self.stages for row in stage.rows)

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation: operations over what the datasheet's peak at the weights' precision could do."""
        return self.flops / (self.seconds * self.accelerators * self.peak_flops_per_s)

    @property
    def mbu(self) -> float:
        """Bandwidth utilisation: bytes moved over what the datasheet's bandwidth could move."""
        return self.moved_bytes / (self.seconds * self.accelerators * self.peak_bytes_per_s)

    def share(self, kind: Kind) -> float:
        """Return the share of the step that rows of a kind take."""
        return sum(row.seconds for row in self.rows if row.kind == kind) / self.seconds

    @property
    def bound(self) -> Bound:
        """What bounds the rows that take most of the step together."""
        times: dict[Bound, float] = {}
        for row in self.rows:
            times[row.bound] = times.get(row.bound, 0.0) + row.seconds
        return max(times, key=lambda name: times[name])

    @property
    def unphysical(self) -> tuple[Row, ...]:
        """Rows that do more operations than the datasheet's peak allows; data in caches may move faster than memory."""
        peak = max(self.peak_flops_per_s, self.peak_16bit_flops_per_s)
        return tuple(row for row in self.rows if row.flops > peak * row.seconds * (1 + NEGLIGIBLE))

    @property
    def faster_than_memory(self) -> tuple[Row, ...]:
        """Rows that move more bytes than the datasheet's memory bandwidth allows."""
        return tuple(row for row in self.rows if row.moved_bytes > self.peak_bytes_per_s * row.seconds * 1.0001)


def engine_coefficients(engine: Engine) -> Coefficients:
    """Return the coefficients of an engine: of its accelerator's kernels, and of its profile."""
    return coefficients_of(engine.accelerator, engine.profile, engine.accelerators, engine.kernels)


def request_seconds(engine: Engine) -> float:
    """Return a request's way to the engine and back, which is in its latency but in no step."""
    profile = engine.profile
    if profile is None:
        return 0.0
    return profile.request_us * 1e-6 * profile.host_slowdown.get(base_name(engine.accelerator.name), 1.0)


def drafted_tokens(engine: Engine) -> int:
    """Return the tokens that are drafted for each decode."""
    return engine.speculation.draft_tokens if engine.speculation else 0


def accepted_tokens(engine: Engine) -> float:
    """Return the tokens that a decode is expected to emit in a step: one, and the drafted ones that are accepted."""
    if engine.speculation is None:
        return 1.0
    return 1.0 + float(np.cumprod(engine.speculation.acceptances).sum())


def prompt_chunks(prompt_tokens: int, budget: int | None) -> tuple[tuple[int, int], ...]:
    """Return (tokens, tokens before) of the steps that read a lone prompt; a whole one where nothing is chunked."""
    size = prompt_tokens if budget is None else min(budget, prompt_tokens)
    return tuple((min(size, prompt_tokens - before), before) for before in range(0, prompt_tokens, size))


def window_pairs(chunk: int, before: int, window: int) -> float:
    """Return the (query, key) pairs of a chunk where a token sees at most ``window`` tokens, itself included."""
    growing = max(0, min(chunk, window - before))
    return growing * before + growing * (growing + 1) / 2 + (chunk - growing) * window


def steps_seconds(engine: Engine, loads: Sequence[StepLoad], c: Coefficients | None = None) -> list[float]:
    """Return the durations of some steps: the cost of docs/semantics.md, before it is rounded and tabulated.

    Parameters
    ----------
    engine
        The client.
    loads
        What each step works on.
    c
        Coefficients; those of the engine if absent.
    """
    drafted = drafted_tokens(engine)
    tokens = np.array([load.tokens(drafted) for load in loads], dtype=np.float64)
    sequences = np.array([load.sequences for load in loads], dtype=np.float64)
    cost = step_cost(engine, tokens, sequences, c)
    token_wise, per_sequence = cost.linear.seconds, cost.sequences.seconds
    return [
        float(linear + each) + _attention_s(engine, cost, load)
        for linear, each, load in zip(token_wise, per_sequence, loads, strict=True)
    ]


def stages_seconds(engine: Engine, load: StepLoad) -> list[float]:
    """Return for each pipeline stage how long it works on a step, on its own accelerator; see :func:`stage_seconds`."""
    stages = zip(engine.stages, engine.stage_engines, strict=True)
    return [stage_seconds(own, stage, load) for stage, own in stages]


def stage_seconds(own: Engine, stage: Stage, load: StepLoad) -> float:
    """Return how long a pipeline stage works on all micro-batches of a step, without waiting for others.

    Parameters
    ----------
    own
        The engine as if all its accelerators were those of the stage.
    stage
        The stage's layers: any number, not necessarily one of the engine's.
    load
        What the step works on.
    """
    tokens = load.tokens(drafted_tokens(own))
    cost = stage_cost(own, stage, np.array([float(tokens)]), np.array([float(load.sequences)]))
    # The launches of attention are counted for as many micro-batches as there are stages.
    cost = replace(cost, decode_step_s=cost.decode_step_s * min(tokens, own.pp) / own.pp)
    return float(cost.linear.seconds[0] + cost.sequences.seconds[0]) + _attention_s(own, cost, load)


def _attention_s(engine: Engine, cost: StepCost, load: StepLoad) -> float:
    """Return what a step lasts beside its tokens and sequences."""
    seconds = 0.0
    window = engine.model.window.window_tokens if engine.model.window else 0
    for chunk, before in load.chunks:
        earlier = before * max(chunk * cost.prefill_pair_s, cost.prefill_read_s)
        seconds += earlier + chunk * (chunk + 1) / 2 * cost.prefill_pair_s
        seconds += window_pairs(chunk, before, window) * cost.window_pair_s
    if load.decodes:
        seen = load.context_tokens + 1 + drafted_tokens(engine)
        seconds += cost.decode_step_s + load.decodes * cost.decode_sequence_s
        seconds += load.decodes * (seen * cost.decode_s + min(seen, window) * cost.window_s)
    return seconds + cost.adapter_s * different_adapters(engine, load)


def different_adapters(engine: Engine, load: StepLoad) -> int:
    """Return how many adapters a step is taken to have: one for each sequence, as far as there are places."""
    return min(engine.adapters.slots, load.sequences) if engine.adapters else 0


def explain_step(engine: Engine, name: str, load: StepLoad, c: Coefficients | None = None) -> StepExplanation:
    """Return a step taken apart.

    Parameters
    ----------
    engine
        The client.
    name
        What to call the step.
    load
        What it works on; at least one token.
    c
        Coefficients; those of the engine if absent.

    Raises
    ------
    SpecError
        If pipeline stages have different accelerators: what their operators add up to is no step of one of them.
    """
    if engine.stage_accelerators is not None:
        names = ", ".join(kind.name for kind, _ in engine.hardware)
        raise SpecError(
            f"stage_accelerators: steps of a pipeline over {names} are not taken apart; "
            "allowed: stages of one accelerator, or `dse plan` for the time of each stage"
        )
    c = c or engine_coefficients(engine)
    seconds = steps_seconds(engine, [load], c)[0]
    stages = []
    for stage in engine.stages:
        rows = _kernels(engine, c, stage, load)
        rows.append(Row("step: scheduling, launch", "engine", c.engine.step_s))
        rest = seconds - sum(row.seconds for row in rows)
        if rest > NEGLIGIBLE * seconds:
            own = engine.pp == 1
            rows.append(
                Row("host, not hidden", "engine", rest) if own else Row("waiting for other stages", "waiting", rest)
            )
        stages.append(StageRows(stage, tuple(row for row in rows if row.seconds > 0 or row.flops > 0)))
    accelerator = engine.accelerator
    return StepExplanation(
        name=name,
        loads=(load,),
        seconds=seconds,
        stages=tuple(stages),
        new_tokens=load.prompt_tokens + load.decodes * accepted_tokens(engine),
        accelerators=engine.accelerators,
        ranks=engine.tp * engine.dp,
        peak_flops_per_s=engine.flops_per_s,
        peak_16bit_flops_per_s=engine.flops_16bit_per_s,
        peak_bytes_per_s=accelerator.memory_bandwidth_bytes_per_s,
    )


def explain_prompt(engine: Engine, prompt_tokens: int, budget: int | None) -> StepExplanation:
    """Return the steps that read a lone prompt as one, operator by operator.

    Parameters
    ----------
    prompt_tokens
        Its length.
    budget
        Tokens of a step at most, if prompts are read in chunks.
    """
    chunks = prompt_chunks(prompt_tokens, budget)
    return joined([explain_step(engine, "prefill", StepLoad((chunk,))) for chunk in chunks])


def joined(steps: Sequence[StepExplanation]) -> StepExplanation:
    """Return steps of one engine that follow each other as one."""
    first = steps[0]
    stages = []
    for index, stage in enumerate(first.stages):
        found: dict[str, Row] = {}
        for step in steps:
            for row in step.stages[index].rows:
                found[row.operator] = found[row.operator] + row if row.operator in found else row
        stages.append(StageRows(stage.stage, tuple(found.values())))
    return replace(
        first,
        loads=tuple(load for step in steps for load in step.loads),
        seconds=sum(step.seconds for step in steps),
        new_tokens=sum(step.new_tokens for step in steps),
        stages=tuple(stages),
    )


def _row(operator: Operator, times: float) -> Row:
    """Return an operator evaluated at one point, repeated for the micro-batches."""
    total = operator.total
    figures = [float(np.broadcast_to(part, (1,))[0]) * times for part in total.parts]
    seconds, compute_s, memory_s, link_s, flops, moved_bytes, link_bytes = figures
    return Row(
        operator.name,
        "kernel" if any(figures[1:]) else "engine",
        seconds,
        compute_s=compute_s,
        memory_s=memory_s,
        link_s=link_s,
        flops=flops,
        moved_bytes=moved_bytes,
        link_bytes=link_bytes,
    )


def _kernels(engine: Engine, c: Coefficients, stage: Stage, load: StepLoad) -> list[Row]:
    """Return the rows of a stage, what it waits for left out."""
    tokens = float(load.tokens(drafted_tokens(engine)))
    micro_batches = min(tokens, engine.pp)
    each = np.array([np.ceil(tokens / micro_batches)])
    rows: list[Row] = []
    for operator in stage_operators(engine, c, each, stage):
        row = _row(operator, micro_batches)
        # Its launches and vectors belong to the attention of prompts and of decodes.
        rows += _attention(engine, c, stage, load, row) if operator.name.startswith("attention") else [row]
    if engine.model.ssm and load.sequences:
        rows.append(_states(engine, c, stage, load))
    if engine.adapters:
        count = different_adapters(engine, load)
        read = count * adapter_bytes(engine, stage)
        seconds = read / (engine.accelerator.memory_bandwidth_bytes_per_s * c.kernels.memory_share)
        rows.append(Row("adapters, reading them", "kernel", seconds, memory_s=seconds, moved_bytes=read))
    if stage.last and load.sequences:
        for operator in head_operators(engine, c, np.array([float(load.sequences)])):
            row = _row(operator, 1.0)
            # All but its time is a mean over the stages there.
            rows.append(replace(row * float(engine.pp), seconds=row.seconds))
    if stage.last and load.decodes and engine.draft:
        rows.append(_draft(engine, c, load))
    if stage.last and load.decodes and engine.lookup:
        step_s, sequence_s = lookup_s(engine.lookup)
        rows.append(Row("datastore look-up", "kernel", step_s + load.decodes * sequence_s))
    return rows


def _attention(engine: Engine, c: Coefficients, stage: Stage, load: StepLoad, start: Row) -> list[Row]:
    """Return the attention of prompts and of decodes in a stage.

    Parameters
    ----------
    start
        Launches, and the way of queries, keys, values and outputs through memory; each gets its tokens' share.
    """
    model, times, kernels = engine.model, attention_of(engine, c), c.kernels.attention
    flops_per_s = engine.chip_16bit.flops_per_s * kernels.prefill_compute_share
    bytes_per_s = engine.chip_16bit.bytes_per_s * kernels.decode_memory_share
    windowed = stage.windowed / engine.dp
    growing = (stage.attention - stage.windowed) / engine.dp
    window = model.window.window_tokens if model.window else 0
    vector_bytes = engine.heads * (model.attention_qk_dim + model.attention_v_dim) * ACTIVATION_BYTES
    vector_bytes += engine.kv_bytes_per_token_per_layer
    drafted = drafted_tokens(engine)
    share = load.prompt_tokens / load.tokens(drafted)
    rows = []
    if load.chunks:
        seconds = pairs = earlier = 0.0
        for chunk, before in load.chunks:
            own = chunk * (chunk + 1) / 2 * times.pair_s + before * max(chunk * times.pair_s, times.read_s)
            inside = window_pairs(chunk, before, window)
            seconds += growing * own + windowed * inside * times.pair_s
            pairs += growing * (before * chunk + chunk * (chunk + 1) / 2) + windowed * inside
            earlier += growing * before + windowed * min(before, window)
        moved = load.prompt_tokens * vector_bytes * stage.attention / engine.dp
        moved += earlier * engine.kv_bytes_per_token_per_layer
        began = start * share
        rows.append(
            Row(
                "attention of prompts",
                "kernel",
                began.seconds + seconds,
                compute_s=pairs * times.pair_s,
                memory_s=began.memory_s + earlier * engine.kv_bytes_per_token_per_layer / bytes_per_s,
                flops=pairs * times.pair_s * flops_per_s,
                moved_bytes=moved,
            )
        )
    if load.decodes:
        seen = load.context_tokens + 1 + drafted
        context = load.decodes * (growing * seen + windowed * min(seen, window))
        seconds = context * times.context_s + load.decodes * times.sequence_s * stage.attention / engine.dp
        seconds += times.decode_s * stage.attention * engine.pp
        vectors = load.decodes * (1 + drafted) * vector_bytes * stage.attention / engine.dp
        began = start * (1.0 - share)
        rows.append(
            Row(
                "attention of decodes",
                "kernel",
                began.seconds + seconds,
                compute_s=context * times.context_compute_s,
                memory_s=began.memory_s + context * times.context_memory_s,
                flops=context * times.context_compute_s * flops_per_s,
                moved_bytes=context * times.context_memory_s * bytes_per_s + vectors,
            )
        )
    return rows


def _states(engine: Engine, c: Coefficients, stage: Stage, load: StepLoad) -> Row:
    """Return reading and writing the recurrent states of the sequences of a step in one stage."""
    whole = _row(Operator("state-space states", sequence_state(engine, c, np.array([float(load.sequences)])), 1.0), 1.0)
    sharers = engine.pp * engine.dp
    mean = whole * float(sharers)
    part = stage.state_space / engine.model.state_space_layers / engine.dp
    return replace(mean * part, seconds=whole.seconds / engine.attention_share * part)


def _draft(engine: Engine, c: Coefficients, load: StepLoad) -> Row:
    """Return the drafting of a step: the time that the simulator counts, and the operations of the draft's steps."""
    draft, cost = engine.draft, draft_cost(engine, c)
    assert draft is not None
    k = drafted_tokens(engine)
    at = np.array([float(load.decodes)])
    work = layers(draft, c, at) + output_head(draft, c, at)
    row = _row(Operator("draft model", work, 1.0), float(k))
    seen = load.decodes * (load.context_tokens + 1 + k)
    kernels, chip = c.kernels.attention, draft.chip_16bit
    compute_s, memory_s = seen * cost.context_compute_s, seen * cost.context_memory_s
    return replace(
        row,
        seconds=cost.step_s + load.decodes * cost.sequence_s + seen * cost.context_s,
        compute_s=row.compute_s + compute_s,
        memory_s=row.memory_s + memory_s,
        flops=row.flops + compute_s * chip.flops_per_s * kernels.prefill_compute_share,
        moved_bytes=row.moved_bytes + memory_s * chip.bytes_per_s * kernels.decode_memory_share,
    )
