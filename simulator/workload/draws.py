"""Random numbers of every kind that a specification names, vectorised; one stream for each use."""

from __future__ import annotations

from enum import IntEnum
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from simulator.spec.arrivals import (
    Arrivals,
    ConstantArrivals,
    GammaArrivals,
    PoissonArrivals,
    StatisticsArrivals,
)
from simulator.spec.distributions import (
    MAX_TOKENS,
    ConstantCount,
    ConstantSeconds,
    ConstantTokens,
    CountDistribution,
    ExponentialSeconds,
    ExponentialTokens,
    GeometricCount,
    GeometricTokens,
    LognormalSeconds,
    LognormalTokens,
    PoissonCount,
    SecondsDistribution,
    TokenDistribution,
    UniformCount,
    UniformSeconds,
    UniformTokens,
)
from simulator.spec.lengths import Lengths


class Use(IntEnum):
    """What a stream of random numbers is for. The numbers are part of the results: do not change them."""

    ARRIVALS = 0
    PROMPT = 1
    OUTPUT = 2
    CLASS = 3
    TURNS = 4
    LATER_PROMPT = 5
    LATER_OUTPUT = 6
    LATER_OUTPUT_CLASS = 7
    WAIT = 8
    SYSTEM_PROMPT = 9
    SYSTEM_PROMPT_TOKENS = 10
    ADAPTER = 11
    IMAGES = 12
    ROUTE = 13
    FALLBACK = 14
    BRANCH = 15
    SUMMARY = 16


def stream(seed: int, use: Use, owner: int = 0) -> np.random.Generator:
    """Return the stream for one use in one class: another setting elsewhere changes nothing in it.

    Parameters
    ----------
    seed
        Of the workload.
    use
        What the numbers are for.
    owner
        Whom they are for: the number of the class. The first class has the streams of a workload without classes.
    """
    key = (int(use), owner) if owner else (int(use),)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


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
        whole_tokens(prompt, lengths.max_prompt_tokens),
        whole_tokens(output, lengths.max_output_tokens),
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


def whole_tokens(tokens: NDArray[np.float64] | NDArray[np.int64], limit: int | None) -> NDArray[np.int32]:
    """Return lengths rounded to whole tokens, from 1 to ``limit``."""
    return np.clip(np.rint(tokens), 1, limit or MAX_TOKENS).astype(np.int32)


def draw_counts(counts: CountDistribution, n: int, stream: np.random.Generator) -> NDArray[np.int64]:
    """Return ``n`` counts."""
    match counts:
        case ConstantCount():
            return np.full(n, counts.count, dtype=np.int64)
        case UniformCount():
            return stream.integers(counts.low, counts.high, n, endpoint=True)
        case GeometricCount():
            return stream.geometric(1 / counts.mean, n)
        case PoissonCount():
            return stream.poisson(counts.mean, n)
        case _:
            assert_never(counts)


def draw_seconds(seconds: SecondsDistribution, n: int, stream: np.random.Generator) -> NDArray[np.float64]:
    """Return ``n`` times in seconds."""
    match seconds:
        case ConstantSeconds():
            return np.full(n, seconds.seconds)
        case UniformSeconds():
            return stream.uniform(seconds.low_s, seconds.high_s, n)
        case ExponentialSeconds():
            return stream.exponential(seconds.mean_s, n)
        case LognormalSeconds():
            sigma = seconds.log_sigma
            return stream.lognormal(np.log(seconds.mean_s) - sigma**2 / 2, sigma, n)
        case _:
            assert_never(seconds)


def draw_zipf(kinds: int, zipf: float, n: int, stream: np.random.Generator) -> NDArray[np.int64]:
    """Return ``n`` numbers from 0 to ``kinds - 1``, i in proportion to ``(i + 1)^-zipf``."""
    return draw_weighted(np.arange(1, kinds + 1, dtype=np.float64) ** -zipf, n, stream)


def draw_weighted(weights: NDArray[np.float64], n: int, stream: np.random.Generator) -> NDArray[np.int64]:
    """Return ``n`` numbers from 0 to ``len(weights) - 1`` in proportion to the weights."""
    bounds = np.cumsum(weights)
    found: NDArray[np.int64] = np.searchsorted(bounds, stream.random(n) * bounds[-1], side="right")
    return found
