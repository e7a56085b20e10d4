"""Proposals by agents that learn from rewards: what the multi-agent sampler and its single-agent twin share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from dse.pareto import non_dominated
from dse.samplers.choices import values_of
from dse.samplers.policy import Choices, Floats, Policy
from dse.samplers.registry import POPULATION

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

STEPS = 4
"""Steps of learning after every ``POPULATION`` finished trials."""
RECENT = 64
"""Latest trials whose mean reward is the baseline."""
QUESTIONS, ANSWERS = 16, 4
"""Weight vectors under which earlier trials are looked at again, and trials for each, in a round of learning."""
SURPRISES = 1.0
"""Dimensions of a design, on average, that get a random value whatever the policy says."""
FORBIDDEN = 2.5
"""Loss of an infeasible design; a feasible one has at most 2.1."""
OUTCOMES = 2
"""Figures about the last trials in an observation: mean reward, share of feasible ones."""


class Memory:
    """Finished trials, in the order of their numbers.

    Attributes
    ----------
    chosen
        Index of the value of each dimension, shape (trials, dimensions).
    losses
        Objectives, all to be minimised, zero where infeasible, shape (trials, objectives).
    violation
        Sum of what is violated, shape (trials,).
    """

    def __init__(self, names: Sequence[str], values: Sequence[tuple[Any, ...]]) -> None:
        self._names = names
        self._index = [{value: index for index, value in enumerate(of_one)} for of_one in values]
        self._trials: dict[int, tuple[list[int], list[float], float]] = {}
        self.numbers: list[int] = []

    def __len__(self) -> int:
        """Return the number of trials."""
        return len(self.numbers)

    def take(self, study: Study) -> list[int]:
        """Take in the trials that finished since the last time; return their numbers."""
        signs = [1.0 if direction == StudyDirection.MINIMIZE else -1.0 for direction in study.directions]
        new = [
            trial
            for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if trial.number not in self._trials and all(name in trial.params for name in self._names)
        ]
        for trial in new:
            chosen = [index[trial.params[name]] for name, index in zip(self._names, self._index, strict=True)]
            violation = float(sum(max(0.0, each) for each in trial.constraints.values()))
            losses = [0.0 if violation else sign * value for sign, value in zip(signs, trial.values, strict=True)]
            self._trials[trial.number] = chosen, losses, violation
        self.numbers = sorted(self._trials)
        rows = [self._trials[number] for number in self.numbers]
        self.chosen: Choices = np.array([row[0] for row in rows], dtype=np.intp).reshape(-1, len(self._names))
        self.losses: Floats = np.array([row[1] for row in rows]).reshape(-1, len(signs))
        self.violation: Floats = np.array([row[2] for row in rows])
        self._scale()
        return [trial.number for trial in new]

    def _scale(self) -> None:
        """Measure objectives in units of the front's range, beyond which little is to be told."""
        self._scaled = np.zeros_like(self.losses)
        feasible = np.flatnonzero(self.violation == 0)
        if len(feasible):
            found = self.losses[feasible]
            front = found[non_dominated(found)]
            span = np.ptp(front, axis=0)
            self._scaled[feasible] = (found - front.min(axis=0)) / np.where(span > 0, span, 1.0)
        np.clip(self._scaled, 0.0, 2.0, out=self._scaled)

    def loss(self, weights: Floats, rows: slice = slice(None)) -> Floats:
        """Return the loss of trials under weights of the objectives, shape (weights, trials).

        The augmented Chebyshev scalarisation, which every design of a front minimises for some weights (Steuer and
        Choo, 1983); for an infeasible design more than that, and the more it violates.

        Parameters
        ----------
        weights
            Shape (weights, objectives), each row with sum 1.
        rows
            The trials.
        """
        weighted = weights[:, None, :] * self._scaled[rows]
        violation = self.violation[rows]
        loss = weighted.max(axis=2) + 0.05 * weighted.sum(axis=2)
        return np.where(violation > 0, FORBIDDEN + violation / (1 + violation), loss)


