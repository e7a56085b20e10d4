"""The front of a study, simulated again on other draws of its load, until it is certain or the effort is spent.

The study chose its front by one draw, so that draw speaks for the designs it chose: it is not counted here. Only
replications 1, 2, … are.

Looking several times and stopping when it suits would make errors likelier than the confidence says. So each of the
looks (after ``initial``, twice as many, … ``most`` replications) has intervals at ``1 - (1 - confidence) / looks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from dse.confidence.interval import Interval, mean_interval, student_factor
from dse.confidence.judgement import Feasibility, Judgement, Place, Record, advantages, judge, record_of
from dse.confidence.nearby import deviations, distances, first_designs, near
from dse.confidence.replicate import replicate
from dse.confidence.spec import Replications
from dse.evaluation import Evaluation, deployment_of, evaluate
from dse.objectives import direction_of
from dse.pareto import losses
from dse.result import StudyResult
from dse.spec import StudySpec
from dse.words import label, row
from simulator import Requests, SpecError

if TYPE_CHECKING:
    import pandas as pd

Load = tuple[Requests, ...]

MOST_DESIGNS: Final = 100
"""Designs that are replicated at most, the nearest to the front first, where the front itself is not larger."""


@dataclass(frozen=True)
class Confirmed:
    """What replications say of one design.

    Attributes
    ----------
    evaluation
        As the study found it.
    found_on_front
        Whether it was on the study's front.
    replications
        How often it was simulated again.
    feasibility, place
        What is certain of it.
    objectives
        By name, the expected value with its interval.
    missed
        By promise, by how much it is missed: zero or less if kept, ``v / (1 + v)`` for a relative excess v.
    rivals
        Places (in :attr:`Confirmation.designs`) of the designs that it is not told from.
    """

    evaluation: Evaluation
    found_on_front: bool
    replications: int
    feasibility: Feasibility
    place: Place
    objectives: dict[str, Interval]
    missed: dict[str, Interval]
    rivals: tuple[int, ...]

    @property
    def expected_feasible(self) -> bool:
        """Whether every promise is kept on average over the replications."""
        return all(interval.estimate <= 0 for interval in self.missed.values())


@dataclass(frozen=True, eq=False)
class Confirmation:
    """How sure a front is.

    Attributes
    ----------
    spec
        The study.
    plan
        How many replications were allowed.
    confidence
        Of every single interval here; more than the plan's, as there are several looks.
    designs
        Those of the front, in its order, then those that might have been on it.
    left_out
        Designs that might have been on it, too, but were beyond the number that is replicated.
    simulations
        Replications of all designs together.
    """

    spec: StudySpec
    plan: Replications
    confidence: float
    designs: tuple[Confirmed, ...]
    left_out: int
    simulations: int
    _records: tuple[Record, ...] = field(repr=False)

    @property
    def certain(self) -> bool:
        """Whether the place of every design is certain."""
        return all(design.place != "uncertain" for design in self.designs)

    @cached_property
    def front(self) -> tuple[int, ...]:
        """Places in :attr:`designs` of the front by expected values, by the first objective.

        Two designs are compared by their mean difference over the replications that both have. What is certainly off
        the front, or breaks a promise on average, is not on it.
        """
        able = [i for i, each in enumerate(self.designs) if each.place != "off the front" and each.expected_feasible]
        kept = [i for i in able if not any(self._expected_to_beat(j, i) for j in able if j != i)]
        first = self.spec.objectives[0]
        sign = 1.0 if direction_of(first) == "minimize" else -1.0
        return tuple(sorted(kept, key=lambda i: sign * self.designs[i].objectives[first].estimate))

    def _expected_to_beat(self, one: int, other: int) -> bool:
        """Return whether a design is nowhere worse than another on average, and somewhere better (or came first)."""
        gains = [gain.estimate for gain in advantages(self._records[one], self._records[other], self.confidence)]
        return min(gains) >= 0 and (max(gains) > 0 or one < other)

    @property
    def joined(self) -> tuple[Confirmed, ...]:
        """Designs that are on the front by expected values, and were not on the study's."""
        return tuple(self.designs[index] for index in self.front if not self.designs[index].found_on_front)

    @property
    def left(self) -> tuple[Confirmed, ...]:
        """Designs that were on the study's front, and are not by expected values."""
        on_front = set(self.front)
        return tuple(each for index, each in enumerate(self.designs) if each.found_on_front and index not in on_front)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a design: what it is, what is certain of it, each objective and promise with its interval."""
        import pandas as pd

        on_front = set(self.front)
        rows = []
        for index, each in enumerate(self.designs):
            line: dict[str, object] = {
                "design": row(deployment_of(each.evaluation.design, self.spec)),
                "feasibility": each.feasibility,
                "place": each.place,
                "found_on_front": each.found_on_front,
                "expected_on_front": index in on_front,
                "replications": each.replications,
                "rivals": ", ".join(map(str, each.rivals)),
            }
            for kind, intervals in (("", each.objectives), ("_missed", each.missed)):
                for name, interval in intervals.items():
                    key = f"{name}{kind}"
                    line |= {key: interval.estimate, f"{key}_low": interval.low, f"{key}_high": interval.high}
            rows.append(line)
        return pd.DataFrame(rows).rename_axis("confirmed")

    @cached_property
    def neighbours(self) -> pd.DataFrame:
        """One row for each pair of neighbours on the expected front and each objective: the paired difference.

        ``difference`` is the second's value less the first's; it is certain if its interval excludes 0.
        ``order`` says whether the study had found them in this order, too.
        """
        import pandas as pd

        columns = ("first", "second", "objective", "difference", "low", "high", "certain", "order")
        rows = []
        for first, second in zip(self.front, self.front[1:], strict=False):
            gains = advantages(self._records[first], self._records[second], self.confidence)
            found = (self.designs[index].evaluation.objectives for index in (first, second))
            before = losses(np.array(list(found)), self.spec.objectives)
            for column, (name, gain) in enumerate(zip(self.spec.objectives, gains, strict=True)):
                sign = 1.0 if direction_of(name) == "minimize" else -1.0
                limits = sorted((sign * gain.low, sign * gain.high))
                certain = gain.low > 0 or gain.high < 0 or gain.low == gain.high
                swapped = (before[1, column] - before[0, column]) * gain.estimate < 0
                order = "swapped" if swapped else "as found"
                rows.append((first, second, name, sign * gain.estimate, *limits, certain, order))
        return pd.DataFrame(rows, columns=columns)

    @property
    def summary(self) -> str:
        """What is certain and what is not, in a few sentences."""
        found = [each for each in self.designs if each.found_on_front]
        counts = {
            "certainly on the front": sum(each.place == "on the front" for each in found),
            "uncertain": sum(each.place == "uncertain" for each in found),
            "certainly off it": sum(each.place == "off the front" for each in found),
        }
        said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        text = f"{len(found)} designs found on the front: {said or 'none'}."
        others = sum(each.place != "off the front" for each in self.designs if not each.found_on_front)
        text += f" {others} more may belong to it." if others else ""
        for feasibility, words in (("uncertain", "may break a promise"), ("certainly infeasible", "break a promise")):
            which = [each for each in found if each.feasibility == feasibility]
            names = {label(name) for each in which for name, missed in each.missed.items() if missed.high > 0}
            text += f" {len(which)} of those found {words}: {', '.join(sorted(names))}." if which else ""
        return text


def confirm(
    result: StudyResult,
    replications: Replications | None = None,
    *,
    jobs: int = 1,
    most_designs: int = MOST_DESIGNS,
) -> Confirmation:
    """Simulate the front, and what might belong to it, on other draws of the load; say what is certain.

    First the front's designs are replicated ``initial`` times. How much their differences vary says how far behind the
    front a design may lie and still belong to it: within Student's factor times the standard deviation. Those are
    replicated, too. Then only designs whose place is uncertain, and their rivals, get twice as many, up to ``most``.

    Parameters
    ----------
    result
        Of a study.
    replications
        How many, and how sure; 4 to 32 at 95 % if absent.
    jobs
        Processes. The outcome does not depend on it.
    most_designs
        Designs to replicate at most; the front's always.

    Returns
    -------
    Confirmation
        What is certain of each design.

    Raises
    ------
    SpecError
        If no design of the study was simulated.
    """
    simulated = [each for each in result.simulated if np.isfinite(each.objectives).all()]
    if not simulated:
        raise SpecError(f"study {result.spec.name}: no design was simulated, so there is nothing to confirm")
    plan = replications or Replications()
    looks = plan.looks
    confidence = 1 - (1 - plan.confidence) / len(looks)
    front = first_designs(simulated, result.spec.objectives)
    with _Replicas(result, simulated, jobs) as replicas:
        replicas.extend(front, plan.initial)
        deviation, missed = deviations(replicas.records(front))
        away = distances(simulated, front, result.spec.objectives, deviation, missed)
        chosen, left_out = near(simulated, front, away, student_factor(confidence, plan.initial - 1), most_designs)
        replicas.extend(chosen, plan.initial)
        judgement = judge(replicas.records(chosen), confidence)
        for count in looks[1:]:
            if not judgement.open:
                break
            replicas.extend([chosen[place] for place in judgement.open], count)
            judgement = judge(replicas.records(chosen), confidence)
        records = tuple(replicas.records(chosen))
    on_front = {id(each) for each in result.front}
    designs = tuple(
        _confirmed(
            result.spec, simulated[index], id(simulated[index]) in on_front, place, record, judgement, confidence
        )
        for place, (index, record) in enumerate(zip(chosen, records, strict=True))
    )
    simulations = sum(record.replications for record in records)
    return Confirmation(result.spec, plan, confidence, designs, left_out, simulations, records)


def _confirmed(
    spec: StudySpec,
    evaluation: Evaluation,
    found_on_front: bool,
    place: int,
    record: Record,
    judgement: Judgement,
    confidence: float,
) -> Confirmed:
    signs = (1.0 if direction_of(name) == "minimize" else -1.0 for name in spec.objectives)
    values = {name: sign * column for name, sign, column in zip(spec.objectives, signs, record.losses.T, strict=True)}
    return Confirmed(
        evaluation=evaluation,
        found_on_front=found_on_front,
        replications=record.replications,
        feasibility=judgement.feasibility[place],
        place=judgement.place[place],
        objectives={name: mean_interval(column, confidence) for name, column in values.items()},
        missed={name: mean_interval(column, confidence) for name, column in record.missed.items()},
        rivals=judgement.rivals[place],
    )


class _Replicas:
    """Evaluations of designs in replications, made when they are asked for."""

    def __init__(self, result: StudyResult, simulated: Sequence[Evaluation], jobs: int) -> None:
        from joblib import Parallel

        self.spec, self.simulated = result.spec, simulated
        self.original = result.load
        self.loads: list[Load] = []
        self.known: dict[int, list[Evaluation]] = {}
        self.parallel = Parallel(n_jobs=jobs)

    def __enter__(self) -> _Replicas:
        """Start the processes."""
        self.parallel.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        """End the processes."""
        self.parallel.__exit__(*problem)

    def extend(self, indices: Sequence[int], count: int) -> None:
        """See to it that some designs have ``count`` replications; one task is a replication of several designs."""
        from joblib import delayed

        while len(self.loads) < count:
            number = len(self.loads) + 1
            cases = zip(self.spec.cases, self.original, strict=True)
            self.loads.append(tuple(replicate(case.workload, requests, number) for case, requests in cases))
        missing: dict[int, list[int]] = {}
        for index in indices:
            for number in range(len(self.known.setdefault(index, [])), count):
                missing.setdefault(number, []).append(index)
        tasks = sorted(missing.items())
        found = self.parallel(
            delayed(_evaluate_all)([self.simulated[index] for index in members], self.spec, self.loads[number])
            for number, members in tasks
        )
        for (_, members), evaluations in zip(tasks, found, strict=True):
            for index, evaluation in zip(members, evaluations, strict=True):
                self.known[index].append(evaluation)

    def records(self, indices: Sequence[int]) -> list[Record]:
        """Return the records of some designs."""
        return [record_of(self.known[index], self.spec.objectives) for index in indices]


def _evaluate_all(evaluations: Sequence[Evaluation], spec: StudySpec, load: Load) -> list[Evaluation]:
    """Simulate designs in one replication."""
    return [evaluate(each.design, spec, load) for each in evaluations]
