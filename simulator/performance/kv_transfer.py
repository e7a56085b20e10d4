"""Bytes of KV that leave a client: handed over, swapped, or stored in a tier.

They are counted over all accelerators of a client. KV heads that are replicated, where there are more accelerators
than heads, and a latent (MLA), which each holds in full, count once: so much is sent. With data parallelism a request
lies on one rank; pipeline stages hold different layers, which add up.
"""

from __future__ import annotations

from simulator.performance.engine import BYTES_PER_ELEMENT, Engine
from simulator.performance.memory import PHANTOM_TOKENS
from simulator.performance.state_space import sharded_state_bytes


def hand_over_bytes(engine: Engine) -> tuple[float, float]:
    """Return the bytes that a hand-over moves for each token of the prompt, and those for a request besides.

    Per token the KV of layers that see the whole context; besides the recurrent state, and the KV of layers with a
    window for a whole window: a shorter prompt has less, which is not seen. A draft model's KV is not sent.
    """
    model = engine.model
    layer = model.kv_elements_per_token_per_layer * BYTES_PER_ELEMENT[engine.kv]
    constant = 0.0
    if model.window:
        constant += model.window.layers * model.window.window_tokens * layer
    if model.ssm:
        constant += model.ssm.layers * sharded_state_bytes(model.ssm, 1)
    return model.growing_layers * layer, constant


def kv_bytes_per_token_of_client(engine: Engine) -> float:
    """Return the bytes that a token of context takes for good in a client's KV, each element counted once.

    The layers that see the whole context, and the draft model's. In a model without any, a token takes 2^-20 of what a
    request holds besides, as in :func:`simulator.performance.memory.context_bytes_per_token`, so it is never 0.
    """
    growing, constant = hand_over_bytes(engine)
    if engine.draft:
        draft = engine.draft.model
        growing += draft.kv_elements_per_token * BYTES_PER_ELEMENT[engine.draft.kv]
    return growing or constant / PHANTOM_TOKENS
