"""A policy that learns which values to choose: a small network, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Choices = npt.NDArray[np.intp]

LEARNING_RATE = 0.015
MOMENTS = (0.9, 0.99)
"""Decay of the mean and of the square of gradients, in Adam."""
ENTROPY = 0.02
"""Weight of the entropy bonus, which keeps a policy from being certain too early."""
STAY = 2.5
"""Log-odds, at first, of the value that the best design so far has."""


def parameters(inputs: int, values: int, dimensions: int, hidden: int) -> int:
    """Return how many numbers a policy learns."""
    return hidden * (inputs + 1) + (hidden + 1) * values + dimensions


class Policy:
    """Independent choices for some dimensions, given an observation.

    The log-odds of the values are ``W2 tanh(W1 o + b1) + b2 + stay b``: o the observation, b one-hot the values of the
    best design so far, and one learned ``stay`` a dimension. So a policy can learn to vary the best design.

    Parameters
    ----------
    inputs
        Length of an observation.
    sizes
        Number of values of each dimension.
    hidden
        Width of the hidden layer.
    rng
        Of the weights at first.
    """

    def __init__(self, inputs: int, sizes: Sequence[int], hidden: int, rng: np.random.Generator) -> None:
        self.starts = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.intp)
        self.dimension = np.repeat(np.arange(len(sizes)), sizes)
        values = len(self.dimension)
        shapes = ((inputs, hidden), (hidden,), (hidden, values), (values,), (len(sizes),))
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        self.theta = np.zeros(ends[-1])
        self._gradient = np.zeros(ends[-1])
        self._w1, self._b1, self._w2, self._b2, self._stay = self._parts(self.theta, shapes, ends)
        self._slopes = self._parts(self._gradient, shapes, ends)
        self._w1[:] = rng.normal(0, inputs**-0.5, self._w1.shape)
        self._w2[:] = rng.normal(0, 0.1 * hidden**-0.5, self._w2.shape)
        self._stay[:] = STAY
        self._mean, self._square, self._steps = np.zeros(ends[-1]), np.zeros(ends[-1]), 0

    @staticmethod
    def _parts(flat: Floats, shapes: Sequence[tuple[int, ...]], ends: Choices) -> list[Floats]:
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]

    def _probabilities(self, hidden: Floats, best: Floats) -> Floats:
        odds = hidden @ self._w2 + self._b2 + best * self._stay[self.dimension]
        odds = np.exp(odds - odds.max(axis=-1, keepdims=True))
        inside: Floats = odds / np.add.reduceat(odds, self.starts, axis=-1)[..., self.dimension]
        return inside

    def probabilities(self, observation: Floats, best: Floats) -> Floats:
        """Return the probability of every value of every dimension, shape (…, values).

        Parameters
        ----------
        observation
            Shape (…, inputs).
        best
            Values of the best design so far, one-hot, shape (…, values).
        """
        return self._probabilities(np.tanh(observation @ self._w1 + self._b1), best)

    def gradient(self, observation: Floats, best: Floats, chosen: Floats, advantage: Floats) -> Floats:
        """Return the slope of the mean of ``advantage · log π(chosen) + ENTROPY · H(π)``.

        The policy gradient of Williams, "Simple statistical gradient-following algorithms for connectionist
        reinforcement learning" (1992), with an entropy bonus.

        Parameters
        ----------
        observation
            Shape (samples, inputs).
        best, chosen
            One-hot, shape (samples, values).
        advantage
            Reward above the baseline, shape (samples,).
        """
        hidden = np.tanh(observation @ self._w1 + self._b1)
        p = self._probabilities(hidden, best)
        surprise = np.log(np.maximum(p, 1e-12))
        entropy = -np.add.reduceat(p * surprise, self.starts, axis=1)[:, self.dimension]
        slope = advantage[:, None] * (chosen - p) - ENTROPY * p * (surprise + entropy)
        slope /= len(advantage)
        w1, b1, w2, b2, stay = self._slopes
        w2[:] = hidden.T @ slope
        b2[:] = slope.sum(axis=0)
        stay[:] = np.add.reduceat((slope * best).sum(axis=0), self.starts)
        below = (slope @ self._w2.T) * (1 - hidden**2)
        w1[:] = observation.T @ below
        b1[:] = below.sum(axis=0)
        return self._gradient

    def learn(self, observation: Floats, best: Floats, chosen: Floats, advantage: Floats) -> None:
        """Go one step up the slope, with Adam (Kingma and Ba, arXiv:1412.6980)."""
        slope = self.gradient(observation, best, chosen, advantage)
        self._steps += 1
        first, second = MOMENTS
        self._mean += (1 - first) * (slope - self._mean)
        self._square += (1 - second) * (slope**2 - self._square)
        mean = self._mean / (1 - first**self._steps)
        square = self._square / (1 - second**self._steps)
        self.theta += LEARNING_RATE * mean / (np.sqrt(square) + 1e-8)
