"""One learning agent for each subsystem."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.distributions import BaseDistribution

from dse.samplers.learning import LearningSampler
from dse.samplers.subsystems import subsystem_of

HIDDEN = 16
"""Width of each agent's hidden layer."""


class MultiAgentSampler(LearningSampler):
    """One agent for each of hardware, parallelism, batching, placement and memory, all with the same reward.

    An agent chooses the values of its subsystem's dimensions only. After Krishnan et al., "Multi-Agent Reinforcement
    Learning for Microprocessor Design Space Exploration" (arXiv:2211.16385), where each agent has a part of the design
    and all share the reward.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], *, seed: int) -> None:
        super().__init__(distributions, [subsystem_of(name) for name in distributions], seed=seed)

    def width(self, inputs: int) -> int:
        """Return the width of each agent's hidden layer."""
        return HIDDEN


def make(distributions: Mapping[str, BaseDistribution], seed: int) -> MultiAgentSampler:
    """Return the sampler."""
    return MultiAgentSampler(distributions, seed=seed)
