"""Token-wise work of a pipeline whose stages have different accelerators.

Every stage costs what its layers cost on its own accelerator; the ring is that of
:func:`~simulator.performance.pipeline.in_pipeline`. Other than in a pipeline of equal accelerators the output head is
not added to the slowest stage but to the last: what it costs however few sequences there are, reading its weights, is
work of every micro-batch there.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from simulator.performance.coefficients import Coefficients, coefficients_of
from simulator.performance.collectives import all_gather, send_recv
from simulator.performance.engine import Engine
from simulator.performance.feed_forward import per_rank
from simulator.performance.layers import output_head, stage_layers
from simulator.performance.matrix_product import ACTIVATION_BYTES, gemm
from simulator.performance.pipeline import Stage, in_pipeline
from simulator.performance.roofline import Floats, Work
from simulator.performance.topology import Group, group_of, topology_of


def coefficients(own: Engine) -> Coefficients:
    """Return the coefficients of an engine on the accelerators of one stage."""
    return coefficients_of(own.accelerator, own.profile, own.accelerators, own.kernels)


def micro_batches(engine: Engine, tokens: Floats) -> Floats:
    """Return into how many micro-batches steps of so many tokens are cut, shape (n,)."""
    return np.minimum(tokens, engine.pp)


def stage_part(own: Engine, stage: Stage, tokens: Floats) -> Work:
    """Return the token-wise work of one stage on one micro-batch; of the last with the output head's weights.

    Parameters
    ----------
    own
        The engine on the accelerators of the stage.
    tokens
        Tokens of a micro-batch, shape (n,), at least 1.
    """
    # A stage's place is in the head and the embedding, not in its layers.
    work = stage_layers(own, coefficients(own), tokens, replace(stage, first=False, last=False))
    return work + _head_weights(own, tokens) if stage.last else work


def mixed_layers(engine: Engine, tokens: Floats) -> Work:
    """Return the token-wise work of all layers, attention itself excluded; as :func:`layers` for equal accelerators."""
    count = micro_batches(engine, tokens)
    each = np.ceil(tokens / count)
    parts = [stage_part(own, stage, each) for stage, own in zip(engine.stages, engine.stage_engines, strict=True)]
    return in_pipeline(parts, mean_send(engine, each), count)


def mean_send(engine: Engine, tokens: Floats) -> Work:
    """Return the work of sending a micro-batch of so many tokens on, the mean over the pp − 1 boundaries."""
    first, *others = [send(*ends, tokens) for ends in pairwise(engine.stage_engines)]
    for other in others:
        first += other
    return first * (1.0 / (engine.pp - 1))


def last_sequences(last: Engine, sequences: Floats) -> Work:
    """Return what so many sequences of a step add to the head's weights: the rest of the head, and bookkeeping.

    Parameters
    ----------
    last
        The engine on the accelerators of the last stage.
    sequences
        Sequences of the whole step, shape (n,). Means of resources are over all stages.
    """
    count = np.clip(sequences, 1, last.pp)
    weights = _head_weights(last, sequences)
    read = replace(weights * (count / last.pp), seconds=count * weights.seconds)
    return output_head(last, coefficients(last), sequences) + read * -1.0


def _head_weights(last: Engine, like: Floats) -> Work:
    """Return the work of the output head on no sequence: reading its weights, and a launch."""
    model = last.model
    none = np.zeros_like(like)
    return gemm(last, coefficients(last), none, model.hidden, model.vocab / last.tp, quantised=False)


def send(sender: Engine, receiver: Engine, tokens: Floats) -> Work:
    """Return the work of sending a micro-batch's activations from one stage to the next.

    Equal accelerators are linked as in one server or network; different ones are in different servers, and the network
    of the slower end decides. The receiver's tensor-parallel accelerators gather the parts.

    Parameters
    ----------
    sender, receiver
        The engine on the accelerators of either stage; the same object where these are equal.
    tokens
        Tokens of a micro-batch, shape (n,).
    """
    activations = per_rank(sender, tokens) * sender.model.hidden * ACTIVATION_BYTES
    share = activations / sender.tp
    if sender is receiver:
        sent = send_recv(share, sender.group(2, sender.tp * sender.dp), coefficients(sender))
    else:
        ends = [send_recv(share, _network(end), coefficients(end)) for end in (sender, receiver)]
        slower = ends[0].seconds >= ends[1].seconds
        sent = Work(*(np.where(slower, *parts) for parts in zip(ends[0].parts, ends[1].parts, strict=True)))
    return sent + all_gather(activations, receiver.tensor_group, coefficients(receiver))


def _network(end: Engine) -> Group:
    """Return two of the end's accelerators in different servers of a rack."""
    topology = topology_of(end.accelerator)
    return group_of(topology, 2, stride=topology.levels[0].devices, client_devices=1)
