"""From a workload specification to requests: recorded or drawn, seeded and vectorised."""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SpecError
from simulator.spec.workload import (
    DEFAULT_REQUESTS,
    MAX_TOKENS,
    Arrivals,
    ConstantArrivals,
    ConstantTokens,
    ExponentialTokens,
    GammaArrivals,
    GeometricTokens,
    Lengths,
    LognormalTokens,
    PoissonArrivals,
    StatisticsArrivals,
    TokenDistribution,
    UniformTokens,
    Workload,
)
from simulator.workload.requests import MAX_DURATION_S, PS_PER_S, Requests


def build_requests(workload: Workload) -> Requests:
    """Return the requests that a workload describes.

    The same specification gives the same requests. Arrivals and lengths come from separate streams:
    another rate changes no length.

    Parameters
    ----------
    workload
        A trace to read, or arrivals and lengths to draw.

    Raises
    ------
    SpecError
        If a file cannot be used, or the arrivals span more than 90 days.
    """
    if workload.trace is not None:
        from simulator.workload.traces import read_trace

        return read_trace(workload.trace, requests=workload.requests)
    assert workload.arrivals is not None
    assert workload.lengths is not None
    n = workload.requests or DEFAULT_REQUESTS
    arrival_stream, prompt_stream, output_stream = (
        np.random.default_rng(child) for child in np.random.SeedSequence(workload.seed).spawn(3)
    )
    arrival_s = draw_arrivals(workload.arrivals, n, arrival_stream)
    if arrival_s[-1] > MAX_DURATION_S:
        raise SpecError(
            f"arrivals: {n} requests span {arrival_s[-1] / 86_400:.4g} days, at most 90; "
            "raise rate_rps or lower requests"
        )
    prompt, output = draw_lengths(workload.lengths, n, prompt_stream, output_stream)
    return Requests(np.rint(arrival_s * PS_PER_S).astype(np.int64), prompt, output)


def draw_arrivals(arrivals: Arrivals, n: int, stream: np.random.Generator) -> NDArray[np.float64]:
    """Return ``n`` arrival times in seconds, increasing from 0."""
    match arrivals:
        case ConstantArrivals():
            return np.arange(n) / arrivals.rate_rps
        case PoissonArrivals():
            gaps = stream.standard_exponential(n - 1)
        case GammaArrivals():
            shape = arrivals.burstiness_cv**-2
            gaps = stream.standard_gamma(shape, n - 1) / shape
        case StatisticsArrivals():
            from simulator.workload.statistics import load_statistics

            learned = load_statistics(arrivals.statistics).arrivals
            return learned.draw_arrivals(n, stream, rate_rps=arrivals.rate_rps)
        case _:
            assert_never(arrivals)
    return np.concatenate(([0.0], np.cumsum(gaps / arrivals.rate_rps)))


def draw_lengths(
    lengths: Lengths, n: int, prompt_stream: np.random.Generator, output_stream: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return prompt and output tokens of ``n`` requests, clipped to the limits of ``lengths``."""
    prompt: NDArray[np.float64] | NDArray[np.int64]
    output: NDArray[np.float64] | NDArray[np.int64]
    if lengths.statistics is not None:
        from simulator.workload.statistics import load_statistics

        learned = load_statistics(lengths.statistics).lengths
        prompt, output = learned.draw_lengths(prompt_stream.random(n), output_stream.random(n))
    else:
        assert lengths.prompt is not None
        assert lengths.output is not None
        prompt = draw_tokens(lengths.prompt, n, prompt_stream)
        output = draw_tokens(lengths.output, n, output_stream)
    return (
        _whole_tokens(prompt, lengths.max_prompt_tokens),
        _whole_tokens(output, lengths.max_output_tokens),
    )


def draw_tokens(
    distribution: TokenDistribution, n: int, stream: np.random.Generator
) -> NDArray[np.float64] | NDArray[np.int64]:
    """Return ``n`` lengths in tokens, neither rounded nor clipped yet."""
    match distribution:
        case ConstantTokens():
            return np.full(n, distribution.tokens)
        case UniformTokens():
            return stream.integers(distribution.low_tokens, distribution.high_tokens, n, endpoint=True)
        case LognormalTokens():
            sigma = distribution.log_sigma
            return stream.lognormal(np.log(distribution.mean_tokens) - sigma**2 / 2, sigma, n)
        case ExponentialTokens():
            return stream.exponential(distribution.mean_tokens, n)
        case GeometricTokens():
            return stream.geometric(1 / distribution.mean_tokens, n)
        case _:
            assert_never(distribution)


def _whole_tokens(tokens: NDArray[np.float64] | NDArray[np.int64], limit: int | None) -> NDArray[np.int32]:
    return np.clip(np.rint(tokens), 1, limit or MAX_TOKENS).astype(np.int32)
