"""Pipeline stages: which layers each holds, and how long a step of all of them lasts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simulator.catalog import Model
from simulator.performance.roofline import Floats, Work


@dataclass(frozen=True)
class Stage:
    """Layers on the accelerators of one pipeline stage.

    Kinds of layers that a model spreads over its depth are spread over the stages in proportion, so their numbers may
    be fractions; dense layers that lead are where they are.

    Attributes
    ----------
    layers
        All layers.
    attention, windowed
        Layers with attention, and those of them with a sliding window.
    state_space
        State-space layers.
    dense, mixture
        Layers with a dense feed-forward block, and with experts.
    first, last
        Whether the stage holds the embedding, and the output head.
    """

    layers: int
    attention: float
    windowed: float
    state_space: float
    dense: float
    mixture: float
    first: bool
    last: bool


def even_layers(layers: int, pp: int) -> tuple[int, ...]:
    """Return the layers of each stage where nothing is said: equal, with the remainder on the stages before the last.

    The last stage has the output head, the first the embedding lookup, so the last is spared first.
    """
    each, more = divmod(layers, pp)
    return tuple(each + (pp - 1 - more <= stage < pp - 1) for stage in range(pp))


def stages(model: Model, layers_per_stage: tuple[int, ...]) -> tuple[Stage, ...]:
    """Return the stages of a model.

    Parameters
    ----------
    model
        The model.
    layers_per_stage
        Layers of each stage; their sum is that of the model.
    """
    found = []
    begin = 0
    leading = model.moe.dense_layers if model.moe and model.moe.dense_first else 0
    for index, count in enumerate(layers_per_stage):
        share = count / model.layers
        feed_forward = model.feed_forward_layers * share
        dense = model.dense_layers * share
        if leading:
            dense = float(min(max(leading - begin, 0), count))
        found.append(
            Stage(
                layers=count,
                attention=model.attention_layers * share,
                windowed=model.window_layers * share,
                state_space=model.state_space_layers * share,
                dense=dense,
                mixture=feed_forward - dense,
                first=index == 0,
                last=index == len(layers_per_stage) - 1,
            )
        )
        begin += count
    return tuple(found)


def in_pipeline(parts: list[Work], send: Work, micro_batches: Floats) -> Work:
    """Return the work of a step in the steady state from that of one micro-batch on each stage.

    Micro-batches go round a ring: when one leaves the last stage, its next step enters the first. As many as there are
    stages are in flight at most, and the pipeline never drains (vLLM, SGLang and TensorRT-LLM serve in this way; a
    pipeline for training drains, arXiv:1811.06965, section 2). A round of m micro-batches, in which every sequence
    advances by a step, lasts until the slowest stage has worked on each of them, and not less than one needs for its
    way through all stages::

        max(m · slowest stage, sum of the stages + (pp − 1) · send)

    For equal stages these are pp stage times, whether m is pp or less. Sends do not occupy the stages. Arithmetic,
    memory and links are means over the stages, so that the whole client's work is this times its accelerators.

    Parameters
    ----------
    parts
        Work of each stage on one micro-batch.
    send
        Sending a micro-batch's activations on.
    micro_batches
        Micro-batches m of the step, 1 to pp, same shape.
    """
    pp = len(parts)
    total = parts[0]
    for part in parts[1:]:
        total += part
    slowest = np.max([part.seconds for part in parts], axis=0)
    each = micro_batches / pp
    mean = (total + send * (pp - 1.0)) * each
    seconds = np.maximum(micro_batches * slowest, total.seconds + (pp - 1) * send.seconds)
    return replace(mean, seconds=seconds)
