"""Answers to questions, as the JSON that the commands print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dse.once.capacity import capacity_figures, rows_of
from dse.once.plain import finite
from dse.once.questions import CapacityQuestion, ExplanationQuestion, SimulationQuestion
from dse.once.simulation import simulation_figures
from simulator import SpecError, Workload, simulate
from simulator.workload.size import requests_of


def simulation_answer(question: str, most_requests: int) -> str:
    """Return what ``dse simulate --json`` prints.

    Parameters
    ----------
    question
        A :class:`~dse.once.questions.SimulationQuestion` as JSON.
    most_requests
        A larger workload is refused.

    Raises
    ------
    SpecError
        If it cannot be simulated.
    """
    asked = SimulationQuestion.parse(json.loads(question))
    _check_size(asked.workload, most_requests)
    with _computable():
        return _as_json(simulation_figures(simulate(asked.deployment, asked.workload), asked.slos))


def capacity_answer(question: str, most_requests: int) -> str:
    """Return what ``dse capacity --json`` prints; see :func:`simulation_answer`."""
    from dse.capacity import Load, capacity_of

    asked = CapacityQuestion.parse(json.loads(question))
    _check_size(asked.workload, most_requests)
    with _computable():
        found = capacity_of(
            asked.deployment,
            Load.of(asked.workload),
            asked.slos,
            tolerance=asked.tolerance,
            replications=asked.replications,
        )
        return _as_json(finite(capacity_figures(found)) | rows_of({"tried": found.table}))


def explanation_answer(question: str) -> str:
    """Return what ``dse explain --json`` prints; ``question`` is an ``ExplanationQuestion`` as JSON."""
    from dse.explain.breakdown import Conditions, explain_deployment, to_json

    asked = ExplanationQuestion.parse(json.loads(question))
    conditions = Conditions(asked.prompt_tokens, asked.context_tokens, asked.batch, asked.output_tokens)
    with _computable():
        found = explain_deployment(asked.deployment, asked.workload, conditions, pool=asked.pool, steps=asked.steps)
        return _as_json(finite(to_json(found)))


@contextmanager
def _computable() -> Iterator[None]:
    """Take numbers that are allowed one by one, but too large or too small together, for a person's mistake."""
    try:
        yield
    except ArithmeticError as error:
        raise SpecError(f"a number is too large or too small to compute with: {error}") from error


def _check_size(workload: Workload, most: int) -> None:
    requests = requests_of(workload)
    if requests > most:
        raise SpecError(
            f"workload.requests: {requests:,} requests; at most {most:,} are simulated at once, a study takes more"
        )


def _as_json(figures: dict[str, Any]) -> str:
    return json.dumps(figures, allow_nan=False)
