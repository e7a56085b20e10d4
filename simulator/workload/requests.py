"""The requests of one workload as three parallel arrays."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Picoseconds in a second: times are integers, so that the simulation is exact.
PS_PER_S: Final = 1_000_000_000_000
#: Longest span of arrivals in seconds: int64 picoseconds hold 106 days, and the last request must finish too.
MAX_DURATION_S: Final = 90 * 86_400


@dataclass(frozen=True, eq=False)
class Requests:
    """Requests in order of arrival; the first arrives at 0.

    The constructor casts, sorts by arrival (requests of the same instant keep their order) and shifts
    as needed. The arrays are read-only.

    Parameters
    ----------
    arrival_ps
        Arrival times in picoseconds, shape ``(n,)``, int64.
    prompt_tokens, output_tokens
        Tokens to read and to write, shape ``(n,)``, int32, at least 1.

    Raises
    ------
    ValueError
        If there is no request, the shapes differ or a request has less than one token.
    """

    arrival_ps: NDArray[np.int64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Bring the arrays to the promised form."""
        arrival_ps = np.array(self.arrival_ps, dtype=np.int64)
        prompt_tokens = np.array(self.prompt_tokens, dtype=np.int32)
        output_tokens = np.array(self.output_tokens, dtype=np.int32)
        shape = arrival_ps.shape
        if len(shape) != 1 or shape != prompt_tokens.shape or shape != output_tokens.shape:
            raise ValueError(
                "requests: three arrays of one length are needed, "
                f"given shapes {shape}, {prompt_tokens.shape}, {output_tokens.shape}"
            )
        if not shape[0]:
            raise ValueError("requests: at least one is needed, given none")
        if prompt_tokens.min() < 1 or output_tokens.min() < 1:
            raise ValueError("requests: every prompt and output needs at least 1 token")
        if np.any(arrival_ps[1:] < arrival_ps[:-1]):
            order = np.argsort(arrival_ps, kind="stable")
            arrival_ps, prompt_tokens, output_tokens = (
                arrival_ps[order],
                prompt_tokens[order],
                output_tokens[order],
            )
        arrival_ps -= arrival_ps[0]
        for name, array in (
            ("arrival_ps", arrival_ps),
            ("prompt_tokens", prompt_tokens),
            ("output_tokens", output_tokens),
        ):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        """Return the number of requests."""
        return int(self.arrival_ps.size)

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last arrival."""
        return float(self.arrival_ps[-1]) / PS_PER_S

    @property
    def rate_rps(self) -> float:
        """Mean rate in requests per second: gaps by duration; infinite if all arrive at once."""
        return (len(self) - 1) / self.duration_s if self.duration_s > 0 else math.inf

    def fingerprint(self) -> str:
        """Return 16 hex digits of the SHA-256 of the arrays: equal for equal requests."""
        digest = hashlib.sha256()
        for array, dtype in (
            (self.arrival_ps, "<i8"),
            (self.prompt_tokens, "<i4"),
            (self.output_tokens, "<i4"),
        ):
            digest.update(array.astype(dtype).tobytes())
        return digest.hexdigest()[:16]
