"""Studies: what a person asked for, in which state it is, and who has the lease to run it.

Every change is one conditional statement, so that neither two people nor two workers get in each other's way.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Update,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from dse.service.storage import trials
from dse.service.storage.database import CREATING, Database
from dse.service.storage.errors import Conflict, NotFound, TooMany
from dse.service.storage.tables import STUDIES, STUDY_TRACES, TRACES
from dse.spec import StudySpec
from simulator import SpecError

ACTIVE: Final = ("queued", "running")
ENDED: Final = ("finished", "failed", "cancelled")
LOSSES: Final = 3
"""Workers that may die over a study, one after the other, before it has failed."""
LARGEST: Final = 2**63 - 1
_ID: Final = re.compile(r"[0-9a-f]{32}")
_KEY: Final = re.compile(r"[\x20-\x7e]{1,200}")


@dataclass(frozen=True)
class StudyRow:
    """A study as it is kept; see ``tables.py`` for what the fields mean.

    In lists, which do not read them, ``spec`` is empty and ``outcome`` is None.
    """

    id: str
    name: str
    question: str
    state: str
    asked: str
    reason: str
    created_s: float
    started_s: float | None
    ended_s: float | None
    idempotency_key: str | None
    revision: int
    worker: str | None
    lease: int
    lease_until_s: float | None
    losses: int
    designs: int
    trials: int
    requests: int
    evaluated: int
    simulated: int
    feasible: int
    front: int
    running_s: float
    spec: str = ""
    outcome: str | None = None

    def read_spec(self) -> StudySpec:
        """Return the specification; files that it names are found as :func:`~simulator.files.files_from` says.

        Raises
        ------
        Conflict
            If this version of the program cannot read it.
        """
        try:
            return StudySpec.parse(json.loads(self.spec), source=f"study {self.id}")
        except SpecError as error:
            raise Conflict(f"another version made this study, and this one cannot read it: {error}") from None


@dataclass(frozen=True)
class Counts:
    """How far a study is.

    Attributes
    ----------
    evaluated, simulated, feasible, front
        Designs.
    running_s
        Over all sessions.
    """

    evaluated: int
    simulated: int
    feasible: int
    front: int
    running_s: float


@dataclass(frozen=True)
class Lease:
    """The right to run a study, until somebody else has a later one.

    Attributes
    ----------
    study
        Its identifier.
    number
        Of this lease.
    worker
        Who has it.
    running_s
        For how long the study ran before.
    """

    study: str
    number: int
    worker: str
    running_s: float = 0.0


_C: Final = STUDIES.c
_LIST: Final = [column for column in STUDIES.columns if column.name not in ("spec", "outcome")]


class Studies:
    """The studies of a database.

    Parameters
    ----------
    database
        With the tables of the service.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        spec: StudySpec,
        *,
        designs: int,
        requests: int,
        traces: Sequence[str],
        idempotency_key: str | None,
        most_active: int,
        most: int,
    ) -> StudyRow:
        """Keep a new study, which waits for a worker from now on.

        Parameters
        ----------
        spec
            What to search.
        designs, requests
            In the space; of all workloads.
        traces
            Names of the uploaded traces that it needs.
        idempotency_key
            With the same key and specification, the study that is there already is returned.
        most_active
            Studies that may wait or run at the same time.
        most
            Studies that may be kept, those that have ended too.

        Raises
        ------
        Conflict
            If the key belongs to another specification.
        TooMany
            If too many are active, or kept.
        NotFound
            If a trace is not there.
        SpecError
            If the key cannot be one.
        """
        if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
            raise SpecError("Idempotency-Key: allowed: 1 to 200 visible ASCII characters")
        text = spec.model_dump_json()
        with self._database.alone(CREATING) as connection:
            same = select(STUDIES).where(_C.idempotency_key == idempotency_key)
            if idempotency_key is not None and (found := connection.execute(same).one_or_none()):
                if found.spec != text:
                    raise Conflict(f"Idempotency-Key: used for another study, {found.id}")
                return _row(found)
            kept = connection.execute(_count()).scalar_one()
            if kept >= most:
                raise TooMany(f"{kept:,} studies are kept, which is the limit; delete some that have ended")
            active = connection.execute(_count(_C.state.in_(ACTIVE))).scalar_one()
            if active >= most_active:
                raise TooMany(f"{active:,} studies wait or run, which is the limit; try again when one has ended")
            _check_traces(connection, traces)
            values = {
                "id": uuid.uuid4().hex,
                "name": spec.name,
                "question": spec.question,
                "spec": text,
                "state": "queued",
                "asked": "",
                "reason": "",
                "created_s": self._database.now,
                "idempotency_key": idempotency_key,
                "revision": 1,
                "lease": 0,
                "losses": 0,
                "designs": min(designs, LARGEST),
                "trials": spec.budget.trials,
                "requests": min(requests, LARGEST),
                "evaluated": 0,
                "simulated": 0,
                "feasible": 0,
                "front": 0,
                "running_s": 0.0,
            }
            row = connection.execute(insert(STUDIES).values(values).returning(STUDIES)).one()
            if traces:
                needs = [{"study": row.id, "trace": name} for name in dict.fromkeys(traces)]
                connection.execute(insert(STUDY_TRACES), needs)
            return _row(row)

    def get(self, id: str) -> StudyRow:
        """Return a study.

        Raises
        ------
        NotFound
            If there is none of that identifier.
        """
        found = None
        if _ID.fullmatch(id):
            with self._database.reading() as connection:
                found = connection.execute(select(STUDIES).where(_C.id == id)).one_or_none()
        if found is None:
            raise NotFound(f"no study {id!r}")
        return _row(found)

    def list(
        self, *, states: Sequence[str] = (), search: str = "", limit: int, after: str | None = None
    ) -> tuple[list[StudyRow], int, str | None]:
        """Return a page of studies, the newest first, without their specifications.

        Parameters
        ----------
        states
            Those to show; all if empty.
        search
            Part of a name or question, whatever its case.
        limit
            Rows of a page.
        after
            What the last page returned.

        Returns
        -------
        tuple
            The page, the number of studies on all pages, and where the next one begins; None at the end.

        Raises
        ------
        SpecError
            If ``after`` was not returned by a page.
        """
        if "\0" in search:
            return [], 0, None
        wanted: list[ColumnElement[bool]] = []
        if states:
            wanted.append(_C.state.in_(tuple(states)))
        if search:
            part = search.lower()
            columns = func.lower(_C.name), func.lower(_C.question)
            wanted.append(or_(*(column.contains(part, autoescape=True) for column in columns)))
        page = select(*_LIST).where(*wanted).order_by(_C.created_s.desc(), _C.id.desc()).limit(limit + 1)
        if after is not None:
            page = page.where(tuple_(_C.created_s, _C.id) < tuple_(*_place(after)))
        with self._database.reading() as connection:
            total = connection.execute(_count(*wanted)).scalar_one()
            rows = [_row(row) for row in connection.execute(page)]
        more = len(rows) > limit
        rows = rows[:limit]
        return rows, total, f"{rows[-1].created_s.hex()}_{rows[-1].id}" if more and rows else None

    def revisions(self, ids: Collection[str]) -> dict[str, int]:
        """Return the revision of each study that is there."""
        known = [id for id in ids if _ID.fullmatch(id)]
        with self._database.reading() as connection:
            found = connection.execute(select(_C.id, _C.revision).where(_C.id.in_(known)))
            return {row.id: row.revision for row in found}

    def counts(self) -> dict[str, int]:
        """Return how many studies are in each state."""
        with self._database.reading() as connection:
            found = connection.execute(select(_C.state, func.count().label("number")).group_by(_C.state))
            return {row.state: row.number for row in found}

    def pause(self, id: str) -> StudyRow:
        """Pause a study that waits or runs; asked a second time, nothing changes.

        Raises
        ------
        NotFound, Conflict
            If it is not there, or has ended.
        """
        waits = self._waits
        change = _changed(
            state=case((waits, "paused"), else_=_C.state),
            asked=case((waits, ""), else_="pause"),
            worker=case((waits, None), else_=_C.worker),
        )
        changed = change.where(_C.id == id, or_(waits, and_(_C.state == "running", _C.asked == "")))
        return self._change(id, changed, "pause", ("paused", "pause"))

    def resume(self, id: str) -> StudyRow:
        """Let a study go on that was paused or cancelled, or has failed.

        Raises
        ------
        NotFound, Conflict
            If it is not there, or not in one of these states.
        """
        change = _changed(state="queued", asked="", reason="", losses=0, ended_s=None)
        changed = change.where(_C.id == id, _C.state.in_(("paused", "cancelled", "failed")))
        return self._change(id, changed, "resume", ("queued", "nothing"))

    def cancel(self, id: str) -> StudyRow:
        """End a study that waits, runs or is paused; what it found stays.

        Raises
        ------
        NotFound, Conflict
            If it is not there, or has ended.
        """
        waits = or_(self._waits, _C.state == "paused")
        change = _changed(
            state=case((waits, "cancelled"), else_=_C.state),
            asked=case((waits, ""), else_="cancel"),
            worker=case((waits, None), else_=_C.worker),
            ended_s=case((waits, self._database.now), else_=_C.ended_s),
        )
        changed = change.where(_C.id == id, or_(waits, and_(_C.state == "running", _C.asked != "cancel")))
        return self._change(id, changed, "cancel", ("cancelled", "cancel"))

    @property
    def _waits(self) -> ColumnElement[bool]:
        """Whether nobody runs a study: what is asked of it can be done at once."""
        return or_(_C.state == "queued", self._lapsed)

    @property
    def _lapsed(self) -> ColumnElement[bool]:
        return and_(_C.state == "running", _C.lease_until_s < self._database.now)

    def _change(self, id: str, change: Update, verb: str, done: tuple[str, str]) -> StudyRow:
        """Change a study, or say why that cannot be; what is done or asked for already needs no change."""
        if _ID.fullmatch(id):
            with self._database.writing() as connection:
                changed = connection.execute(change.returning(STUDIES)).one_or_none()
            if changed:
                return _row(changed)
        found = self.get(id)
        if found.state == done[0] or (found.state == "running" and found.asked == done[1]):
            return found
        raise Conflict(f"study {id}: cannot {verb} it: it is {_state(found)}")

    def delete(self, id: str) -> None:
        """Delete a study and all its trials.

        Raises
        ------
        NotFound, Conflict
            If it is not there, or waits or runs.
        """
        if _ID.fullmatch(id):
            with self._database.writing() as connection:
                # In this order, which is that of whoever writes trials.
                trials.hold(connection, id)
                gone = delete(STUDIES).where(_C.id == id, _C.state.not_in(ACTIVE)).returning(_C.id)
                if connection.execute(gone).one_or_none():
                    trials.delete_all(connection, id)
                    return
        found = self.get(id)
        raise Conflict(f"study {id}: cannot delete it: it is {_state(found)}; cancel it first")

    def evaluations_since(self, id: str, after: int, *, limit: int | None = None) -> tuple[trials.Evaluations, int]:
        """Return what was found since a moment.

        Parameters
        ----------
        id
            Of the study.
        after
            What the last call returned; 0 for all.
        limit
            Trials to read at most; all if absent.

        Returns
        -------
        tuple
            Evaluations as plain data in the order in which they were written, each design once, and what to give as
            ``after`` at the next call.
        """
        if not _ID.fullmatch(id):
            return [], after
        with self._database.reading() as connection:
            return trials.since(connection, id, after, limit)

    def claim(self, worker: str, lease_s: float) -> Lease | None:
        """Take the lease of the study that waits for the longest time, or of one whose worker is gone.

        Parameters
        ----------
        worker
            Who takes it.
        lease_s
            For how long, unless it is renewed.

        Returns
        -------
        Lease or None
            None if there is nothing to do.
        """
        with self._database.reading() as connection:
            if connection.execute(select(_C.id).where(self._waits).limit(1)).one_or_none() is None:
                return None
        oldest = select(_C.id).where(self._waits).order_by(_C.created_s).limit(1).with_for_update(skip_locked=True)
        lost = case((_C.state == "running", 1), else_=0)
        take = _changed(
            state="running",
            asked="",
            worker=worker,
            lease=_C.lease + 1,
            lease_until_s=self._database.now + lease_s,
            started_s=func.coalesce(_C.started_s, self._database.now),
            losses=_C.losses + lost,
        )
        with self._database.writing() as connection:
            self._settle(connection)
            taken = take.where(_C.id == oldest.scalar_subquery()).returning(_C.id, _C.lease, _C.running_s)
            row = connection.execute(taken).one_or_none()
        return Lease(row.id, row.lease, worker, row.running_s) if row else None

    def settle(self) -> None:
        """Do what was asked of studies whose worker is gone, and end those that no worker survives."""
        with self._database.reading() as connection:
            if connection.execute(select(_C.id).where(self._lapsed).limit(1)).one_or_none() is None:
                return
        with self._database.writing() as connection:
            self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        free = {"worker": None, "lease_until_s": None}
        over = {"ended_s": self._database.now, **free}
        pause = _changed(state="paused", asked="", **free).where(self._lapsed, _C.asked == "pause")
        cancel = _changed(state="cancelled", asked="", **over).where(self._lapsed, _C.asked == "cancel")
        reason = _given_up("the worker was gone")
        fail = _changed(state="failed", reason=reason, **over).where(self._lapsed, _C.losses >= LOSSES - 1)
        for change in (pause, cancel, fail):
            connection.execute(change)

    def spec(self, lease: Lease) -> str | None:
        """Return the specification of a study as JSON; None if the lease is lost."""
        with self._database.reading() as connection:
            return connection.execute(select(_C.spec).where(*_held(lease))).scalar_one_or_none()

    def asked(self, lease: Lease) -> str | None:
        """Return what was asked of a study: nothing, ``pause`` or ``cancel``; None if the lease is lost."""
        with self._database.reading() as connection:
            return connection.execute(select(_C.asked).where(*_held(lease))).scalar_one_or_none()

    def settled(self, lease: Lease) -> bool:
        """Tell whether a study has ended under a lease."""
        mine = select(_C.id).where(_C.id == lease.study, _C.lease == lease.number, _C.state.in_(("finished", "failed")))
        with self._database.reading() as connection:
            return connection.execute(mine).one_or_none() is not None

    def renew(self, lease: Lease, lease_s: float) -> str | None:
        """Keep a lease for some more time, also one that lapsed but that nobody else took.

        Returns
        -------
        str or None
            What was asked of the study: nothing, ``pause`` or ``cancel``; None if the lease is lost.
        """
        longer = update(STUDIES).where(*_held(lease)).values(lease_until_s=self._database.now + lease_s)
        with self._database.writing() as connection:
            return connection.execute(longer.returning(_C.asked)).scalar_one_or_none()

    def progress(
        self, lease: Lease, *, evaluated: int, simulated: int, feasible: int, front: int, running_s: float
    ) -> bool:
        """Note how far a study is; tell whether the lease is still held."""
        counts = Counts(evaluated, simulated, feasible, front, running_s)
        with self._database.writing() as connection:
            return self.note(connection, lease, counts)

    def note(self, connection: Connection, lease: Lease, counts: Counts) -> bool:
        """Note how far a study is in a transaction that is under way; tell whether the lease is still held.

        Until the transaction ends, nobody else can take the lease.
        """
        got_on = _C.evaluated < counts.evaluated
        change = _changed(**vars(counts), losses=case((got_on, 0), else_=_C.losses))
        return connection.execute(change.where(*_held(lease)).returning(_C.id)).one_or_none() is not None

    def finish(self, lease: Lease, state: str, *, reason: str = "", outcome: str | None = None) -> bool:
        """End a session of a study and give the lease back.

        Parameters
        ----------
        lease
            Of the session.
        state
            finished, failed, paused, cancelled; or queued, which becomes what was asked for meanwhile.
        reason
            Why it failed.
        outcome
            JSON of what only the end knows; what is there stays if None.

        Returns
        -------
        bool
            False if the lease is lost; then nothing changes.
        """
        becomes: Any = state
        ended: Any = self._database.now if state in ENDED else None
        if state == "queued":
            becomes = case((_C.asked == "pause", "paused"), (_C.asked == "cancel", "cancelled"), else_="queued")
            ended = case((_C.asked == "cancel", self._database.now), else_=None)
        change = _changed(
            state=becomes,
            asked="",
            reason=reason.replace("\0", ""),
            worker=None,
            lease_until_s=None,
            ended_s=ended,
            outcome=_C.outcome if outcome is None else outcome,
        )
        with self._database.writing() as connection:
            return connection.execute(change.where(*_held(lease)).returning(_C.id)).one_or_none() is not None

    def lose(self, lease: Lease, reason: str) -> str | None:
        """Give a study back whose process died; it waits again, unless that happened too often.

        Returns
        -------
        str or None
            Its state; None if the lease is lost.
        """
        last = _C.losses >= LOSSES - 1
        change = _changed(
            state=case(
                (_C.asked == "pause", "paused"),
                (_C.asked == "cancel", "cancelled"),
                (last, "failed"),
                else_="queued",
            ),
            reason=case((and_(_C.asked == "", last), _given_up(reason)), else_=""),
            ended_s=case((or_(_C.asked == "cancel", and_(_C.asked == "", last)), self._database.now), else_=None),
            asked="",
            worker=None,
            lease_until_s=None,
            losses=_C.losses + 1,
        )
        with self._database.writing() as connection:
            return connection.execute(change.where(*_held(lease)).returning(_C.state)).scalar_one_or_none()


