"""Does a model fit, how many requests at once, and how fast: the cost model's answer without a simulation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

from simulator import Batching, Pool, SpecError, catalog
from simulator.performance.engine import BYTES_PER_ELEMENT, Engine, engine_of, tensor_parallel_sizes
from simulator.performance.engine_defaults import with_engine_defaults
from simulator.performance.explanation import (
    Bound,
    StepLoad,
    explain_step,
    prompt_chunks,
    request_seconds,
    steps_seconds,
)
from simulator.performance.memory import (
    RUNTIME_BYTES,
    SHARE_UNIT,
    DoesNotFit,
    activation_bytes,
    context_bytes_per_token,
    fixed_bytes,
    kv_blocks,
    state_blocks,
    window_share,
)
from simulator.performance.price import pool_usd_per_hour
from simulator.performance.provenance import provenance

DEGREES: Final = (1, 2, 4, 8)
"""Tensor parallelism that is looked at where none is given."""

PRECISIONS: Final = ("bf16", "fp8", "fp4")
"""Precisions of weights from wide to narrow, for what would fit."""


@dataclass(frozen=True)
class FitRequest:
    """What is asked.

    Attributes
    ----------
    model
        Catalogued name, or path of a ``config.json``.
    weights, kv
        Precisions.
    prompt_tokens, output_tokens
        Length of every request.
    max_batch
        Requests of a batch at most; the engine's default if absent.
    """

    model: str
    weights: str = "bf16"
    kv: str = "bf16"
    prompt_tokens: int = 1024
    output_tokens: int = 256
    max_batch: int | None = None

    def __post_init__(self) -> None:
        """Refuse lengths that no request has."""
        for name, least in (("prompt_tokens", 1), ("output_tokens", 2)):
            value = getattr(self, name)
            if value < least:
                raise SpecError(f"--{name.replace('_', '-')}: must be at least {least}, given {value}")

    def pool(self, gpu: str, tp: int) -> Pool:
        """Return one client of ``tp`` accelerators.

        Parameters
        ----------
        gpu
            Catalogued accelerator.
        tp
            Tensor parallelism.

        Raises
        ------
        SpecError
            If a pool cannot be so.
        """
        described: dict[str, Any] = {"model": self.model, "accelerator": gpu, "tp": tp}
        described |= {"weights": self.weights, "kv": self.kv}
        if self.max_batch is not None:
            described["batching"] = {"max_batch_requests": self.max_batch}
            if self.max_batch > Batching().token_budget_tokens:
                described["batching"]["token_budget_tokens"] = self.max_batch
        return Pool.parse(described, source="options")


@dataclass(frozen=True)
class Fit:
    """A client that fits. Bytes are those of one accelerator.

    Attributes
    ----------
    pool
        The client.
    weight_bytes, working_bytes, kv_bytes, allowed_bytes
        Weights; activations of a full step and the runtime; what is left for KV; all that the engine may use.
    kv_tokens
        Tokens of KV of the client.
    kv_requests
        Requests of full length that they hold.
    requests
        Requests at once: as many, but not more than a batch holds.
    ttft_s, tpot_alone_s
        A lone request: time of the steps that read its prompt, with its way to the engine and back, and of a step that
        decodes in the middle of its answer.
    tpot_s
        Time per output token with ``requests`` at once, prompts of those that follow included.
    tokens_per_s
        Output tokens a second of the client with ``requests`` at once.
    usd_per_million_output_tokens
        Price of the accelerators over these.
    bound
        What bounds the steps then.
    limit
        What bounds the number of requests: ``KV memory``, ``batch limit`` or ``token budget``.
    """

    pool: Pool
    weight_bytes: float
    working_bytes: float
    kv_bytes: float
    allowed_bytes: float
    kv_tokens: int
    kv_requests: int
    requests: int
    ttft_s: float
    tpot_alone_s: float
    tpot_s: float
    tokens_per_s: float
    usd_per_million_output_tokens: float
    bound: Bound
    limit: str

    @property
    def tokens_per_s_per_request(self) -> float:
        """Output tokens a second that a person sees with ``requests`` at once."""
        return 1.0 / self.tpot_s


@dataclass(frozen=True)
class NoFit:
    """A client that does not fit.

    Attributes
    ----------
    pool
        The client.
    error
        What is missing, in words.
    shortage_bytes
        What is missing on each accelerator.
    hint
        Options with which it would fit; empty if there are none.
    """

    pool: Pool
    error: SpecError
    shortage_bytes: float
    hint: str = ""


def blocks_per_request(pool: Pool, tokens: int) -> int:
    """Return the KV blocks of a request of so many tokens, as the simulator counts them (docs/semantics.md)."""
    engine, block = engine_of(pool), pool.kv_memory.block_tokens
    blocks = ceil(tokens / block) + state_blocks(pool)
    if engine.model.window:
        seen = min(tokens, engine.model.window.window_tokens)
        blocks += ceil(seen * window_share(pool) / (SHARE_UNIT * block))
    return blocks


def degrees_of(request: FitRequest, gpu: str) -> list[int]:
    """Return the degrees of tensor parallelism to look at: 1, 2, 4, 8 as far as heads and links allow.

    Raises
    ------
    SpecError
        If the model or accelerator is unknown, or the model is no decoder.
    """
    model, accelerator = catalog.model(request.model), catalog.accelerator(gpu)
    if model.kind != "decoder":
        raise SpecError(f"model: {model.name} is an {model.kind}, it generates no tokens; choose a decoder")
    allowed = [tp for tp in tensor_parallel_sizes(model) if tp <= accelerator.scale_up.devices]
    return [tp for tp in DEGREES if tp in allowed] or [tp for tp in allowed if tp <= max(DEGREES)]


def fit(request: FitRequest, gpus: Iterable[str], tp: int | None = None) -> list[Fit | NoFit]:
    """Return how a model fits on accelerators, one client for each of them and each degree of tensor parallelism.

    Parameters
    ----------
    request
        Model, precisions and lengths.
    gpus
        Names of accelerators.
    tp
        The only degree of tensor parallelism; :func:`degrees_of` if absent.

    Raises
    ------
    SpecError
        If a name is unknown or the model cannot be sharded so.
    """
    found: list[Fit | NoFit] = []
    for gpu in gpus:
        own: list[Fit | NoFit] = []
        for degree in [tp] if tp is not None else degrees_of(request, gpu):
            pool = request.pool(gpu, degree)
            try:
                own.append(_fit(request, pool))
            except DoesNotFit as error:
                own.append(NoFit(pool, error, error.shortage_bytes))
        found += [replace(each, hint=_hint(request, gpu, each)) if isinstance(each, NoFit) else each for each in own]
    return found


def _capacity(request: FitRequest, pool: Pool) -> tuple[int, int]:
    """Return the KV blocks of a client, and the requests of full length that they hold, at least one.

    Raises
    ------
    DoesNotFit
        If the model does not fit, or no request does.
    """
    engine, blocks = engine_of(pool), kv_blocks(pool)
    length = request.prompt_tokens + request.output_tokens
    needed = blocks_per_request(pool, length)
    usable = blocks - int(blocks * pool.kv_memory.watermark)
    if needed > usable:
        raise DoesNotFit(
            f"pool {pool.name}: {engine.model.name} in {pool.weights} on {pool.accelerators} x {pool.accelerator} "
            f"has KV of {usable * pool.kv_memory.block_tokens:,} tokens, one request of {length:,} needs more; "
            "raise tp, lower the precision or choose an accelerator with more memory",
            (needed - usable) * pool.kv_memory.block_tokens * context_bytes_per_token(engine, engine.stages[0]),
            engine.accelerator.usable_memory_bytes * pool.kv_memory.memory_utilization,
        )
    return blocks, usable // needed


def _fit(request: FitRequest, pool: Pool) -> Fit:
    pool = with_engine_defaults(pool)
    engine, stage = engine_of(pool), engine_of(pool).stages[0]
    blocks, kv_requests = _capacity(request, pool)
    budget = pool.batching.token_budget_tokens
    allowed = engine.accelerator.usable_memory_bytes * pool.kv_memory.memory_utilization
    limit = "KV memory" if kv_requests <= pool.batching.max_batch_requests else "batch limit"
    requests = min(kv_requests, pool.batching.max_batch_requests)
    middle = request.prompt_tokens + request.output_tokens // 2
    chunks = [StepLoad((chunk,)) for chunk in prompt_chunks(request.prompt_tokens, budget)]
    *prompt_s, tpot_alone_s = steps_seconds(engine, [*chunks, StepLoad((), 1, middle)])
    decodes, loads = steady_state(request, requests, budget)
    if decodes < requests / (1 + len(chunks) / (request.output_tokens - 1)) - 1:
        limit = "token budget"
    shares, steps = zip(*loads, strict=True)
    tpot_s = sum(share * each for share, each in zip(shares, steps_seconds(engine, steps), strict=True))
    tokens_per_s = decodes * request.output_tokens / (request.output_tokens - 1) / tpot_s
    usd = pool_usd_per_hour(pool) / 3600 / tokens_per_s * 1e6
    fixed = fixed_bytes(engine, stage, budget)
    return Fit(
        pool,
        weight_bytes=engine.weight_bytes,
        working_bytes=activation_bytes(engine, budget) + RUNTIME_BYTES,
        kv_bytes=allowed - fixed,
        allowed_bytes=allowed,
        kv_tokens=blocks * pool.kv_memory.block_tokens,
        kv_requests=kv_requests,
        requests=requests,
        ttft_s=sum(prompt_s) + request_seconds(engine),
        tpot_alone_s=tpot_alone_s,
        tpot_s=tpot_s,
        tokens_per_s=tokens_per_s,
        usd_per_million_output_tokens=usd,
        bound=_bound(engine, loads),
        limit=limit,
    )


def _bound(engine: Engine, loads: Sequence[tuple[float, StepLoad]]) -> Bound:
    """Return what most of the time of some steps goes to, each with its share of all steps."""
    times: dict[Bound, float] = {}
    for share, load in loads:
        for row in explain_step(engine, "", load).rows:
            times[row.bound] = times.get(row.bound, 0.0) + share * row.seconds
    return max(times, key=lambda name: times[name])


def steady_state(request: FitRequest, requests: int, budget: int) -> tuple[float, list[tuple[float, StepLoad]]]:
    """Return how many of some requests decode at a time, and the steps of a client with their shares of all steps.

    Whenever one of ``requests`` is done another takes its place. It reads its prompt in chunks of ``c = min(prompt,
    budget − decodes)`` tokens and then decodes ``d = output − 1`` times: ``ceil(prompt / c)`` of its steps read and d
    decode, and in this proportion requests do either at a time. D decodes let D / d prompts begin in a step, which must
    not need more than the budget: ``D (1 + prompt / d) ≤ budget``. As many steps as these prompts have chunks hold one,
    the others only decodes.

    Parameters
    ----------
    request
        Lengths.
    requests
        Requests at once.
    budget
        Tokens of a step at most.
    """
    d, prompt = request.output_tokens - 1, request.prompt_tokens
    most = budget / (1 + prompt / d)
    decodes = min(float(requests), most)
    for _ in range(20):
        chunk = min(prompt, max(1, int(budget - decodes)))
        decodes = min(requests / (1 + ceil(prompt / chunk) / d), most)
    batch = max(1, round(decodes))
    context = prompt + request.output_tokens // 2
    chunk = min(prompt, max(1, budget - batch))
    reading = decodes / d * prompt / chunk
    before = (prompt - chunk) // 2
    if reading >= 1:
        # Every step reads of several prompts; as many pieces, all alike.
        pieces = ceil(reading)
        each = max(1, int(min(decodes / d * prompt, budget - batch) / pieces))
        return decodes, [(1.0, StepLoad(((each, (prompt - each) // 2),) * pieces, batch, context))]
    mixed = StepLoad(((chunk, before),), batch, context)
    return decodes, [(reading, mixed), (1.0 - reading, StepLoad((), batch, context))]


def _fits(request: FitRequest, gpu: str, tp: int, weights: str) -> bool:
    try:
        _capacity(request, with_engine_defaults(replace(request, weights=weights).pool(gpu, tp)))
    except DoesNotFit:
        return False
    return True


def _hint(request: FitRequest, gpu: str, failed: NoFit) -> str:
    """Return the least tensor parallelism that would fit, or the widest precision at the same, or both together."""
    model, accelerator, own = catalog.model(request.model), catalog.accelerator(gpu), failed.pool.tp
    larger = [tp for tp in tensor_parallel_sizes(model) if own < tp <= accelerator.scale_up.devices]
    narrower = _narrower(request.weights)
    wider = next((f"--tp {tp}" for tp in larger if _fits(request, gpu, tp, request.weights)), None)
    fewer = next((f"--weights {weights}" for weights in narrower if _fits(request, gpu, own, weights)), None)
    if wider or fewer:
        return " or ".join(option for option in (wider, fewer) if option)
    both = ((tp, weights) for weights in narrower for tp in larger if _fits(request, gpu, tp, weights))
    return next((f"--tp {tp} --weights {weights}" for tp, weights in both), "")


def _narrower(weights: str) -> list[str]:
    """Return the precisions with fewer bits, wide ones first."""
    return [each for each in PRECISIONS if BYTES_PER_ELEMENT[each] < BYTES_PER_ELEMENT[weights]]


def to_json(each: Fit | NoFit) -> dict[str, Any]:
    """Return an answer as plain data."""
    pool = each.pool
    about = {
        "model": pool.model,
        "accelerator": pool.accelerator,
        "tp": pool.tp,
        "weights": pool.weights,
        "kv": pool.kv,
        "fits": isinstance(each, Fit),
        "calibrated": provenance(pool).calibrated,
    }
    if isinstance(each, NoFit):
        return {**about, "why": str(each.error), "shortage_bytes": each.shortage_bytes, "fits_with": each.hint or None}
    figures = {name: value for name, value in vars(each).items() if name != "pool"}
    return {**about, **figures, "tokens_per_s_per_request": each.tokens_per_s_per_request}
