"""One learning agent for everything: the twin to compare the multi-agent sampler with."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.distributions import BaseDistribution

from dse.samplers.learning import LearningSampler
from dse.samplers.multi_agent import HIDDEN
from dse.samplers.policy import parameters
from dse.samplers.subsystems import subsystem_of


class SingleAgentSampler(LearningSampler):
    """One agent that chooses the values of all dimensions.

    It observes, is rewarded and learns as each agent of the multi-agent sampler, and its hidden layer is as wide as
    makes it learn as many numbers as those together, but for rounding.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], *, seed: int) -> None:
        super().__init__(distributions, ["all"] * len(distributions), seed=seed)
        self._subsystems = [subsystem_of(name) for name in distributions]

    def width(self, inputs: int) -> int:
        """Return the width of the hidden layer."""
        values, dimensions, numbers = int(self.sizes.sum()), len(self.sizes), 0
        for subsystem in set(self._subsystems):
            own = [size for size, each in zip(self.sizes, self._subsystems, strict=True) if each == subsystem]
            numbers += parameters(inputs, int(sum(own)), len(own), HIDDEN)
        return round((numbers - values - dimensions) / (inputs + 1 + values))


def make(distributions: Mapping[str, BaseDistribution], seed: int) -> SingleAgentSampler:
    """Return the sampler."""
    return SingleAgentSampler(distributions, seed=seed)