def _given_up(reason: str) -> str:
    return f"given up after {LOSSES} attempts without a new trial: {reason}"


def _held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return _C.id == lease.study, _C.lease == lease.number, _C.state == "running"


def _changed(**values: Any) -> Update:
    return update(STUDIES).values(revision=_C.revision + 1, **values)


def _count(*wanted: ColumnElement[bool]) -> Select[int]:
    return select(func.count()).select_from(STUDIES).where(*wanted)


def _row(row: Row[Any]) -> StudyRow:
    return StudyRow(**row._mapping)


def _state(row: StudyRow) -> str:
    doing = {"pause": ", and about to pause", "cancel": ", and about to be cancelled"}
    return row.state + (doing.get(row.asked, "") if row.state == "running" else "")


def _place(after: str) -> tuple[float, str]:
    created, _, id = after.partition("_")
    try:
        moment = float.fromhex(created)
    except (ValueError, OverflowError):
        moment = float("nan")
    if not (0 <= moment < float("inf") and _ID.fullmatch(id)):
        raise SpecError("after: not the beginning of a page; give what `next` was")
    return moment, id


def _check_traces(connection: Connection, names: Sequence[str]) -> None:
    known = set(connection.execute(select(TRACES.c.name).where(TRACES.c.name.in_(tuple(names)))).scalars())
    if missing := [name for name in names if name not in known]:
        raise NotFound(f"no trace {missing[0]!r}")
