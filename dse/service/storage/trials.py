"""Trials of studies, in Optuna's tables: its own classes take dozens of statements for each trial."""

from __future__ import annotations

import json
from typing import Any

from optuna.storages._rdb import models
from sqlalchemy import Connection, ScalarSelect, delete, select, update

from dse.storage.records import EVALUATION, key_of

Evaluations = list[dict[str, Any]]
"""Plain data, of which ``Evaluation.from_json`` makes records."""

_STUDY: Any = models.StudyModel.__table__
_TRIAL: Any = models.TrialModel.__table__
_ATTRIBUTE: Any = models.TrialUserAttributeModel.__table__


def _study(id: str) -> ScalarSelect[int]:
    return select(_STUDY.c.study_id).where(_STUDY.c.study_name == id).scalar_subquery()


def hold(connection: Connection, id: str) -> None:
    """Keep others from writing trials of a study until the transaction ends."""
    connection.execute(update(_STUDY).where(_STUDY.c.study_name == id).values(study_name=id))


def delete_all(connection: Connection, id: str) -> None:
    """Delete a study with all its trials."""
    trials = select(_TRIAL.c.trial_id).where(_TRIAL.c.study_id == _study(id))
    for table in reversed(models.BaseModel.metadata.sorted_tables):
        if "trial_id" in table.c and table is not _TRIAL:
            connection.execute(delete(table).where(table.c.trial_id.in_(trials)))
    for table in reversed(models.BaseModel.metadata.sorted_tables):
        if "study_id" in table.c and table is not _STUDY:
            connection.execute(delete(table).where(table.c.study_id == _study(id)))
    connection.execute(delete(_STUDY).where(_STUDY.c.study_name == id))


def since(connection: Connection, id: str, after: int, limit: int | None) -> tuple[Evaluations, int]:
    """Return evaluations of trials whose identifier is larger, each design once, and the largest identifier seen."""
    last = min(max(after, 0), 2**31 - 1)
    newer = (
        select(_TRIAL.c.trial_id, _ATTRIBUTE.c.value_json)
        .join(_ATTRIBUTE, _ATTRIBUTE.c.trial_id == _TRIAL.c.trial_id)
        .where(_TRIAL.c.study_id == _study(id), _TRIAL.c.trial_id > last, _ATTRIBUTE.c.key == EVALUATION)
        .order_by(_TRIAL.c.trial_id)
        .limit(limit)
    )
    found: dict[str, dict[str, Any]] = {}
    for trial_id, text in connection.execute(newer):
        evaluation = json.loads(text)
        last = trial_id
        found.setdefault(key_of(evaluation), evaluation)
    return list(found.values()), last
