"""How long requests are: all that the floors of a pool look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.workload import Prefixes

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lengths:
    """Lengths of requests, or of representatives of them, as parallel arrays of shape (n,).

    Attributes
    ----------
    prompt_tokens, output_tokens
        Tokens to read, with what retrieval added, and to write; at least 1.
    reused_tokens
        Tokens at the start of a prompt that other requests share: all that a prefix cache can spare of it.
    known_tokens
        Tokens at the start of a prompt that a cache could spare if it is read a second time.
    weights
        Requests that each of them stands for; 1 if None.
    longest_tokens
        Most that prompt and answer of a request have together, among all that they stand for.
    numbers
        Number of each request in its workload, which its draws depend on; None: draws are not known.
    """

    prompt_tokens: Integers
    output_tokens: Integers
    reused_tokens: Integers
    known_tokens: Integers
    longest_tokens: int
    weights: Floats | None = None
    numbers: Integers | None = None

    @classmethod
    def of(
        cls,
        prompt_tokens: npt.ArrayLike,
        output_tokens: npt.ArrayLike,
        *,
        weights: npt.ArrayLike | None = None,
        longest_tokens: int | None = None,
    ) -> Lengths:
        """Return lengths of requests that share nothing, or of representatives: each no longer than whom it stands for.

        Parameters
        ----------
        prompt_tokens, output_tokens
            Tokens to read and to write, shape (n,).
        weights
            Requests that each stands for, shape (n,); 1 if absent.
        longest_tokens
            Most that prompt and answer of a request have together; the longest given if absent.
        """
        prompt, output = (np.asarray(given, dtype=np.int64) for given in (prompt_tokens, output_tokens))
        nothing = np.zeros(prompt.shape, dtype=np.int64)
        longest = int((prompt + output).max()) if longest_tokens is None else longest_tokens
        each = None if weights is None else np.asarray(weights, dtype=np.float64)
        return cls(prompt, output, nothing, nothing, longest, each)

    @classmethod
    def of_records(cls, rows: npt.NDArray[Any], prefixes: Prefixes | None, reused: npt.NDArray[np.int32]) -> Lengths:
        """Return the lengths of the kernel's records of requests.

        Parameters
        ----------
        rows
            Records of requests.
        prefixes
            What their prompts share.
        reused
            Leading chunks of each prompt that other requests have too, shape (n,).
        """
        prompt = rows["prompt_tokens"].astype(np.int64)
        shared = known = np.zeros(prompt.shape, dtype=np.int64)
        if prefixes is not None:
            # At least the last token of a prompt is computed.
            most = (prompt - 1) // prefixes.chunk_tokens
            shared = np.minimum(reused, most) * prefixes.chunk_tokens
            known = np.minimum(prefixes.prompt_chunks, most) * prefixes.chunk_tokens
        output, numbers = rows["output_tokens"].astype(np.int64), rows["number"].astype(np.int64)
        return cls(prompt, output, shared, known, int((prompt + output).max(initial=2)), numbers=numbers)

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.prompt_tokens)

    @cached_property
    def context_tokens(self) -> Integers:
        """Return prompt and answer together."""
        return self.prompt_tokens + self.output_tokens

    @cached_property
    def later_tokens(self) -> Integers:
        """Return the tokens after the first."""
        return self.output_tokens - 1

    @cached_property
    def count(self) -> float:
        """Return the number of requests that they stand for."""
        return float(len(self)) if self.weights is None else float(self.weights.sum())

    def total(self, values: npt.NDArray[Any]) -> float:
        """Return the sum of values over all requests that they stand for."""
        return float(values.sum() if self.weights is None else values @ self.weights)

    @cached_property
    def later_contexts(self) -> Floats:
        """Return the contexts of the tokens after the first, summed: of the j-th ``prompt + j``."""
        later = self.later_tokens.astype(np.float64)
        return later * self.prompt_tokens + later * (later + 1) / 2
