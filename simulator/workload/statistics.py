"""What a trace teaches: lengths of prompt and output together, and how arrivals burst.

Statistics stand in for a trace that must not be shipped or is too large: they hold about 1 200 numbers and
no row. The shipped ones were learned with (one line each)::

    python -m simulator.workload.statistics ../shared/reference/traces/azure_llm_2023_conv.csv
        --name azure-2023-conversation --source Azure/AzurePublicDataset --licence CC-BY-4.0
        --out simulator/workload/learned/azure-2023-conversation.json
    python -m simulator.workload.statistics ../shared/reference/traces/azure_llm_2023_code.csv
        --name azure-2023-code --source Azure/AzurePublicDataset --licence CC-BY-4.0
        --out simulator/workload/learned/azure-2023-code.json

Not learned: dependence of lengths on time or on the request before, and silences longer than the
modulation makes likely (see :class:`LearnedArrivals`).
"""

from __future__ import annotations

import argparse
import datetime
import functools
import hashlib
import importlib.resources
import json
import re
from pathlib import Path
from typing import Annotated, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from simulator.errors import SpecError, unknown_name
from simulator.files import opened
from simulator.spec.arrivals import SHIPPED_STATISTICS
from simulator.spec.base import Spec
from simulator.spec.distributions import MAX_TOKENS
from simulator.workload.requests import PS_PER_S, Requests

#: Rows needed to learn from: with fewer, 33 quantiles of a class would come close to listing its rows.
MIN_ROWS: Final = 2_000

_PROMPT_KNOTS: Final = 65
_CLASSES: Final = 16
_OUTPUT_KNOTS: Final = 33
_WINDOWS_S: Final = (1.0, 10.0, 60.0, 300.0)

Probability = Annotated[float, Field(ge=0, le=1)]


class QuantileFunction(Spec):
    """A distribution of whole token numbers as a piecewise linear quantile function.

    The cumulative probability of ``tokens[i]`` is ``probabilities[i]`` exactly; between two knots it is
    linear in the tokens. Knots stand where a straight line would err most, weighted towards both tails.
    """

    probabilities: tuple[Probability, ...] = Field(min_length=2, description="cumulative, from 0 to 1")
    tokens: tuple[Annotated[int, Field(ge=0, le=MAX_TOKENS)], ...] = Field(
        min_length=2, description="tokens at these probabilities; the first is one below the least length"
    )

    @model_validator(mode="after")
    def _monotone(self) -> Self:
        if len(self.probabilities) != len(self.tokens):
            raise ValueError("probabilities and tokens must have the same length")
        if self.probabilities[0] != 0 or self.probabilities[-1] != 1:
            raise ValueError("probabilities must start at 0 and end at 1")
        if np.any(np.diff(self.probabilities) < 0) or np.any(np.diff(self.tokens) <= 0):
            raise ValueError("probabilities must not fall and tokens must rise")
        return self


