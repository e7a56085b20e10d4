"""A steady state of many pools at once: how busy their clients are, and how long a request takes.

A client that gets ``rate`` requests per second spends the share ``u = rate · S`` of its time on prompts of mean time S
and decodes in what is left. With ``b`` requests decoding, an iteration takes ``d(b)``, so a token takes
``T = d(b) / (1 − u)``; and by Little's law ``b = rate · tokens · T``. The batch is the fixed point of the two. If it is
beyond what the batch limit or KV memory hold, the client is overloaded by that factor.

These are predictions, to tell where to look first; nothing is excluded by them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dse.screening.distinct import Indices
from dse.screening.load import LoadProfile
from dse.screening.pool_settings import Floats, PoolSettings

STATE = np.dtype(
    [
        ("prompt_s", "f8"),
        ("prompt_token_s", "f8"),
        ("load", "f8"),
        ("capacity_rps", "f8"),
        ("wait_s", "f8"),
        ("token_s", "f8"),
        ("batch_requests", "f8"),
        ("busy", "f8"),
    ]
)
"""Time of a mean prompt by itself, and of a further token of it; work that arrives over the most that can be done
(above 1 the queue grows); requests per second at which that is so; mean wait before a prompt is read; time of an output
token; requests that decode at the same time; share of time in steps."""

ROUNDS = 12
"""Of the fixed point: each moves half way, so it ends within a thousandth unless the client is near its limit."""
FULL = 0.98
"""Share of time spent on prompts beyond which a client counts as overloaded."""


def steady_state(settings: PoolSettings, setting: Indices, rate_rps: Floats, load: LoadProfile) -> npt.NDArray[Any]:
    """Return the steady state of clients as records of dtype ``STATE``, shape (n,).

    Parameters
    ----------
    settings
        Of the pool.
    setting, rate_rps
        A possible setting of each client and requests that arrive there per second, shape (n,).
    load
        What requests are like.
    """
    own = settings.records[setting]
    engine, chunked, decodes = own["engine"], own["chunked"], own["decodes"]
    prompt, output = load.mean_prompt_tokens, max(load.mean_output_tokens - 1.0, 1e-9)
    chunks = np.where(chunked, np.maximum(1.0, np.ceil(prompt / own["token_budget_tokens"])), 1.0)
    step = settings.linear_s(engine, prompt / chunks)
    pairs = load.mean_pairs * own["prefill_pair_s"]
    prompt_s = chunks * (step + settings.sequences_s(engine, np.ones(len(own)))) + pairs
    further = (settings.linear_s(engine, prompt / chunks * 1.25) - step) / (prompt / chunks * 0.25)
    prompt_token_s = np.maximum(further, 0.0) + own["prefill_pair_s"] * prompt

    context = load.mean_decode_context_tokens
    held = load.mean_prompt_tokens + load.mean_output_tokens
    room = np.minimum(own["max_batch_requests"], np.maximum(own["kv_tokens"] / held, 1.0))

    def iteration_s(batch: Floats) -> Floats:
        each = own["decode_s"] * context + own["decode_sequence_s"]
        fixed = settings.linear_s(engine, batch) + settings.sequences_s(engine, np.minimum(batch, 2000.0))
        return np.asarray(fixed + batch * each + own["decode_step_s"])

    reading = np.where(own["prefills"], rate_rps * prompt_s, 0.0)
    # Beside decodes a chunk costs only what it adds to their step.
    reading *= np.where(chunked & decodes, np.minimum(1.0, prompt_token_s * prompt / prompt_s), 1.0)
    left = np.maximum(1.0 - reading, 1.0 - FULL)
    most = np.where(decodes, room / (output * iteration_s(room)), np.inf)
    batch = np.ones(len(own))
    for _ in range(ROUNDS):
        wanted = rate_rps * output * iteration_s(batch) / left
        batch = np.clip(0.5 * (batch + wanted), 0.5, room)
    alone_s = np.where(decodes, iteration_s(np.maximum(batch, 1.0)), 0.0)
    pressure = np.minimum(reading, 0.97)

    state = np.zeros(len(own), STATE)
    state["prompt_s"], state["prompt_token_s"] = prompt_s, prompt_token_s
    state["load"] = np.maximum(reading / FULL, rate_rps / (most * left))
    # Time on prompts grows with the rate, too: at the limit the two take all there is.
    prompt_share = reading / np.maximum(rate_rps, 1e-12)
    state["capacity_rps"] = FULL / np.maximum(np.where(decodes, 1.0 / most, 0.0) + prompt_share, 1e-12)
    state["wait_s"] = prompt_s * pressure / (1.0 - pressure) + 0.5 * alone_s
    state["token_s"] = alone_s / left
    state["batch_requests"] = np.where(decodes, batch, 0.0)
    # A batch of b on average is empty with a probability of about e^-b.
    state["busy"] = np.where(
        decodes, np.minimum(reading + left * (1.0 - np.exp(-batch)), 1.0), np.minimum(reading, 1.0)
    )
    return state
