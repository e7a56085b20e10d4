"""Finished trials in a database, in Optuna's own tables: several machines on one study.

Optuna writes a trial parameter by parameter, in dozens of statements. Here a batch takes eight, whatever its size. Any
Optuna tool can read the tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from dse.objectives import Direction
from dse.patience import CutOff, Outcome, Patience
from dse.spec import StudySpec
from dse.storage.records import EVALUATION, SESSIONS, claim_study, in_order, key_of
from simulator import SpecError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial
    from sqlalchemy import URL, Connection, Engine

CONNECT_S: Final = 5
"""Seconds after which an attempt to connect has failed."""
BUSY_S: Final = 30
"""Seconds to wait while somebody else writes to a file of SQLite."""


class Database:
    """The trials of a study in a database that others may use at the same time.

    Parameters
    ----------
    url
        Of SQLAlchemy, e.g. ``postgresql+psycopg://user@host/database`` or ``sqlite:///trials.db``.
    spec
        The study; must be the one in the database of that name, save for its budget.
    directions
        Of the objectives.
    patience
        With a database that goes away for a while.
    name
        Of the study in the database; that of the specification if absent.
    alongside
        Called in every transaction that writes trials, before they are written; what it raises keeps them from it.

    Attributes
    ----------
    session
        How many sessions, here and on other machines, opened the study before: each needs its own random numbers.

    Raises
    ------
    SpecError
        If the database cannot be reached, or holds another study of that name.
    """

    def __init__(
        self,
        url: str,
        spec: StudySpec,
        directions: Sequence[Direction],
        patience: Patience | None = None,
        *,
        name: str | None = None,
        alongside: Callable[[Connection], None] | None = None,
    ) -> None:
        address = address_of(url)
        self.place = shown(address)
        self._patience = patience or Patience()
        self._alongside = alongside
        self._designs: set[str] = set()
        self._told: set[str] = set()
        self._own_ids: set[int] = set()
        self._written_id = self._looked_id = 0
        try:
            self._study, self._engine = _together(lambda: _open(address, name or spec.name, directions), self._patience)
            claim_study(self._study, spec, f"--storage {self.place}")
        except CutOff as error:
            raise SpecError(f"--storage {self.place}: {first_line(error.__cause__ or error)}") from None
        except ImportError:
            kind = address.get_backend_name()
            hint = "pip install 'dse-llm[postgresql]'" if kind == "postgresql" else f"install a driver of {kind}"
            raise SpecError(f"--storage {self.place}: its driver is not installed: {hint}") from None
        except Exception as error:
            if isinstance(error, SpecError) or not of_database(error):
                raise
            raise SpecError(f"--storage {self.place}: {first_line(error)}") from None
        self.session: int = self._patience.until_done(self._join, self._passing)

    def append(self, trial: FrozenTrial) -> None:
        """Write one finished trial."""
        self.append_many([trial])

    def append_many(self, trials: Sequence[FrozenTrial]) -> None:
        """Write finished trials, save for those whose design is there already.

        Raises
        ------
        CutOff
            If the database is away for too long.
        """
        self._told.update(key_of(trial.user_attrs[EVALUATION]) for trial in trials)
        self._patience.until_done(lambda: self._append(trials), self._passing)

    def refresh(self) -> list[FrozenTrial]:
        """Return what others have written since the last call, without designs that are known here.

        Only what is new is read.

        Raises
        ------
        CutOff
            If the database is away for too long.
        """
        return self._patience.until_done(self._new, self._passing)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials in the database, in the order of their proposal, each design once."""
        everything = self._patience.until_done(self._all, self._passing)
        self._note(everything)
        return in_order(everything)

    def close(self) -> None:
        """End the connections."""
        self._engine.dispose()

    def _join(self) -> int:
        """Return the number of sessions before this one, and count it."""
        from optuna.storages._rdb import models
        from sqlalchemy import insert, select, update

        attribute = models.StudyUserAttributeModel.__table__
        ours = (attribute.c.study_id == self._study._study_id) & (attribute.c.key == SESSIONS)
        with self._alone() as connection:
            before = connection.execute(select(attribute.c.value_json).where(ours)).scalar_one_or_none()
            if before is None:
                row = {"study_id": self._study._study_id, "key": SESSIONS, "value_json": "1"}
                connection.execute(insert(attribute).values(row))
                return 0
            connection.execute(update(attribute).where(ours).values(value_json=str(int(before) + 1)))
            return int(before)

    def _new(self) -> list[FrozenTrial]:
        from optuna.storages._rdb import models
        from sqlalchemy import select

        trial = models.TrialModel.__table__
        newer = select(trial.c.trial_id).where(
            trial.c.study_id == self._study._study_id, trial.c.trial_id > self._looked_id
        )
        with self._engine.connect() as connection:
            ids = set(connection.execute(newer).scalars())
            # Ids grow with commits (see `_alone`): nobody finishes a trial of a smaller one.
            new = self._read(connection, self._looked_id) if ids - self._own_ids else []
        self._looked(max(ids, default=0))
        return self._note(new)

    def _all(self) -> list[FrozenTrial]:
        with self._engine.connect() as connection:
            everything = self._read(connection)
        self._looked(max((trial._trial_id for trial in everything), default=0))
        return everything

    def _read(self, connection: Connection, after: int = 0) -> list[FrozenTrial]:
        from dse.storage.stored_trials import read_trials

        return read_trials(connection, self._study._study_id, after)

    def _looked(self, last_id: int) -> None:
        """Note that all trials up to one are known."""
        self._looked_id = max(self._looked_id, last_id)
        self._own_ids.clear()

    def _note(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the first trial of each design that was not known here, and know it from now on."""
        new = []
        for trial in trials:
            if EVALUATION in trial.user_attrs and (key := key_of(trial.user_attrs[EVALUATION])) not in self._told:
                self._told.add(key)
                new.append(trial)
        return new

    def _passing(self, error: Exception) -> str | None:
        return f"{self.place}: {first_line(error)}" if of_database(error) else None

    def _append(self, trials: Sequence[FrozenTrial]) -> None:
        """Write trials in one transaction. After a lost connection nobody knows whether it was done: look first."""
        from optuna.storages._rdb import models
        from sqlalchemy import func, insert, select

        with self._alone() as connection:
            if self._alongside:
                self._alongside(connection)
            trial, attribute = models.TrialModel.__table__, models.TrialUserAttributeModel.__table__
            of_study = trial.c.study_id == self._study._study_id
            newest = (
                select(trial.c.trial_id, attribute.c.value_json)
                .join(attribute, attribute.c.trial_id == trial.c.trial_id)
                .where(of_study, trial.c.trial_id > self._written_id, attribute.c.key == EVALUATION)
            )
            for trial_id, text in connection.execute(newest):
                self._designs.add(key_of(json.loads(text)))
                self._written_id = max(self._written_id, trial_id)
            fresh = [each for each in trials if key_of(each.user_attrs[EVALUATION]) not in self._designs]
            if not fresh:
                return
            first = connection.execute(select(func.count()).select_from(trial).where(of_study)).scalar_one()
            rows = [
                {
                    "number": first + place,
                    "study_id": self._study._study_id,
                    "state": each.state,
                    "datetime_start": _utc(each.datetime_start),
                    "datetime_complete": _utc(each.datetime_complete),
                }
                for place, each in enumerate(fresh)
            ]
            returning = insert(trial).returning(trial.c.trial_id, sort_by_parameter_order=True)
            ids = connection.execute(returning, rows).scalars().all()
            self._own_ids.update(ids)
            for model, content in _contents(ids, fresh):
                if content:
                    connection.execute(insert(model.__table__), content)
        # Only now is it certain; nobody wrote between what was read and this.
        self._designs.update(key_of(each.user_attrs[EVALUATION]) for each in fresh)
        self._written_id = ids[-1]

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        """Hold the study's row in a transaction, so that ids and numbers grow in the order of commits."""
        from optuna.storages._rdb import models
        from sqlalchemy import update

        study = models.StudyModel.__table__
        with self._engine.begin() as connection:
            same = update(study).where(study.c.study_id == self._study._study_id).values(study_name=study.c.study_name)
            connection.execute(same)
            yield connection


def _contents(ids: Sequence[int], trials: Sequence[FrozenTrial]) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Yield the rows of each table beside that of the trials."""
    from optuna.distributions import distribution_to_json
    from optuna.storages._rdb import models

    params, values = [], []
    texts: dict[int, str] = {}
    for trial_id, trial in zip(ids, trials, strict=True):
        for name, value in trial.params.items():
            distribution = trial.distributions[name]
            text = texts.setdefault(id(distribution), distribution_to_json(distribution))
            inner = distribution.to_internal_repr(value)
            params.append({"trial_id": trial_id, "param_name": name, "param_value": inner, "distribution_json": text})
        for objective, value in enumerate(trial.values or ()):
            stored, kind = models.TrialValueModel.value_to_stored_repr(value)
            values.append({"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind})
    yield models.TrialParamModel, params
    yield models.TrialValueModel, values
    for model, name in ((models.TrialUserAttributeModel, "user"), (models.TrialSystemAttributeModel, "system")):
        attributes = [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
            for trial_id, trial in zip(ids, trials, strict=True)
            for key, value in getattr(trial, f"{name}_attrs").items()
        ]
        yield model, attributes


def _utc(moment: datetime | None) -> datetime | None:
    """Return a time as Optuna's tables hold it."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None


def address_of(url: str) -> URL:
    """Return the address of a database, with the driver that is used here.

    Raises
    ------
    SpecError
        If it is none.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(url)
        address.get_dialect()
    except ImportError:
        pass
    except ArgumentError:
        raise SpecError(
            "--storage: not an address; allowed: postgresql+psycopg://USER@HOST/DATABASE or sqlite:///FILE"
        ) from None
    # The driver that the extra installs; SQLAlchemy's default may be another one.
    return address.set(drivername="postgresql+psycopg") if address.drivername == "postgresql" else address


def shown(address: URL) -> str:
    """Return an address as messages may show it: without the password, wherever it stands."""
    return address.difference_update_query(["password", "sslpassword"]).render_as_string(hide_password=True)


def make_tables(url: str) -> None:
    """Make Optuna's tables in a database that has none.

    Raises
    ------
    SpecError
        If those that are there are of another version of Optuna.
    """
    address = address_of(url)
    try:
        _together(lambda: _tables(address), Patience()).engine.dispose()
    except RuntimeError as error:
        raise SpecError(f"--storage {shown(address)}: {error}") from None


def _together(action: Callable[[], Outcome], patience: Patience) -> Outcome:
    """Make tables or a study. Whoever is first makes them; who does it at the same time fails, and finds them."""
    return Patience(CONNECT_S, lambda _: None, patience.stopped).until_done(action, _collision)


def _tables(address: URL) -> RDBStorage:
    import optuna
    from optuna.storages import RDBStorage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    limits = {"postgresql": {"connect_timeout": CONNECT_S}, "sqlite": {"timeout": BUSY_S}}
    options = {"pool_pre_ping": True, "connect_args": limits.get(address.get_backend_name(), {})}
    return RDBStorage(address.render_as_string(hide_password=False), engine_kwargs=options)


def _open(address: URL, name: str, directions: Sequence[Direction]) -> tuple[Study, Engine]:
    import optuna

    storage = _tables(address)
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    return study, storage.engine


def of_database(error: Exception) -> bool:
    """Tell whether an error comes from the connection or the server, and not from what was written."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    broken = isinstance(cause, DBAPIError) and cause.connection_invalidated
    return broken or isinstance(cause, OperationalError | InterfaceError)


def _collision(error: Exception) -> str | None:
    """Tell whether another machine made the same table or study at the same moment."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    causes = error, error.__cause__
    twice = any(isinstance(cause, IntegrityError | ProgrammingError) for cause in causes) or "already exists" in str(
        error
    )
    return "another machine prepares the database" if twice else None


def first_line(error: BaseException) -> str:
    """Return what a database says, without the statement."""
    cause = getattr(error.__cause__ or error, "orig", None) or error
    return str(cause).strip().split("\n")[0]
