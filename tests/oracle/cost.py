"""What steps and batches last: the tables and formulas of a cost profile."""

from collections.abc import Sequence
from dataclasses import dataclass

# The values of T for which a profile gives `linear`.
LINEAR_KNOTS: tuple[int, ...] = (*range(1025), *range(1056, 8193, 32), *range(8704, 131073, 512))
# `sequences` is given for every S up to this one.
LAST_SEQUENCES = 1024


@dataclass(frozen=True)
class OracleProfile:
    """Cost coefficients of a client: `linear` at `LINEAR_KNOTS`, `sequences` at 0..1024."""

    linear: Sequence[int]
    sequences: Sequence[int]
    attention_ps: int
    pair: int
    read: int
    window_ps: int = 0
    window_pair: int = 0
    decode_ps: int = 0
    decode_sequence_ps: int = 0


def linear_cost(linear: Sequence[int], tokens: int) -> int:
    """`linear[T]`: exact at a knot, interpolated between two, extrapolated from the last two beyond them."""
    assert len(linear) == len(LINEAR_KNOTS)
    if tokens in LINEAR_KNOTS:
        return linear[LINEAR_KNOTS.index(tokens)]
    below = [k for k, knot in enumerate(LINEAR_KNOTS) if knot < tokens]
    k = min(below[-1], len(LINEAR_KNOTS) - 2)
    lo, hi = linear[k], linear[k + 1]
    width = LINEAR_KNOTS[k + 1] - LINEAR_KNOTS[k]
    return lo + ((hi - lo) * (tokens - LINEAR_KNOTS[k])) // width


def sequences_cost(sequences: Sequence[int], count: int) -> int:
    """`sequences[S]`, extrapolated by its last difference."""
    assert len(sequences) == LAST_SEQUENCES + 1
    if count <= LAST_SEQUENCES:
        return sequences[count]
    last_difference = sequences[LAST_SEQUENCES] - sequences[LAST_SEQUENCES - 1]
    return sequences[LAST_SEQUENCES] + (count - LAST_SEQUENCES) * last_difference


def prefill_cost(profile: OracleProfile, earlier: int, chunk: int, window_tokens: int = 0) -> int:
    """Attention of a chunk of `chunk` tokens after `earlier` ones, also in the layers that see a window."""
    against_earlier = earlier * max(chunk * profile.pair, profile.read)
    within_chunk = (chunk * (chunk + 1) // 2) * profile.pair
    seen = sum(min(earlier + i, window_tokens) for i in range(1, chunk + 1))
    return ((against_earlier + within_chunk) >> 10) + ((profile.window_pair * seen) >> 10)
