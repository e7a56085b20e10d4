"""Seconds of a batch of a service stage, in the form that the kernel tabulates: ``linear(T) + sequences(B)``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from simulator import catalog
from simulator.catalog import Cpu
from simulator.errors import SpecError
from simulator.performance.encoder import Network, network
from simulator.performance.retrieval import index_bytes, scanned_bytes, search
from simulator.performance.roofline import Floats, Work
from simulator.spec.stages import (
    DetokeniseStage,
    EmbedStage,
    EncodeStage,
    FilterStage,
    GuardStage,
    Quantity,
    RerankStage,
    RetrieveStage,
    RouteStage,
    Service,
    ServiceStage,
    TokeniseStage,
    quantity,
)

ATTENTION_TOKENS = 512.0
"""Length of a text for which attention is charged where the caller names none."""


@dataclass(frozen=True)
class ServiceCost:
    """Cost of a batch of B requests with T units in all: ``linear_s(T) + sequences_s(B)``.

    Attributes
    ----------
    linear_s, sequences_s
        Seconds at the given numbers of units and of requests.
    quantity
        What the units are, for a stage where such a stage usually stands; before any retrieval the prompt is the query
        (see :func:`simulator.spec.stages.quantities`). With ``none`` the linear part is 0.
    linear_compute_s, linear_memory_s, sequences_compute_s, sequences_memory_s
        Time of all devices of a client together at full arithmetic or full memory rate; for utilisation and energy.
    """

    linear_s: Floats
    sequences_s: Floats
    quantity: Quantity
    linear_compute_s: Floats
    linear_memory_s: Floats
    sequences_compute_s: Floats
    sequences_memory_s: Floats


def service_cost(
    stage: ServiceStage,
    service: Service,
    tokens: Floats,
    sequences: Floats,
    *,
    attention_tokens: float = ATTENTION_TOKENS,
) -> ServiceCost:
    """Return the cost of a stage on the devices of one client.

    - Tokenise, detokenise, filter: ``us_per_token · T + us_per_request · B`` on one core; CPU only.
    - Guard, embed: a forward pass over T tokens, and the head for B sequences (:mod:`~simulator.performance.encoder`).
    - Route: as guard with a model, else as tokenise.
    - Encode: as embed over T patches, whose attention is within one image: ``patches_per_image``, or the model's
      context where that is less and an image is cut into tiles. A batch without images costs no pass.
    - Rerank: a pass over ``documents · (T + B · tokens_per_document)`` tokens, split into the documents' part
      (``sequences_s``) and what the queries add to it on the device (``linear_s``, taken at one request's documents):
      right while the device limits, an upper bound where the host does.
    - Retrieve: :func:`simulator.performance.retrieval.search` on one shard; CPU only.

    Parameters
    ----------
    stage, service
        What runs, and on which devices; the service's clients and batch limits do not matter here.
    tokens, sequences
        Where to evaluate the two parts, shapes (n,) and (m,), not negative.
    attention_tokens
        Length of the texts of guard, embed, route and rerank, for attention: the mean, or better the sum of squares
        over the sum. Longer than the model's context counts as the context. It is needed because a batch knows only the
        sum of its lengths; attention is about ``length / (6 hidden)`` of a pass (8 % for 512 tokens of bge-large-en).

    Raises
    ------
    SpecError
        Naming the field, if the device or model is unknown, the stage cannot run on such a device, or the model or
        index does not fit.
    """
    match stage:
        case TokeniseStage() | DetokeniseStage() | FilterStage() | RouteStage(model=None):
            cores = _cpu(stage, service).cores * service.devices
            linear = _one_core(tokens * stage.us_per_token * 1e-6, cores)
            each = _one_core(sequences * stage.us_per_request * 1e-6, cores)
        case GuardStage(model=str() as model) | EmbedStage(model=str() as model) | RouteStage(model=str() as model):
            net = _network(model, service)
            linear, each = net.tokens(tokens, attention_tokens), net.sequences(sequences)
        case EncodeStage():
            net = _network(stage.model, service)
            linear = _where(tokens > 0, net.tokens(tokens, float(stage.patches_per_image)))
            each = net.sequences(sequences)
        case RerankStage():
            linear, each = _rerank(stage, service, tokens, sequences, attention_tokens)
        case RetrieveStage():
            linear, each = _one_core(np.zeros_like(tokens), 1), _retrieve(stage, service, sequences)
    return ServiceCost(
        linear_s=linear.seconds,
        sequences_s=each.seconds,
        quantity=quantity(stage),
        linear_compute_s=linear.compute_s,
        linear_memory_s=linear.memory_s,
        sequences_compute_s=each.compute_s,
        sequences_memory_s=each.memory_s,
    )


def refusal(stage: ServiceStage, service: Service) -> str:
    """Return why a stage cannot run on the devices of a service, empty if it can: what :func:`service_cost` says."""
    # A model in a file may have changed since it was last read.
    from_file = (getattr(stage, "model", None) or "").endswith(".json")
    return _refusal.__wrapped__(stage, service) if from_file else _refusal(stage, service)


# A search asks for the same few services with every design.
@lru_cache(maxsize=4096)
def _refusal(stage: ServiceStage, service: Service) -> str:
    nothing = np.zeros(1)
    try:
        service_cost(stage, service, nothing, nothing)
    except SpecError as error:
        return str(error)
    return ""


def _cpu(stage: ServiceStage, service: Service) -> Cpu:
    """Return the processor of a service whose stage runs on nothing else."""
    device = catalog.device(service.device)
    if not isinstance(device, Cpu):
        raise SpecError(
            f"device: {stage.kind} runs on a CPU only, given the accelerator {service.device}; "
            f"allowed: {', '.join(catalog.cpu_names())}"
        )
    return device


def _one_core(seconds: Floats, cores: int) -> Work:
    """Return work that keeps one of so many cores busy."""
    zero = np.zeros_like(seconds)
    return Work(seconds, seconds / cores, zero, zero)


def _network(model: str, service: Service) -> Network:
    return network(catalog.model(model), catalog.device(service.device), service.devices)


def _rerank(
    stage: RerankStage, service: Service, tokens: Floats, sequences: Floats, query_tokens: float
) -> tuple[Work, Work]:
    net = _network(stage.model, service)
    longest = net.engine.model.max_context_tokens
    if stage.tokens_per_document >= longest:
        raise SpecError(
            f"tokens_per_document: {stage.tokens_per_document} and a query exceed the {longest} tokens "
            f"that {net.engine.model.name} reads; allowed: below {longest}"
        )
    length = stage.tokens_per_document + query_tokens
    document_tokens = float(stage.documents * stage.tokens_per_document)
    documents = net.tokens(sequences * document_tokens, length) + net.sequences(sequences * stage.documents)
    documents = _where(sequences > 0, documents)
    one = net.device_tokens(np.full_like(tokens, document_tokens), length)
    added = net.device_tokens(document_tokens + tokens * stage.documents, length) + one * -1.0
    # Tokens that fill up a tile that is computed anyway add operations, but no time.
    added = replace(
        added,
        compute_s=np.minimum(added.compute_s, added.seconds),
        memory_s=np.minimum(added.memory_s, added.seconds),
    )
    return added, documents


def _where(condition: np.typing.NDArray[np.bool_], work: Work) -> Work:
    """Return the work where a condition holds, and none elsewhere."""
    return Work(*(np.where(condition, part, 0.0) for part in work.parts))


def _retrieve(stage: RetrieveStage, service: Service, sequences: Floats) -> Work:
    cpu = _cpu(stage, service)
    shards = service.shards_of(stage)
    vectors = stage.vectors / shards
    if stage.centroids > vectors:
        raise SpecError(
            f"shards: one of {shards} has {stage.vectors // shards} vectors, fewer than {stage.centroids} centroids; "
            "allowed: fewer shards or centroids"
        )
    needed = index_bytes(vectors, stage.dimension, stage.centroids, stage.bytes_per_vector)
    held = cpu.memory_bytes * service.devices
    if needed > held:
        raise SpecError(
            f"shards: one of {shards} holds {needed / 1e9:.0f} GB, {service.devices} x {cpu.name} "
            f"{held / 1e9:.0f} GB; allowed: more shards, fewer bytes_per_vector or more devices"
        )
    return search(
        sequences,
        bytes_per_query=scanned_bytes(vectors, stage.centroids, stage.probes, stage.bytes_per_vector),
        dimension=stage.dimension,
        centroids=stage.centroids,
        threads=stage.threads or cpu.cores * service.devices,
        scan_bytes_per_s=stage.scan_gb_per_s * 1e9,
        memory_bytes_per_s=cpu.memory_bandwidth_bytes_per_s * service.devices,
    )
