"""Least busy time that a token costs a client, however well it is batched with others.

Prices for a token of a prompt, a decode and a KV block in use such that no possible step costs less than the prices of
what it does. The work of any requests, at these prices, is then a bound on the time in steps that they take: a dual
solution of the linear program that packs all work into the cheapest steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dse.bounds.step_floor import StepFloor, lower_hull, running_minimum

Floats = npt.NDArray[np.float64]

PRICES_TRIED: Final = 9
"""Prices of a prompt's token that are tried where prompts and decodes share steps; any of them gives a bound."""

CHUNK_ROUNDING_PS: Final = 2.0
"""Most that the attention of a chunk loses to rounding down."""


@dataclass(frozen=True)
class Prices:
    """What no step undercuts, picoseconds.

    Attributes
    ----------
    prompt_token, decode
        For each token of a prompt, and for each request that decodes in a step; attention is not in it.
    block
        For each KV block that the decoding requests of a step hold.
    batch
        For a whole batch, of which a request is the share that its prompt has of the token budget; static batching.
    """

    prompt_token: float
    decode: float
    block: float
    batch: float = 0.0


def prompt_price(floor: StepFloor) -> float:
    """Return the least time of a prompt's token in any step."""
    each = (floor.least + floor.least_sequences[0]) / floor.knots
    return max(0.0, float(each.min()) - CHUNK_ROUNDING_PS)


def decode_prices(decodes: Floats, steps: Floats, batch: float) -> tuple[float, float]:
    """Return the constant and the slope of the line below all steps that is highest at a batch size.

    Parameters
    ----------
    decodes, steps
        Numbers of decodes in a step and its least duration, shape (n,).
    batch
        Batch size that the KV cache allows on average. Where it is beyond ``decodes`` there is no constant.
    """
    if batch >= decodes[-1]:
        return 0.0, float((steps / decodes).min())
    at, value = lower_hull(decodes, steps)
    if len(at) == 1:
        return 0.0, float(value[0] / at[0])
    right = int(np.clip(np.searchsorted(at, batch, side="right"), 1, len(at) - 1))
    slope = float((value[right] - value[right - 1]) / (at[right] - at[right - 1]))
    constant = float(value[right]) - slope * float(at[right])
    # With a negative constant a KV block would have a negative price: there the line through the origin is used.
    return (constant, slope) if constant > 0 else (0.0, float((steps / decodes).min()))


def best_prices(
    floor: StepFloor,
    prompt_tokens: float,
    decodes: float,
    block_decodes: float,
    most_decodes: int,
    share_decodes: float = 0.0,
) -> Prices:
    """Return the prices at which some work costs most.

    Parameters
    ----------
    floor
        Of the client's steps.
    prompt_tokens, decodes
        Tokens of prompts, and decodes, in all.
    block_decodes
        KV blocks that decodes hold, summed over decodes.
    most_decodes
        Most decodes in a step.
    share_decodes
        Shares of a batch that decodes have, summed over decodes; 0 if the token budget does not limit batches.
    """
    client = floor.client
    count = np.arange(1, most_decodes + 1, dtype=np.float64)
    batch = client.total_blocks * decodes / block_decodes if block_decodes > 0 else np.inf
    alone = prompt_price(floor)
    if client.policy == "chunked" and decodes == 0:
        return Prices(alone, 0.0, 0.0)
    if client.policy != "chunked":
        steps = floor.decode_steps[:most_decodes]
        constant, slope = decode_prices(count, steps, batch)
        by_blocks = Prices(alone, slope, constant / client.total_blocks)
        if share_decodes <= 0:
            return by_blocks
        whole, each = decode_prices(count, steps, decodes / share_decodes)
        dearer = each * decodes + whole * share_decodes > slope * decodes + by_blocks.block * block_decodes
        return Prices(alone, each, 0.0, whole) if dearer else by_blocks
    best, most = Prices(alone, 0.0, 0.0), -1.0
    others = floor.least_sequences[:most_decodes] + client.decode_ps + client.decode_sequence_ps * count
    tokens = count * (1 + client.draft)
    for share in np.linspace(0.0, 1.0, PRICES_TRIED):
        price = alone * float(share)
        # What is left of a step when its prompts have paid: least over how many tokens of prompts are in it.
        left = running_minimum(floor.linear - price * floor.knots)
        steps = np.interp(tokens, floor.knots, left) + price * tokens + others
        constant, slope = decode_prices(count, steps, batch)
        if slope < 0:
            continue
        value = price * prompt_tokens + slope * decodes + constant / client.total_blocks * block_decodes
        if value > most:
            best, most = Prices(max(0.0, price - CHUNK_ROUNDING_PS), slope, constant / client.total_blocks), value
    return best
