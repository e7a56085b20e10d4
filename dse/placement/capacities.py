"""How many requests a second one client of a stage can serve, from the simulator's own cost model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.explain.fitting import blocks_per_request
from dse.placement.spec import StagesSpec
from simulator import catalog
from simulator.catalog import Accelerator
from simulator.errors import SpecError
from simulator.performance.engine import engine_of, tensor_parallel_sizes
from simulator.performance.engine_defaults import with_engine_defaults
from simulator.performance.explanation import StepLoad, prompt_chunks, steps_seconds
from simulator.performance.memory import DoesNotFit, kv_blocks
from simulator.performance.service_cost import service_cost
from simulator.spec.deployment import Pool
from simulator.spec.stages import Quantity, Service, ServiceStage
from simulator.workload import Requests

BATCHES: Final = (1, 2, 4, 8, 16, 32)
"""Batches of a service to choose from."""


@dataclass(frozen=True)
class Lengths:
    """Mean lengths of the requests of a workload.

    Attributes
    ----------
    prompt_tokens, output_tokens
        Of a request, documents that retrieval adds included.
    context_tokens, held_tokens
        Context of a request, and what it holds when it is done, in the mean over all decode steps:
        ``sum of o (p + o/2) / sum of o`` and ``sum of o (p + o) / sum of o``.
    units
        Mean of what the work of services depends on.
    attention_tokens
        ``sum of l^2 / sum of l`` of each.
    """

    prompt_tokens: float
    output_tokens: float
    context_tokens: float
    held_tokens: float
    units: dict[Quantity, float]
    attention_tokens: dict[Quantity, float]


def lengths_of(requests: Requests, added_prompt_tokens: int) -> Lengths:
    """Return the mean lengths of requests to whose prompts retrieval adds so many tokens."""
    arrived = requests.prompt_tokens.astype(np.float64)
    prompt, output = arrived + added_prompt_tokens, requests.output_tokens.astype(np.float64)
    query = arrived if requests.query_tokens is None else requests.query_tokens.astype(np.float64)
    media = np.zeros_like(arrived) if requests.media_tokens is None else requests.media_tokens.astype(np.float64)
    texts: dict[Quantity, np.typing.NDArray[np.float64]] = {
        "none": np.zeros_like(arrived),
        "query": query,
        "prompt": prompt,
        "output": output,
        "media": media,
    }
    return Lengths(
        prompt_tokens=float(prompt.mean()),
        output_tokens=float(output.mean()),
        context_tokens=float(output @ (prompt + output / 2) / output.sum()),
        held_tokens=float(output @ (prompt + output) / output.sum()),
        units={name: float(each.mean()) for name, each in texts.items()},
        attention_tokens={name: float(each @ each / max(1.0, each.sum())) for name, each in texts.items()},
    )


@dataclass(frozen=True)
class Capacity:
    """What one client of a stage can do on a host.

    Attributes
    ----------
    stage
        Name of the service, or ``prefill``, ``decode`` or ``llm`` for both.
    device, devices
        What the client runs on, and how many of it.
    requests_per_s
        Requests that it serves if it is never idle and batches are full.
    usd_per_hour
        Price of its devices.
    client
        The client as a deployment has it.
    """

    stage: str
    device: str
    devices: int
    requests_per_s: float
    usd_per_hour: float
    client: Pool | Service


def service_capacity(stage: ServiceStage, device: str, quantity: Quantity, lengths: Lengths) -> Capacity | None:
    """Return what a service's client can do on a device with the best of :data:`BATCHES`; None if it cannot run there.

    Raises
    ------
    SpecError
        If there is no such device.
    """
    catalog.device(device)
    batches = np.array(BATCHES, dtype=np.float64)
    service = Service(stage=stage.name, device=device)
    length = lengths.attention_tokens[quantity]
    try:
        cost = service_cost(
            stage, service, batches * lengths.units[quantity], batches, attention_tokens=max(1.0, length)
        )
    except SpecError:
        return None
    rates = batches / (cost.linear_s + cost.sequences_s)
    best = int(np.argmax(rates))
    client = service.model_copy(update={"max_batch_requests": BATCHES[best]})
    devices = client.devices_in_all(stage)
    price = devices * catalog.device(device).price_usd_per_hour
    return Capacity(stage.name, device, devices, float(rates[best]), price, client)


def llm_capacities(spec: StagesSpec, device: str, lengths: Lengths) -> list[Capacity]:
    """Return what clients of the LLM can do on an accelerator: for each tp prefill, decode and both; none on a CPU.

    Prefill: whole prompts fill the token budget of a step, longer ones are read in chunks. Decode: as many requests as
    KV cache and batch hold, at their mean context. Both: one after the other, ``1 / (1 / prefill + 1 / decode)``;
    chunks that ride on decode steps do better.
    """
    accelerator = catalog.device(device)
    if not isinstance(accelerator, Accelerator):
        return []
    allowed = [tp for tp in tensor_parallel_sizes(catalog.model(spec.model)) if tp <= accelerator.scale_up.devices]
    found = []
    for tp in [tp for tp in spec.tp if tp in allowed]:
        pool = with_engine_defaults(
            Pool(
                model=spec.model,
                accelerator=device,
                tp=tp,
                weights=spec.weights,
                kv=spec.kv,
                engine=spec.engine,
            )
        )
        price = tp * accelerator.price_usd_per_hour
        for stage, rate in _llm_rates(pool, lengths).items():
            client = pool.model_copy(update={"role": "both" if stage == "llm" else stage})
            found.append(Capacity(stage, device, tp, rate, price, client))
    return found


def _llm_rates(pool: Pool, lengths: Lengths) -> dict[str, float]:
    """Return the requests a second of prefill, decode and both; empty if no request fits."""
    try:
        blocks = kv_blocks(pool)
    except DoesNotFit:
        return {}
    usable = blocks - int(blocks * pool.kv_memory.watermark)
    batch = min(pool.batching.max_batch_requests, usable // blocks_per_request(pool, round(lengths.held_tokens)))
    if batch < 1:
        return {}
    budget, prompt = pool.batching.token_budget_tokens, max(1, round(lengths.prompt_tokens))
    together = max(1, budget // prompt)
    loads = [StepLoad(((prompt, 0),) * together)]
    if prompt > budget:
        loads = [StepLoad((chunk,)) for chunk in prompt_chunks(prompt, budget)]
    decode_s, *prompt_s = steps_seconds(engine_of(pool), [StepLoad((), batch, round(lengths.context_tokens)), *loads])
    prefill = together / sum(prompt_s)
    # The first token comes from the step that reads the prompt.
    decode = batch / (decode_s * max(1.0, lengths.output_tokens - 1.0))
    return {"prefill": prefill, "decode": decode, "llm": 1.0 / (1.0 / prefill + 1.0 / decode)}
