"""KV that leaves a client: handed over, swapped, or stored in a tier.

What is handed over is what the ranks of a client hold: each sends its own to its counterpart, so KV heads that are
replicated, where there are more accelerators than heads, and a latent (MLA), which each holds in full, are sent as
often as they are held. (SGLang with Mooncake, Qwen3-235B over 8 ranks: 4 KV heads, every byte twice on the network.)
What is swapped or stored counts once. With data parallelism a request lies on one rank; pipeline stages hold different
layers, which add up.

The time of a hand-over is ``layers · LAYER_S + bytes / (NETWORK_SHARE · bandwidth)``: blocks of every layer are sent
one by one, which costs a start-up for each.
"""

from __future__ import annotations

from typing import Final

from simulator.performance.engine import BYTES_PER_ELEMENT, Engine
from simulator.performance.memory import PHANTOM_TOKENS
from simulator.performance.state_space import sharded_state_bytes

NETWORK_SHARE: Final = 0.793
"""Share of the raw bandwidth of all network adapters together that hand-overs reach; fitted by
``dse/calibration/kv_transfer.py`` to Mooncake's transfer engine (kvcache-ai/Mooncake, docs/source/performance: vLLM
0.11 with Qwen3-8B, SGLang with Qwen3-235B; prefill and decode on 8 GPUs each, 200 GB/s over RoCE)."""

LAYER_S: Final = 15.8e-6
"""Start-up of each layer's KV, seconds, fitted likewise."""


def hand_over_bytes(engine: Engine) -> tuple[float, float]:
    """Return the bytes that a hand-over moves for each token of the prompt, and those for a request besides.

    Every rank sends what it holds, see :func:`copies`. Per token the KV of layers that see the whole context; besides
    the recurrent state, and the KV of layers with a window for a whole window: a shorter prompt has less, which is not
    seen. A draft model's KV is not sent.
    """
    growing, window, state = _distinct_bytes(engine)
    held = copies(engine)
    return growing * held, window * held + state


def network_bytes_per_s(engine: Engine) -> float:
    """Return the raw bandwidth of the networks of all accelerators that hold a request's KV, bytes per second.

    Where pipeline stages have different accelerators, each sends the KV of its own layers, and the slowest decides.
    """
    if engine.stage_accelerators is None:
        return engine.accelerator.scale_out_bytes_per_s * engine.tp * engine.pp
    return min(
        own.accelerator.scale_out_bytes_per_s * engine.tp * engine.model.layers / stage.layers
        for own, stage in zip(engine.stage_engines, engine.stages, strict=True)
    )


def copies(engine: Engine) -> float:
    """Return how many tensor-parallel ranks hold the same element of KV."""
    if engine.model.mla:
        return float(engine.tp)
    return max(1.0, engine.tp / engine.model.kv_heads)


def start_up_s(engine: Engine, *, layer_wise: bool) -> float:
    """Return the start-up of a hand-over, seconds; sent layer by layer, that of the last layer is left at the end."""
    return LAYER_S * (1 if layer_wise else engine.model.layers)


def _distinct_bytes(engine: Engine) -> tuple[float, float, float]:
    """Return the bytes of a token in layers that see everything, of full windows, and of states, each counted once."""
    model = engine.model
    layer = model.kv_elements_per_token_per_layer * BYTES_PER_ELEMENT[engine.kv]
    window = model.window.layers * model.window.window_tokens * layer if model.window else 0.0
    state = model.ssm.layers * sharded_state_bytes(model.ssm, 1) if model.ssm else 0.0
    return model.growing_layers * layer, window, state


def kv_bytes_per_token_of_client(engine: Engine) -> float:
    """Return the bytes that a token of context takes for good in a client's KV, each element counted once.

    The layers that see the whole context, and the draft model's. In a model without any, a token takes 2^-20 of what a
    request holds besides, as in :func:`simulator.performance.memory.context_bytes_per_token`, so it is never 0.
    """
    growing, window, state = _distinct_bytes(engine)
    if engine.draft:
        draft = engine.draft.model
        growing += draft.kv_elements_per_token * BYTES_PER_ELEMENT[engine.draft.kv]
    return growing or (window + state) / PHANTOM_TOKENS