class LearningSampler(BaseSampler):
    """Designs proposed by one or several agents that learn which values are rewarded.

    Before each trial, weights of the objectives are drawn. All agents observe these weights, the best design so far
    under them, and how the last trials went; each chooses values for its own dimensions. When the trial is finished,
    all get the same reward: how near it comes to the best design under its weights, less what it violates. Each agent
    learns by policy gradient with a baseline, the mean reward of the latest trials under the same weights, from the new
    trials and from earlier ones: what was no success under its own weights may have been one under others, and what is
    better than the latest is imitated (after Oh et al., "Self-Imitation Learning", arXiv:1806.05635).

    Parameters
    ----------
    distributions
        All dimensions, each with a finite number of values.
    owners
        For each dimension, the agent that chooses its value.
    seed
        Of all random numbers.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], owners: Sequence[str], *, seed: int) -> None:
        self._distributions = dict(distributions)
        self._values = [values_of(distribution) for distribution in distributions.values()]
        self._names = list(distributions)
        self.sizes = np.array([len(values) for values in self._values])
        self._starts = np.concatenate(([0], np.cumsum(self.sizes)[:-1]))
        self._owners = list(owners)
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed=seed)
        self._memory = Memory(self._names, self._values)
        self._policies: list[tuple[Choices, Policy]] = []
        self._observed: dict[int, tuple[Floats, Floats]] = {}
        self._outcomes = np.zeros(OUTCOMES)
        self._untaken, self._repeats, self._repeated = POPULATION, 0, False

    @abstractmethod
    def width(self, inputs: int) -> int:
        """Return the width of each agent's hidden layer, given the length of an observation."""

    @property
    def policies(self) -> dict[str, Policy]:
        """The agents' policies by owner, once there was a proposal."""
        return dict(zip(dict.fromkeys(self._owners), (policy for _, policy in self._policies), strict=False))

    def _begin(self, objectives: int) -> None:
        inputs = objectives + int(self.sizes.sum()) + OUTCOMES
        dimension = np.repeat(np.arange(len(self.sizes)), self.sizes)
        for owner in dict.fromkeys(self._owners):
            own = [index for index, each in enumerate(self._owners) if each == owner]
            columns = np.flatnonzero(np.isin(dimension, own))
            self._policies.append((columns, Policy(inputs, self.sizes[own].tolist(), self.width(inputs), self._rng)))

    def _one_hot(self, chosen: Choices) -> Floats:
        spread = np.zeros((len(chosen), int(self.sizes.sum())))
        np.put_along_axis(spread, chosen + self._starts, 1.0, axis=1)
        return spread

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space."""
        return self._distributions

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Return the agents' choices."""
        if not self._policies:
            self._begin(len(study.directions))
        if self._untaken >= POPULATION:
            self._untaken = 0
            self._learn(self._memory.take(study))
        # Proposals that were known already are followed by ever more random ones.
        self._repeats, self._repeated = (self._repeats + 1 if self._repeated else 0), False
        weights = self._rng.dirichlet(np.ones(len(study.directions)))
        best = np.zeros(int(self.sizes.sum()))
        if len(self._memory):
            foremost = self._memory.loss(weights[None, :]).argmin()
            best = self._one_hot(self._memory.chosen[foremost][None, :])[0]
        observation = np.concatenate((weights, best, self._outcomes))
        self._observed[trial.number] = weights, observation
        probabilities = np.empty(len(best))
        for columns, policy in self._policies:
            probabilities[columns] = policy.probabilities(observation, best[columns])
        chosen = self._drawn(probabilities)
        return {name: of_one[index] for name, of_one, index in zip(self._names, self._values, chosen, strict=True)}

    def _drawn(self, probabilities: Floats) -> list[int]:
        count = len(self.sizes)
        below = np.cumsum(probabilities)
        # Sums begin anew with each dimension; its last value takes what rounding leaves.
        below -= np.repeat(np.concatenate(([0.0], below[self._starts[1:] - 1])), self.sizes)
        at = np.repeat(self._rng.random(count), self.sizes)
        chosen = np.minimum(np.add.reduceat(below <= at, self._starts, dtype=np.intp), self.sizes - 1)
        surprised = self._rng.random(count) < SURPRISES / count * (1 + self._repeats)
        drawn: list[int] = np.where(surprised, self._rng.integers(self.sizes), chosen).tolist()
        return drawn

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value of a dimension that was not known beforehand."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Note that there is something to learn from, or that a proposal was of no use."""
        if state == TrialState.COMPLETE:
            self._untaken += 1
        else:
            self._repeated = True
            self._observed.pop(trial.number, None)

    def _learn(self, new: Sequence[int]) -> None:
        """Let all agents learn from the new trials that they proposed, and from all again under other weights."""
        if len(self._memory) < 2:
            return
        row_of = {number: row for row, number in enumerate(self._memory.numbers)}
        own = [number for number in new if number in self._observed]
        mine = [self._observed.pop(number) for number in own]
        rows = [row_of[number] for number in own]
        observations = [observation for _, observation in mine]
        advantages: list[float] = []
        if mine:
            weights = np.array([each for each, _ in mine])
            loss = self._memory.loss(weights)
            advantage, baseline = self._advantage(loss)
            advantages += advantage[np.arange(len(rows)), rows].tolist()
            self._outcomes = np.array(
                [(loss.min(axis=1) - baseline).mean(), (self._memory.violation[rows] == 0).mean()]
            )
        self._look_back(rows, observations, advantages)
        if not rows:
            return
        observed, chosen = np.array(observations), self._one_hot(self._memory.chosen[rows])
        best = observed[:, -OUTCOMES - chosen.shape[1] : -OUTCOMES]
        for columns, policy in self._policies:
            for _ in range(STEPS):
                policy.learn(observed, best[:, columns], chosen[:, columns], np.array(advantages))

    @staticmethod
    def _advantage(loss: Floats) -> tuple[Floats, Floats]:
        """Return by how much trials are better than the latest, in standard deviations, and the latest's mean loss."""
        latest = loss[:, -RECENT:]
        mean = latest.mean(axis=1)
        return (mean[:, None] - loss) / np.maximum(latest.std(axis=1), 1e-6)[:, None], mean

    def _look_back(self, rows: list[int], observations: list[Floats], advantages: list[float]) -> None:
        """Add trials that are better than the latest under weights drawn anew, as if proposed for these."""
        objectives = self._memory.losses.shape[1]
        weights = self._rng.dirichlet(np.ones(objectives), QUESTIONS)
        loss = self._memory.loss(weights)
        advantage, _ = self._advantage(loss)
        least = np.minimum.accumulate(loss, axis=1)
        better = np.zeros(loss.shape, dtype=np.intp)
        better[:, 1:] = np.where(loss[:, 1:] < least[:, :-1], np.arange(1, loss.shape[1]), 0)
        foremost = np.maximum.accumulate(better, axis=1)
        for question in range(QUESTIONS):
            gain = np.maximum(advantage[question, 1:], 0.0)
            if not gain.any():
                continue
            for row in 1 + self._rng.choice(len(gain), ANSWERS, p=gain / gain.sum()):
                # The best design is the one that was known then: a trial must not learn to copy itself.
                best = self._one_hot(self._memory.chosen[foremost[question, row - 1]][None, :])[0]
                rows.append(int(row))
                observations.append(np.concatenate((weights[question], best, self._outcomes)))
                advantages.append(float(advantage[question, row]))
