"""What the server knows of studies, so that most questions are answered without the database and without computing.

A study's row and what follows from it are taken for current for a moment. Then its revision is looked up, together
with those of all other studies that are asked for at the same time; only if it changed, the row and the new trials are
read. Answers are kept as bytes. All methods belong to the event loop; what waits for the database or computes runs in
threads, one at a time for each study.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Hashable
from time import monotonic
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread

from dse.service.answers.records import StudyList, StudySummary
from dse.service.answers.study_view import objectives_of
from dse.service.api.kept import Answer, Answers
from dse.service.api.known import Known, Trials
from dse.service.api.revisions import Revisions
from dse.service.storage.errors import NotFound
from dse.service.storage.studies import Studies, StudyRow
from dse.spec import StudySpec
from simulator.files import Finder, files_from

T = TypeVar("T")

FRESH_S: Final = 0.25
"""So long what was read is taken for current; what this server changed itself is seen at once."""
AHEAD_S: Final = 0.1
"""After so long it is read anew, without anybody waiting for it."""
BEHIND_S: Final = 2.0
"""So old may be what follows from the trials of a study that runs, while newer ones are taken in."""
COMPUTING: Final = 2
"""Threads that compute at the same time: more would keep the event loop from running."""
VIEW_BYTES: Final = 512_000_000
"""Of all trials that are kept, as far as this can be told."""
STUDIES: Final = 2_000
"""Of which something is kept."""
READ_AT_ONCE: Final = 1_000
"""Trials."""
LISTS: Final = 100
"""Lists that are kept."""
LIST_BYTES: Final = 2_000_000
"""Of one; a larger one is read anew each time."""
GONE: Final = 10_000
"""Deleted studies that are remembered, so that none comes back that was read just before."""
ANY: Final = 0
"""Stands for the revision of what never changes."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")

log = logging.getLogger(__name__)