class LearnedLengths(Spec):
    """Joint distribution of prompt and output tokens.

    The prompt has one quantile function. Prompts are cut into classes of equal probability, and each class
    has the quantile function of its own outputs; within a class, output and prompt are independent.
    """

    prompt: QuantileFunction = Field(description="all prompts")
    output_by_prompt_class: tuple[QuantileFunction, ...] = Field(
        min_length=1, description="outputs of each class, from the shortest prompts to the longest"
    )

    def draw_lengths(
        self, prompt_uniforms: NDArray[np.float64], output_uniforms: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Turn uniform numbers into lengths.

        Parameters
        ----------
        prompt_uniforms, output_uniforms
            Independent uniform numbers in ``[0, 1)``, shape ``(n,)``.

        Returns
        -------
        tuple
            Prompt and output tokens (whole numbers as floats), shape ``(n,)``.
        """
        prompt = np.interp(prompt_uniforms, self.prompt.probabilities, self.prompt.tokens)
        # All classes in one table: class k covers [k, k + 1).
        classes = self.output_by_prompt_class
        knots = np.concatenate([k + np.array(each.probabilities) for k, each in enumerate(classes)])
        tokens = np.concatenate([each.tokens for each in classes])
        position = np.floor(prompt_uniforms * len(classes)) + output_uniforms
        output = np.interp(position, knots, tokens)
        # Rounding up makes the probability at each knot exact; 1e-9 absorbs the rounding of interp.
        return np.ceil(prompt - 1e-9), np.ceil(output - 1e-9)


class LearnedArrivals(Spec):
    """A renewal process whose rate is modulated on several time scales.

    Gaps in *operational* time are independent gamma numbers of mean 1 and coefficient of variation
    ``local_cv``. Operational time passes at the rate ``rate_rps * X1(t) * X2(t) * ...``, where ``Xk`` is
    constant over blocks of ``window_s[k]`` seconds and drawn anew for each block: gamma, mean 1, variance
    ``block_variance[k]`` (gamma rather than lognormal: a large variance then means near silence at times, as
    real traces have).

    Learning. ``local_cv² = 2 L / (3 - L)`` from the local variation
    ``L = 3 mean(((g[i+1] - g[i]) / (g[i+1] + g[i]))²)`` of consecutive gaps, which slow modulation does not
    touch (Shinomoto et al. 2003; for gamma gaps of shape κ, ``L = 3 / (2κ + 1)``). The index of dispersion
    of counts in windows w (variance by mean) then gives the relative variance of the rate averaged over them,
    ``V(w) = (dispersion(w) - local_cv²) / (rate_rps w)``, which :func:`_block_variances` splits into scales.
    """

    rate_rps: float = Field(gt=0, description="mean rate of the trace in requests per second")
    gap_cv: float = Field(ge=0, description="coefficient of variation of all gaps (for information)")
    local_cv: float = Field(gt=0, description="coefficient of variation of the gaps without modulation")
    window_s: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1, description="windows and block lengths in seconds, each a multiple of the one before"
    )
    dispersion: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        description="index of dispersion of counts in these windows (for information)"
    )
    block_variance: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        description="variance of the rate factor of each block length, mean 1"
    )

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if not len(self.window_s) == len(self.dispersion) == len(self.block_variance):
            raise ValueError("window_s, dispersion and block_variance must have the same length")
        ratio = np.divide(self.window_s[1:], self.window_s[:-1])
        if np.any(ratio < 2) or np.any(ratio != np.rint(ratio)):
            raise ValueError("window_s: each must be a multiple of the one before")
        return self

    def draw_arrivals(
        self, n: int, stream: np.random.Generator, *, rate_rps: float | None = None
    ) -> NDArray[np.float64]:
        """Return ``n`` arrival times in seconds, from 0, shape ``(n,)``.

        Time is stretched so that the mean rate of *these* requests is exactly ``rate_rps`` (if absent, the
        learned rate): bursts keep their size in requests, and get shorter as the rate rises.
        """
        shape = self.local_cv**-2
        operational = np.cumsum(stream.standard_gamma(shape, n)) / shape
        step_s = self.window_s[0]
        needed = operational[-1] / (self.rate_rps * step_s)
        passed = np.zeros(1)
        # Blocks are drawn in stretches until enough operational time has passed.
        while passed[-1] <= needed:
            stretch = np.cumsum(self._rate_factors(int(needed * 1.2) + 1, stream))
            passed = np.concatenate((passed, passed[-1] + stretch))
        arrival_s: NDArray[np.float64] = np.interp(
            operational, passed * (self.rate_rps * step_s), np.arange(passed.size) * step_s
        )
        arrival_s -= arrival_s[0]
        if n > 1:
            arrival_s *= (n - 1) / ((rate_rps or self.rate_rps) * arrival_s[-1])
        return arrival_s

    def _rate_factors(self, at_least: int, stream: np.random.Generator) -> NDArray[np.float64]:
        """Return the modulation in blocks of ``window_s[0]``, a whole number of the longest blocks."""
        per_longest = round(self.window_s[-1] / self.window_s[0])
        count = -(-at_least // per_longest) * per_longest
        factors = np.ones(count)
        for window_s, variance in zip(self.window_s, self.block_variance, strict=True):
            if variance > 0:
                repeat = round(window_s / self.window_s[0])
                each = stream.standard_gamma(1 / variance, count // repeat) * variance
                factors *= np.repeat(each, repeat)
        return factors


class TraceStatistics(Spec):
    """Everything learned from one trace, and where it came from."""

    name: str = Field(description="name used in specifications")
    source: str = Field(description="project or person the trace comes from")
    licence: str = Field(description="licence of the trace")
    trace_file: str = Field(description="file name of the trace")
    trace_sha256: str = Field(description="SHA-256 of the trace file, hex")
    rows: int = Field(ge=MIN_ROWS, description="number of requests learned from")
    learned_on: str = Field(description="date of the learning, ISO 8601")
    lengths: LearnedLengths = Field(description="prompt and output tokens")
    arrivals: LearnedArrivals = Field(description="arrival process")

    def to_json(self) -> str:
        """Return JSON with every list of numbers on one line."""
        text = json.dumps(self.model_dump(mode="json"), indent=1)
        return re.sub(r"\[[\d\s.,e+-]*\]", lambda found: " ".join(found[0].split()), text) + "\n"


def learn_statistics(
    requests: Requests,
    *,
    name: str,
    source: str = "not stated",
    licence: str = "not stated",
    trace_file: str = "",
    trace_sha256: str = "",
    learned_on: datetime.date | None = None,
) -> TraceStatistics:
    """Learn the statistics of recorded requests.

    Parameters
    ----------
    requests
        At least 2 000 requests spanning at least 10 of the longest windows (3 000 s).
    name, source, licence, trace_file, trace_sha256, learned_on
        Provenance, stored as given; the date is today's if absent.

    Raises
    ------
    SpecError
        If there are too few requests or they span too little time.
    """
    if len(requests) < MIN_ROWS:
        raise SpecError(f"{name}: {len(requests)} requests are too few to learn from; at least {MIN_ROWS}")
    if requests.duration_s < 10 * _WINDOWS_S[-1]:
        raise SpecError(
            f"{name}: {requests.duration_s:.4g} s are too short to learn from; at least {10 * _WINDOWS_S[-1]:g} s"
        )
    return TraceStatistics(
        name=name,
        source=source,
        licence=licence,
        trace_file=trace_file,
        trace_sha256=trace_sha256,
        rows=len(requests),
        learned_on=(learned_on or datetime.date.today()).isoformat(),
        lengths=_learn_lengths(requests),
        arrivals=_learn_arrivals(requests),
    )


def load_statistics(name: str) -> TraceStatistics:
    """Return shipped statistics by name, or those in a file whose path ends in ``.json``.

    Raises
    ------
    SpecError
        If there are none of this name, or the file is missing or does not hold statistics.
    """
    if not name.endswith(".json"):
        return _shipped(name)
    with opened(name, "statistics") as path:
        return _of_file(path, name)


def _of_file(path: Path, name: str) -> TraceStatistics:
    try:
        return TraceStatistics.parse(json.loads(path.read_text(encoding="utf-8")), source=name)
    except OSError as error:
        raise SpecError(f"{name}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"{name}: not valid JSON: {error}") from None


@functools.cache
def _shipped(name: str) -> TraceStatistics:
    if name not in SHIPPED_STATISTICS:
        raise unknown_name("statistics", name, SHIPPED_STATISTICS)
    file = importlib.resources.files("simulator.workload") / "learned" / f"{name}.json"
    return TraceStatistics.parse(json.loads(file.read_text(encoding="utf-8")), source=name)


def index_of_dispersion(arrival_s: NDArray[np.float64], window_s: float) -> float:
    """Return the variance of the number of arrivals in windows, divided by its mean (Poisson: 1).

    Parameters
    ----------
    arrival_s
        Arrival times in seconds from 0, shape ``(n,)``, spanning at least two windows.
    window_s
        Length of a window in seconds; an incomplete last one is left out.
    """
    whole = int(arrival_s[-1] // window_s)
    counts = np.bincount((arrival_s / window_s).astype(np.int64), minlength=whole)[:whole]
    return float(counts.var(ddof=1) / counts.mean())


def _learn_lengths(requests: Requests) -> LearnedLengths:
    by_prompt = np.argsort(requests.prompt_tokens, kind="stable")
    return LearnedLengths(
        prompt=_quantile_function(requests.prompt_tokens, _PROMPT_KNOTS),
        output_by_prompt_class=tuple(
            _quantile_function(requests.output_tokens[rows], _OUTPUT_KNOTS)
            for rows in np.array_split(by_prompt, _CLASSES)
        ),
    )


def _quantile_function(tokens: NDArray[np.int32], knots: int) -> QuantileFunction:
    """Return the piecewise linear distribution with at most ``knots`` knots, chosen greedily.

    Each next knot is where the line through the knots so far misses the empirical distribution F by most, in
    units of ``sqrt(F (1 - F) + 0.002)``, so that the tails get their share. Misses of one row are left
    alone: they are chance, and a knot for them would hold that row.
    """
    ordered = np.sort(tokens)
    # The value below a common one may be a knot too: a jump needs both sides.
    points = np.unique(np.concatenate((ordered, ordered - 1))).astype(np.int64)
    cumulative = np.searchsorted(ordered, points, side="right") / ordered.size
    weight = 1 / np.sqrt(cumulative * (1 - cumulative) + 0.002)
    chosen = [0, points.size - 1]
    while len(chosen) < min(knots, points.size):
        line = np.interp(points, points[chosen], cumulative[chosen])
        miss = np.abs(line - cumulative)
        worst = int(np.argmax(np.where(miss > 1.01 / ordered.size, miss * weight, 0.0)))
        if worst in chosen:
            break
        chosen = sorted({*chosen, worst})
    return QuantileFunction(
        probabilities=tuple(round(float(each), 6) for each in cumulative[chosen]),
        tokens=tuple(int(each) for each in points[chosen]),
    )


def _learn_arrivals(requests: Requests) -> LearnedArrivals:
    arrival_s = requests.arrival_ps / PS_PER_S
    gaps = np.diff(arrival_s)
    apart = gaps[gaps > 0]  # equal times say nothing about the local shape (traces round to ms)
    local = 3 * float(np.mean(((apart[1:] - apart[:-1]) / (apart[1:] + apart[:-1])) ** 2))
    local_cv2 = min(max(2 * local / (3 - local), 0.01), 100.0)
    dispersion = [index_of_dispersion(arrival_s, each) for each in _WINDOWS_S]
    variance_of_mean = [
        max(0.0, (each - local_cv2) / (requests.rate_rps * window_s))
        for each, window_s in zip(dispersion, _WINDOWS_S, strict=True)
    ]
    return LearnedArrivals(
        rate_rps=_significant(requests.rate_rps),
        gap_cv=_significant(float(gaps.std() / gaps.mean())),
        local_cv=_significant(float(np.sqrt(local_cv2))),
        window_s=_WINDOWS_S,
        dispersion=tuple(_significant(each) for each in dispersion),
        block_variance=tuple(_significant(each) for each in _block_variances(variance_of_mean, _WINDOWS_S)),
    )


def _block_variances(variance_of_mean: list[float], window_s: tuple[float, ...]) -> list[float]:
    """Split the variance of the window-averaged rate into one factor for each block length.

    With ``e[k] = 1 + block_variance[k]`` and ``P[k] = e[k] e[k+1] ...``, two instants in the same block of
    length k share the factors k, k+1, ...; so with ``r = window_s[k+1] / window_s[k]``::

        1 + V[0]   = P[0]
        1 + V[k+1] = (1 + V[k]) / r + (1 - 1/r) P[k+1]

    (a pair of instants in window k+1 falls into the same window k with probability 1/r; otherwise it shares
    only the factors from k+1 on). Solved for P; noise that would make a variance negative is cut.
    """
    products = [1 + variance_of_mean[0]]
    for k in range(len(window_s) - 1):
        share = window_s[k] / window_s[k + 1]
        product = (1 + variance_of_mean[k + 1] - share * (1 + variance_of_mean[k])) / (1 - share)
        products.append(min(max(product, 1.0), products[-1]))
    products.append(1.0)
    return [products[k] / products[k + 1] - 1 for k in range(len(window_s))]


def _significant(value: float) -> float:
    return float(f"{value:.6g}")


def main(arguments: list[str] | None = None) -> None:
    """Learn from a trace file and write the statistics as JSON (command line)."""
    from simulator.workload.traces import read_trace_file

    parser = argparse.ArgumentParser(description="Learn statistics from a trace of LLM requests.")
    parser.add_argument("trace", type=Path, help="Azure CSV, Mooncake JSON lines or plain CSV")
    parser.add_argument("--name", required=True, help="name of the statistics")
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")
    parser.add_argument("--source", default="not stated", help="project or person the trace comes from")
    parser.add_argument("--licence", default="not stated", help="licence of the trace")
    given = parser.parse_args(arguments)
    try:
        statistics = learn_statistics(
            read_trace_file(given.trace),
            name=given.name,
            source=given.source,
            licence=given.licence,
            trace_file=given.trace.name,
            trace_sha256=hashlib.sha256(given.trace.read_bytes()).hexdigest(),
        )
        given.out.write_text(statistics.to_json(), encoding="utf-8")
    except (SpecError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
