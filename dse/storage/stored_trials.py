"""Trials as Optuna's tables hold them, all at once: its own reader makes an object of every row."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import select

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

ByTrial = defaultdict[int, dict[Any, Any]]

_TRIAL: Any = models.TrialModel.__table__
_PARAM: Any = models.TrialParamModel.__table__
_VALUE: Any = models.TrialValueModel.__table__
_STEP: Any = models.TrialIntermediateValueModel.__table__


def read_trials(connection: Connection, study_id: int, after: int = 0) -> list[FrozenTrial]:
    """Return trials of a study, equal to those that Optuna would return.

    Parameters
    ----------
    connection
        To a database with Optuna's tables.
    study_id
        Optuna's number of the study.
    after
        Only trials with a larger identifier are read.

    Returns
    -------
    list of FrozenTrial
        In the order of their identifiers. What is the same for many of them, the values of a dimension, they share.
    """
    wanted = _TRIAL.c.study_id == study_id, _TRIAL.c.trial_id > after

    def rows(*columns: Any) -> Iterable[Any]:
        """Return the rows of a table beside that of the trials."""
        table = columns[0].table
        of_study: Select[Any] = select(table.c.trial_id, *columns).join(_TRIAL, _TRIAL.c.trial_id == table.c.trial_id)
        # By its key, which is the order in which they were written.
        return connection.execute(of_study.where(*wanted).order_by(*table.primary_key.columns))

    columns = _TRIAL.c.trial_id, _TRIAL.c.number, _TRIAL.c.state, _TRIAL.c.datetime_start, _TRIAL.c.datetime_complete
    # Before what belongs to them, which is there as soon as they are.
    trials = connection.execute(select(*columns).where(*wanted).order_by(_TRIAL.c.trial_id)).all()
    params, distributions = _params(rows(_PARAM.c.param_name, _PARAM.c.param_value, _PARAM.c.distribution_json))
    values, steps, user_attrs, system_attrs = (ByTrial(dict) for _ in range(4))
    to_value = models.TrialValueModel.stored_repr_to_value
    for trial_id, objective, value, kind in rows(_VALUE.c.objective, _VALUE.c.value, _VALUE.c.value_type):
        values[trial_id][objective] = to_value(value, kind)
    to_step = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
    of_step = _STEP.c.step, _STEP.c.intermediate_value, _STEP.c.intermediate_value_type
    for trial_id, step, value, kind in rows(*of_step):
        steps[trial_id][step] = to_step(value, kind)
    kinds = (models.TrialUserAttributeModel, user_attrs), (models.TrialSystemAttributeModel, system_attrs)
    for model, attributes in kinds:
        table: Any = model.__table__
        for trial_id, key, text in rows(table.c.key, table.c.value_json):
            attributes[trial_id][key] = json.loads(text)
    return [
        FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=[values[id][objective] for objective in range(len(values[id]))] if id in values else None,
            datetime_start=start,
            datetime_complete=complete,
            params=params[id],
            distributions=distributions[id],
            user_attrs=user_attrs[id],
            system_attrs=system_attrs[id],
            intermediate_values=steps[id],
            trial_id=id,
        )
        for id, number, state, start, complete in trials
    ]


def _params(rows: Iterable[Any]) -> tuple[ByTrial, ByTrial]:
    """Return the parameters of each trial and their distributions, of which there is one for each distinct text."""
    distribution_of = cache(json_to_distribution)
    params, distributions = ByTrial(dict), ByTrial(dict)
    for trial_id, name, value, text in rows:
        distribution: BaseDistribution = distribution_of(text)
        params[trial_id][name] = distribution.to_external_repr(value)
        distributions[trial_id][name] = distribution
    return params, distributions
