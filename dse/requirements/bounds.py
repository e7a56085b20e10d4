"""What no machine can go below: everything overlapped, every peak reached, nothing read twice.

Bounds are those of one accelerator. Operations count against the peak at which products with weights are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dse.requirements.chip import Resource
from dse.requirements.demand import Demand
from dse.requirements.model_work import (
    decode_flops,
    kv_bytes,
    prompt_flops,
    read_weight_bytes,
    sent_bytes,
    weight_bytes,
)
from dse.requirements.use_case import UseCase
from simulator import catalog
from simulator.catalog import Model


@dataclass(frozen=True)
class Bound:
    """The least of a resource.

    Attributes
    ----------
    resource
        What it is of.
    value
        In the resource's unit.
    promise
        What sets it: ``TTFT``, ``TPOT``, ``rate`` or ``size``.
    formula
        How it was computed.
    """

    resource: Resource
    value: float
    promise: str
    formula: str


def bounds_of(case: UseCase, demand: Demand) -> dict[Resource, Bound]:
    """Return the bound of every resource that a use case needs; no links where accelerators share no layer.

    Parameters
    ----------
    case
        Model, promises and parallelism.
    demand
        Its lengths and load.
    """
    candidates = [
        *_arithmetic(case, demand),
        *_bandwidth(case, demand),
        _memory(case, demand),
        *_links(case, demand),
    ]
    found: dict[Resource, Bound] = {}
    for bound in candidates:
        if bound.resource not in found or bound.value > found[bound.resource].value:
            found[bound.resource] = bound
    return found


def _arithmetic(case: UseCase, demand: Demand) -> list[Bound]:
    model, each = catalog.model(case.model), case.per_client
    first = prompt_flops(model, demand.prompt_tokens)
    step = demand.batch * decode_flops(model, demand.context_tokens)
    found = [
        Bound("arithmetic", first / each / case.ttft_s / 1e12, "TTFT", "operations of a prompt / TTFT"),
        Bound("arithmetic", step / each / case.tpot_s / 1e12, "TPOT", "operations of a step of decodes / TPOT"),
    ]
    if demand.load:
        per_s = _per_second(case, demand, lambda prompt, output: _request_flops(model, prompt, output))
        found.append(Bound("arithmetic", per_s / 1e12, "rate", "operations of a request · rate"))
    return found


def _bandwidth(case: UseCase, demand: Demand) -> list[Bound]:
    model, each = catalog.model(case.model), case.per_client
    first = read_weight_bytes(model, case.weights, demand.prompt_tokens)
    step = read_weight_bytes(model, case.weights, demand.batch)
    step += demand.batch * kv_bytes(model, case.kv, demand.context_tokens)
    found = [
        Bound("bandwidth", first / each / case.ttft_s / 1e9, "TTFT", "weights / TTFT"),
        Bound("bandwidth", step / each / case.tpot_s / 1e9, "TPOT", "(weights + KV of the batch) / TPOT"),
    ]
    if demand.load:
        per_s = _per_second(case, demand, lambda prompt, output: _request_kv(model, case.kv, prompt, output))
        found.append(Bound("bandwidth", per_s / 1e9, "rate", "KV that a request's tokens read · rate"))
    return found


def _memory(case: UseCase, demand: Demand) -> Bound:
    model = catalog.model(case.model)
    held = weight_bytes(model, case.weights) + demand.batch * kv_bytes(model, case.kv, demand.longest_tokens)
    return Bound("memory", held / case.per_client / 1e9, "size", "weights + KV of the batch at full length")


def _links(case: UseCase, demand: Demand) -> list[Bound]:
    if case.tp == 1:
        return []
    model = catalog.model(case.model)

    def sent(tokens: float) -> float:
        return sent_bytes(model, tokens, case.tp) / case.pp

    found = [
        Bound("links", sent(demand.prompt_tokens) / case.ttft_s / 1e9, "TTFT", "all-reduces of a prompt / TTFT"),
        Bound("links", sent(demand.batch) / case.tpot_s / 1e9, "TPOT", "all-reduces of a step of decodes / TPOT"),
    ]
    if demand.load:
        # Every accelerator of a stage sends as much, so they do not share it.
        per_s = _per_second(case, demand, lambda prompt, output: prompt + output - 1) * case.total
        value = sent(per_s) / case.clients / 1e9
        found.append(Bound("links", value, "rate", "all-reduces of a request · rate"))
    return found


def _per_second(case: UseCase, demand: Demand, work: Callable[[int, int], float]) -> float:
    """Return the work of all requests a second for each accelerator, as it is in the long run."""
    assert demand.load
    requests = demand.load.requests
    lengths = np.stack([requests.prompt_tokens, requests.output_tokens])
    pairs, counts = np.unique(lengths, axis=1, return_counts=True)
    total = sum(count * work(int(prompt), int(output)) for (prompt, output), count in zip(pairs.T, counts, strict=True))
    return float(total) / requests.session_count * requests.rate_rps / case.total


def _request_flops(model: Model, prompt: int, output: int) -> float:
    steps = output - 1
    return prompt_flops(model, prompt) + steps * decode_flops(model, prompt + max(0.0, (steps - 1) / 2))


def _request_kv(model: Model, kv: str, prompt: int, output: int) -> float:
    steps = output - 1
    return steps * kv_bytes(model, kv, prompt + max(0.0, (steps - 1) / 2))
