"""A workload as the screen sees it: its rate, its mean request, and quantiles of weighted sums of lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dse.bounds.load import Load
from dse.screening.pool_settings import Floats

RATIOS = np.concatenate([[0.0], np.geomspace(0.01, 1000.0, 48)])
"""Time of an answer token over that of a prompt token, for which quantiles of their sum are kept."""
SAMPLE = 4096
"""Requests, evenly spaced, from which quantiles are taken."""


@dataclass(frozen=True)
class LoadProfile:
    """Means and quantiles of the requests of a stage.

    Attributes
    ----------
    prompt_tokens, output_tokens
        Of a sample of the requests, shape (sample,).
    requests
        Their number.
    rate_rps
        Requests of the stage by the time between the first and the last arrival.
    last_arrival_s
        Arrival of the last request of the workload.
    follows
        Whether some of them follow others.
    """

    prompt_tokens: Floats
    output_tokens: Floats
    requests: int
    rate_rps: float
    last_arrival_s: float
    follows: bool = False
    _quantiles: dict[float, Floats] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, load: Load, stage: str) -> LoadProfile:
        """Return the profile of the requests that pass an LLM stage."""
        rows, lengths = load.stage_rows[stage], load.lengths[stage]
        # A stage that no request comes to is as if it had one of a single token, at no rate.
        alone = np.ones(1 - min(len(rows), 1))
        sample = np.unique(np.linspace(0, max(len(rows) - 1, 0), min(len(rows), SAMPLE)).astype(np.intp))
        last_s = float(load.arrival_s.max())
        return cls(
            prompt_tokens=np.append(alone, lengths.prompt_tokens[sample]),
            output_tokens=np.append(alone, lengths.output_tokens[sample]),
            requests=len(rows),
            rate_rps=len(rows) / max(last_s, 1e-9),
            last_arrival_s=last_s,
            follows=bool(load.follows.any()),
        )

    @cached_property
    def mean_prompt_tokens(self) -> float:
        """Mean length of prompts."""
        return float(self.prompt_tokens.mean())

    @cached_property
    def mean_output_tokens(self) -> float:
        """Mean length of answers."""
        return float(self.output_tokens.mean())

    @cached_property
    def mean_pairs(self) -> float:
        """Mean number of (query, key) pairs of a prompt."""
        return float((self.prompt_tokens * (self.prompt_tokens + 1) / 2).mean())

    @cached_property
    def mean_decode_context_tokens(self) -> float:
        """Mean context of a decode iteration: of a request's, weighted by its answer's length."""
        context = self.prompt_tokens + self.output_tokens / 2
        return float((context * self.output_tokens).sum() / self.output_tokens.sum())

    def prompt_quantile_tokens(self, percent: float) -> float:
        """Return a percentile of the prompts' length."""
        return float(np.percentile(self.prompt_tokens, percent))

    def sum_quantiles_tokens(self, percent: float) -> Floats:
        """Return a percentile of ``prompt + ratio · (output − 1)`` for each of ``RATIOS``."""
        if percent not in self._quantiles:
            sums = self.prompt_tokens + RATIOS[:, None] * (self.output_tokens - 1)
            self._quantiles[percent] = np.asarray(np.percentile(sums, percent, axis=1))
        return self._quantiles[percent]