class Views:
    """Answers about studies.

    Parameters
    ----------
    studies
        Where they are stored.
    find
        Finds files that specifications name.
    """

    def __init__(self, studies: Studies, find: Finder) -> None:
        self._studies, self._find = studies, find
        self._revisions = Revisions(studies)
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._gone: set[str] = set()
        self._answers = Answers()
        self._making: dict[Hashable, asyncio.Task[Any]] = {}
        self._lists: OrderedDict[Hashable, tuple[float, Answer]] = OrderedDict()
        self._changes = 0
        self._computing = CapacityLimiter(COMPUTING)

    # Rows

    async def row(self, id: str) -> StudyRow:
        """Return a study's row, at most :data:`FRESH_S` old.

        Raises
        ------
        NotFound
            If there is none.
        """
        return (await self._current(id)).row

    def changed(self, row: StudyRow) -> None:
        """Take notice of what this server changed."""
        self._forget_lists()
        self._take(row)

    def deleted(self, id: str) -> None:
        """Take notice that a study is gone."""
        self._forget_lists()
        self._known.pop(id, None)
        if len(self._gone) == GONE:
            self._gone.clear()
        self._gone.add(id)

    def _forget_lists(self) -> None:
        self._lists.clear()
        self._changes += 1

    async def look(self, ids: Collection[str]) -> dict[str, int]:
        """Look up the revisions of studies that are watched, in one query."""
        found = await asyncio.gather(*map(self._revisions.of, ids))
        now = monotonic()
        for id, revision in zip(ids, found, strict=True):
            known = self._known.get(id)
            if known is not None:
                known.looked_s = now if known.row.revision == revision else -math.inf
        return {id: revision for id, revision in zip(ids, found, strict=True) if revision is not None}

    async def _current(self, id: str) -> Known:
        if not _ID.fullmatch(id):
            raise NotFound(f"study: no {id[:100]!r}")
        known = self._known.get(id)
        age_s = math.inf if known is None else monotonic() - known.looked_s
        if known is not None and age_s < AHEAD_S:
            return known
        task = self._begun(("row", id), lambda: self._looked_up(id))
        return known if known is not None and age_s < FRESH_S else await asyncio.shield(task)

    async def _looked_up(self, id: str) -> Known:
        """Return what is known of a study now: its row is read only if it changed."""
        revision, now = await self._revisions.of(id), monotonic()
        if revision is None:
            self._known.pop(id, None)
            raise NotFound(f"study: no {id!r}")
        known = self._known.get(id)
        if known is None or known.row.revision < revision:
            return self._take(await to_thread.run_sync(self._studies.get, id))
        known.looked_s = max(known.looked_s, now)
        return known

    def _take(self, row: StudyRow) -> Known:
        if row.id in self._gone:
            # It was read just before.
            raise NotFound(f"study: no {row.id!r}")
        known = self._known.get(row.id)
        if known is None:
            known = self._known[row.id] = Known(row, monotonic())
        elif known.row.revision <= row.revision:
            known.row, known.looked_s = row, monotonic()
        self._make_room(row.id)
        return known

    def _make_room(self, id: str) -> None:
        """Forget what was not asked for the longest, save for one study."""
        self._known.move_to_end(id)
        taken = sum(known.size for known in self._known.values())
        while len(self._known) > 1 and (taken > VIEW_BYTES or len(self._known) > STUDIES):
            taken -= self._known.popitem(last=False)[1].size

    # Trials

    async def trials(self, id: str) -> tuple[StudyRow, Trials]:
        """Return a study's row, and all trials that had finished when it was written.

        Its :class:`Trials` may have grown since. Only what cannot be seen half-grown may be read of them outside of
        :meth:`answer`: the list of their JSON.
        """
        known = await self._current(id)
        async with known.lock:
            return await self._grown(known)

    async def _grown(self, known: Known) -> tuple[StudyRow, Trials]:
        row, trials = known.row, known.trials
        if trials is None or known.of_revision < row.revision:
            # Until it is done; what fails half-way is read anew.
            known.trials = None
            trials = await to_thread.run_sync(self._read, row, trials, limiter=self._computing)
            known.trials, known.of_revision = trials, row.revision
            self._make_room(row.id)
        return row, trials

    def _read(self, row: StudyRow, trials: Trials | None) -> Trials:
        if trials is None:
            trials = Trials(self.spec(row))
        with files_from(self._find):
            while True:
                evaluations, cursor = self._studies.evaluations_since(row.id, trials.cursor, limit=READ_AT_ONCE)
                if cursor == trials.cursor:
                    return trials
                trials.grow(evaluations, cursor)

    def spec(self, row: StudyRow) -> StudySpec:
        """Return a study's specification; called in threads.

        Raises
        ------
        Conflict
            If this version of the program cannot read it.
        """
        with files_from(self._find):
            return row.read_spec()

    # Answers

    async def answer(
        self, id: str, name: Hashable, make: Callable[[StudyRow, Trials], Answer], *, latest: bool = False
    ) -> Answer:
        """Return what follows from a study's row and trials; computed once for each revision, in a thread.

        While the study runs, what was answered a moment ago is answered again until the new answer is there: nobody
        waits for the trials that arrive all the time. Of a study that does not run, only the last answer is given.

        Parameters
        ----------
        id
            Of the study.
        name
            What is asked for, with all that it depends on beside the study.
        make
            Computes it.
        latest
            Wait for the new answer in any case.
        """
        known = await self._current(id)
        if (kept := self._answers.of(id, name, known.row.revision)) is not None:
            return kept
        task = self._begun((id, name, known.row.revision), lambda: self._made(known, name, make))
        if known.row.state == "running" and not latest:
            older = self._answers.older(id, name, BEHIND_S)
            if older is not None:
                return older
        return await asyncio.shield(task)

    async def _made(self, known: Known, name: Hashable, make: Callable[[StudyRow, Trials], Answer]) -> Answer:
        async with known.lock:
            row, trials = await self._grown(known)
            if (kept := self._answers.of(row.id, name, row.revision)) is not None:
                return kept
            answer = await self.computed(lambda: make(row, trials))
            return self._answers.keep(row.id, name, row.revision, answer)

    def _begun(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Return the task that finds something out: that of whoever asked first."""
        if (task := self._making.get(key)) is None:
            task = self._making[key] = asyncio.create_task(make())
            task.add_done_callback(lambda done: self._over(key, done))
        return task

    def _over(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._making[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            # Whoever waits is told; perhaps nobody does.
            log.debug("%s: %s", key, error)

    async def read(self, id: str, take: Callable[[StudyRow, Trials], T]) -> T:
        """Return what a function makes of a study's row and trials, in a thread; not kept."""
        known = await self._current(id)
        async with known.lock:
            row, trials = await self._grown(known)
            return await self.computed(lambda: take(row, trials))

    async def once(
        self, id: str, name: Hashable, make: Callable[[], Coroutine[Any, Any, Answer]], *, revision: int = ANY
    ) -> Answer:
        """Return an answer that takes long; whoever asks the same meanwhile waits for the same computation."""
        if (kept := self._answers.of(id, name, revision)) is not None:
            return kept
        answer = await asyncio.shield(self._begun((id, name, revision), make))
        return self._answers.keep(id, name, revision, answer)

    async def specification(self, id: str) -> Answer:
        """Return a study's specification as YAML."""
        row = (await self._current(id)).row

        def written() -> Answer:
            return Answer.of(self.spec(row).to_yaml().encode(), "application/yaml", f"{row.name}.yaml")

        return await self.once(id, "specification", lambda: self.computed(written))

    async def study(self, id: str) -> Answer:
        """Return a study with its specification, as records.Study."""
        row = (await self._current(id)).row
        if (kept := self._answers.of(id, "study", row.revision)) is not None:
            return kept

        def described() -> Answer:
            objectives = [each.model_dump() for each in objectives_of(self.spec(row))]
            return Answer.of(b'"spec":%b,"objectives":%b' % (row.spec.encode(), _json(objectives)))

        never_changes = (await self.once(id, "described", lambda: self.computed(described))).content
        outcome = json.loads(row.outcome) if row.outcome else {}
        end = b'"certificate":%b,"sureness":%b}' % tuple(
            _json(outcome.get(name)) for name in ("certificate", "sureness")
        )
        content = b",".join((summary_of(row).model_dump_json().encode()[:-1], never_changes, end))
        return self._answers.keep(id, "study", row.revision, Answer.of(content))

    async def computed(self, make: Callable[[], T]) -> T:
        """Return what a function returns, called in one of few threads; files are found as in specifications."""

        def inside() -> T:
            with files_from(self._find):
                return make()

        return await to_thread.run_sync(inside, limiter=self._computing)

    async def listed(self, *, states: tuple[str, ...], search: str, limit: int, after: str | None) -> Answer:
        """Return a StudyList, at most :data:`FRESH_S` old."""
        key = (states, search, limit, after)
        read_s, known = self._lists.get(key, (-math.inf, None))
        age_s = monotonic() - read_s
        if known is not None and age_s < AHEAD_S:
            return known

        async def read() -> Answer:
            changes, now = self._changes, monotonic()
            found = await to_thread.run_sync(lambda: self._list(states, search, limit, after))
            if changes == self._changes and len(found.content) <= LIST_BYTES:
                self._lists[key] = (now, found)
                self._lists.move_to_end(key)
                while len(self._lists) > LISTS:
                    self._lists.popitem(last=False)
            return found

        task = self._begun(("list", self._changes, key), read)
        return known if known is not None and age_s < FRESH_S else await asyncio.shield(task)

    def _list(self, states: tuple[str, ...], search: str, limit: int, after: str | None) -> Answer:
        rows, total, following = self._studies.list(states=states, search=search, limit=limit, after=after)
        found = StudyList(studies=[summary_of(row) for row in rows], total=total, next=following)
        return Answer.of(found.model_dump_json().encode())


def summary_of(row: StudyRow) -> StudySummary:
    """Return a study's row as a line of the list."""
    return StudySummary.model_construct(**{name: _finite(getattr(row, name)) for name in StudySummary.model_fields})


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(data: object) -> bytes:
    return json.dumps(data).encode()
