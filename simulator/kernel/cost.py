"""Duration of a step, from tables and coefficients."""

from simulator.kernel._compile import compiled
from simulator.kernel.layout import (
    COEFFICIENT_SHIFT,
    EXACT_TOKENS,
    LAST_KNOT,
    LAST_SHIFT,
    LINEAR_KNOTS,
    MIDDLE_KNOT,
    MIDDLE_SHIFT,
    MIDDLE_TOKENS,
    SEQUENCE_KNOTS,
)


@compiled
def knot_of(tokens):
    """Return the last knot of the linear table at or before a number of tokens."""
    if tokens <= EXACT_TOKENS:
        return tokens
    if tokens < MIDDLE_TOKENS:
        return MIDDLE_KNOT + ((tokens - EXACT_TOKENS) >> MIDDLE_SHIFT)
    knot = LAST_KNOT + ((tokens - MIDDLE_TOKENS) >> LAST_SHIFT)
    return min(knot, LINEAR_KNOTS - 2)


@compiled
def linear_ps(scratch, table, tokens):
    """Return the time of everything but attention, interpolated over the tokens of a step."""
    knot = knot_of(tokens)
    low = scratch[table + knot]
    if tokens <= EXACT_TOKENS:
        return low
    if tokens < MIDDLE_TOKENS:
        shift = MIDDLE_SHIFT
        beyond = tokens - EXACT_TOKENS - ((knot - MIDDLE_KNOT) << shift)
    else:
        shift = LAST_SHIFT
        beyond = tokens - MIDDLE_TOKENS - ((knot - LAST_KNOT) << shift)
    return low + (((scratch[table + knot + 1] - low) * beyond) >> shift)


@compiled
def sequences_ps(scratch, table, sequences):
    """Return the time that grows with the sequences of a step: LM head, sampling, bookkeeping."""
    last = table + SEQUENCE_KNOTS - 1
    beyond = sequences - (SEQUENCE_KNOTS - 1)
    if beyond <= 0:
        return scratch[table + sequences]
    return scratch[last] + beyond * (scratch[last] - scratch[last - 1])


@compiled
def pairs_in_window(chunk, before, window):
    """Return the (query, key) pairs of a prefill chunk if a token sees at most ``window`` tokens, itself included."""
    growing = max(0, min(chunk, window - before))
    return growing * before + growing * (growing + 1) // 2 + (chunk - growing) * window


@compiled
def prefill_attention_ps(client, chunk, before):
    """Return the attention time of a prefill chunk after ``before`` tokens of the same prompt."""
    context = before * max(chunk * client.prefill_pair, client.prefill_read)
    whole = (context + (chunk * (chunk + 1) // 2) * client.prefill_pair) >> COEFFICIENT_SHIFT
    if client.window_pair == 0:
        return whole
    pairs = pairs_in_window(chunk, before, client.window_tokens)
    return whole + ((pairs * client.window_pair) >> COEFFICIENT_SHIFT)


@compiled
def run_ps(client, steps):
    """Return the duration of the first iterations of the run under way (an arithmetic series)."""
    return steps * client.step_ps + client.step_growth_ps * (steps * (steps - 1) // 2)
