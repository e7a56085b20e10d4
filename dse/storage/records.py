"""What a finished trial carries, and what makes two trials the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from dse.spec import StudySpec
from simulator import SpecError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

SPEC: Final = "dse:spec"
"""Attribute of a study: its specification as JSON, without budget, starts and confidence, which change no outcome."""
SESSIONS: Final = "dse:sessions"
"""Attribute of a study in a database: how many sessions have opened it."""
EVALUATION: Final = "dse:evaluation"
"""Attribute of a trial: the evaluation as plain data."""


def key_of(evaluation: dict[str, Any]) -> str:
    """Return what two evaluations of the same design have in common."""
    return json.dumps(evaluation["design"], sort_keys=True)


def in_order(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return trials by proposal, each design once: they were written as they finished, which depends on the processes.

    What machines propose at the same time stands in the order in which it was written.
    """
    first: dict[str, FrozenTrial] = {}
    for trial in trials:
        if EVALUATION in trial.user_attrs:
            first.setdefault(key_of(trial.user_attrs[EVALUATION]), trial)
    return sorted(first.values(), key=lambda trial: int(trial.user_attrs[EVALUATION]["number"]))


def claim_study(study: Study, spec: StudySpec, place: str) -> None:
    """Check that a stored study is the given one, save for its budget, starts and confidence; note it in a new one.

    Raises
    ------
    SpecError
        If it is another one.
    """
    ours = spec.model_dump_json(exclude={"budget", "confidence", "start"})
    theirs = study.user_attrs.get(SPEC)
    if theirs is None:
        study.set_user_attr(SPEC, ours)
    elif theirs != ours:
        raise SpecError(
            f"{place}: holds trials of a different {spec.name!r} study; use another one, or the same study file"
        )
