"""Limits of promises: SLOs bound a latency, bounds any metric, from above or from below."""

from __future__ import annotations

from dse import words
from dse.spec import Constraint, Promise, StudySpec


def hard(spec: StudySpec) -> tuple[Promise | Constraint, ...]:
    """Return the promises without which a design is not feasible: SLOs, then bounds."""
    return tuple(each for each in spec.promises if each.penalty is None)


def metric_of(promise: Promise | Constraint) -> str:
    """Return the metric that a promise limits."""
    return promise.metric if isinstance(promise, Constraint) else promise.name


def limit_of(promise: Promise | Constraint) -> float:
    """Return the limit, in the unit of the metric."""
    return value_at(promise, 0.0)


def value_at(promise: Promise | Constraint, excess: float) -> float:
    """Return the value of the metric that misses the limit by a fraction of it; less than zero is left."""
    if not isinstance(promise, Constraint):
        return promise.limit_s * (1 + excess)
    if promise.at_most is not None:
        return promise.at_most * (1 + excess)
    assert promise.at_least is not None
    return promise.at_least * (1 - excess)


def said(promise: Promise | Constraint, excess: float = 0.0) -> str:
    """Return the value that misses the limit by a fraction of it, with its unit; the limit itself if none is given."""
    return words.quantity(metric_of(promise), value_at(promise, excess))
