"""Studies: their states, who has the lease, lists, and their trials in Optuna's tables."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Sequence

import optuna
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import func, select, text, update

from dse.patience import Patience
from dse.service.storage.database import Database
from dse.service.storage.errors import Conflict, NotFound, TooMany
from dse.service.storage.studies import LOSSES, Lease, Studies
from dse.service.storage.tables import STUDIES
from dse.service.work.leased_store import LeasedStore, LeaseLost
from dse.spec import StudySpec
from dse.storage.records import EVALUATION
from simulator import SpecError

from ..dse.test_storage import finished
from .conftest import changed, created

UNKNOWN = "0" * 32
COUNTS = {"evaluated": 20, "simulated": 18, "feasible": 9, "front": 3, "running_s": 1.5}


def claimed(studies: Studies, lease_s: float = 60, worker: str = "w") -> Lease:
    lease = studies.claim(worker, lease_s)
    assert lease
    return lease


def lapse(database: Database) -> None:
    """Let all leases end."""
    with database.writing() as connection:
        connection.execute(update(STUDIES).values(lease_until_s=database.now - 1))


# Creation


def test_created_study_waits_with_its_specification(studies: Studies, spec: StudySpec) -> None:
    row = created(studies, spec, designs=10**30)
    assert (row.state, row.evaluated, row.trials, row.revision) == ("queued", 0, 60, 1)
    assert row.designs == 2**63 - 1
    assert row.created_s == pytest.approx(time.time(), abs=5)
    assert StudySpec.parse(json.loads(studies.get(row.id).spec)) == spec


def test_same_key_gives_the_same_study(studies: Studies, spec: StudySpec) -> None:
    first = created(studies, spec, idempotency_key="a")
    assert created(studies, spec, idempotency_key="a") == first
    assert created(studies, spec, idempotency_key="b").id != first.id
    assert created(studies, spec).id != created(studies, spec).id
    with pytest.raises(Conflict, match=first.id):
        created(studies, changed(seed=1), idempotency_key="a")
    with pytest.raises(SpecError, match="Idempotency-Key"):
        created(studies, spec, idempotency_key="\0")


def test_not_more_studies_than_allowed_wait_or_run(studies: Studies, spec: StudySpec) -> None:
    first = created(studies, spec, most_active=2)
    second = created(studies, spec, most_active=2)
    with pytest.raises(TooMany, match="2 studies"):
        created(studies, spec, most_active=2)
    assert studies.get(first.id) == first
    studies.cancel(second.id)
    created(studies, spec, most_active=2)


def test_not_more_studies_than_allowed_are_kept(studies: Studies, spec: StudySpec) -> None:
    first = created(studies, spec, most=1)
    studies.cancel(first.id)
    with pytest.raises(TooMany, match="1 studies are kept"):
        created(studies, spec, most=1)
    studies.delete(first.id)
    created(studies, spec, most=1)


def test_the_limit_holds_when_many_come_at_once(studies: Studies, spec: StudySpec) -> None:
    outcomes: list[str] = []

    def create() -> None:
        try:
            created(studies, spec, most_active=5)
            outcomes.append("created")
        except TooMany:
            outcomes.append("too many")

    threads = [threading.Thread(target=create) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["created"] * 5 + ["too many"] * 7


def test_study_of_an_unknown_trace_is_not_kept(studies: Studies, spec: StudySpec) -> None:
    with pytest.raises(NotFound, match=r"mine\.csv"):
        created(studies, spec, traces=["mine.csv"])
    assert studies.list(limit=10) == ([], 0, None)


# States


@pytest.mark.parametrize("id", [UNKNOWN, "x", "", "\0", "' OR 1=1 --", "é" * 32])
def test_what_is_not_there_is_not_found(studies: Studies, id: str) -> None:
    for action in (studies.get, studies.pause, studies.resume, studies.cancel, studies.delete):
        with pytest.raises(NotFound):
            action(id)
    assert studies.revisions([id]) == {}
    assert studies.evaluations_since(id, 0) == ([], 0)


def test_what_is_asked_of_a_waiting_study_is_done_at_once(studies: Studies, spec: StudySpec) -> None:
    id = created(studies, spec).id
    assert studies.pause(id).state == "paused"
    assert studies.claim("w", 60) is None
    assert studies.resume(id).state == "queued"
    cancelled = studies.cancel(id)
    assert cancelled.state == "cancelled"
    assert cancelled.ended_s
    assert studies.resume(id).ended_s is None


def test_what_is_asked_of_a_running_study_is_left_to_its_worker(studies: Studies, spec: StudySpec) -> None:
    id = created(studies, spec).id
    lease = claimed(studies)
    assert (studies.pause(id).state, studies.asked(lease)) == ("running", "pause")
    assert studies.pause(id).asked == "pause"
    with pytest.raises(Conflict, match="about to pause"):
        studies.resume(id)
    assert studies.cancel(id).asked == "cancel"
    with pytest.raises(Conflict, match="about to be cancelled"):
        studies.pause(id)
    assert studies.renew(lease, 60) == "cancel"
    assert studies.finish(lease, "queued")
    row = studies.get(id)
    assert (row.state, row.asked, row.worker) == ("cancelled", "", None)
    assert row.ended_s


def test_finished_study_stays_finished(studies: Studies, spec: StudySpec) -> None:
    id = created(studies, spec).id
    assert studies.finish(claimed(studies), "finished", outcome="{}")
    for action in (studies.pause, studies.resume, studies.cancel):
        with pytest.raises(Conflict, match="it is finished"):
            action(id)
    row = studies.get(id)
    assert (row.state, row.outcome) == ("finished", "{}")


def test_failed_study_says_why_and_may_go_on(studies: Studies, spec: StudySpec) -> None:
    id = created(studies, spec).id
    studies.finish(claimed(studies), "failed", reason="no\0 luck")
    assert studies.get(id).reason == "no luck"
    row = studies.resume(id)
    assert (row.state, row.reason) == ("queued", "")


# Leases


def test_oldest_study_is_claimed_first_and_once(studies: Studies, spec: StudySpec) -> None:
    first, second = created(studies, spec), created(studies, spec)
    assert [claimed(studies).study for _ in range(2)] == [first.id, second.id]
    assert studies.claim("w", 60) is None
    row = studies.get(first.id)
    assert (row.state, row.worker, row.lease) == ("running", "w", 1)
    assert row.lease_until_s is not None
    assert row.lease_until_s - time.time() == pytest.approx(60, abs=5)


def test_lapsed_lease_is_somebody_elses_and_then_fenced(database: Database, studies: Studies, spec: StudySpec) -> None:
    id = created(studies, spec).id
    old = claimed(studies, worker="old")
    lapse(database)
    assert studies.renew(old, 60) == ""  # nobody took it
    assert studies.claim("new", 60) is None
    lapse(database)
    new = claimed(studies, worker="new")
    assert (new.study, new.number) == (id, 2)
    assert studies.renew(old, 60) is None
    assert studies.asked(old) is None
    assert studies.spec(old) is None
    assert not studies.progress(old, **COUNTS)
    assert not studies.finish(old, "finished")
    assert studies.lose(old, "died") is None
    row = studies.get(id)
    assert (row.worker, row.evaluated, row.losses) == ("new", 0, 1)
    assert studies.progress(new, **COUNTS)
    row = studies.get(id)
    assert (row.evaluated, row.simulated, row.feasible, row.front, row.running_s) == (20, 18, 9, 3, 1.5)
    assert row.losses == 0  # it got on


@pytest.mark.parametrize("how", ["worker", "process"])
def test_study_that_no_worker_survives_has_failed(
    database: Database, studies: Studies, spec: StudySpec, how: str
) -> None:
    id = created(studies, spec).id
    for _ in range(LOSSES):
        lease = claimed(studies)
        if how == "worker":
            lapse(database)
        else:
            studies.lose(lease, "its process was ended by SIGKILL")
    assert studies.claim("w", 60) is None
    row = studies.get(id)
    assert row.state == "failed"
    assert row.reason.startswith(f"given up after {LOSSES} attempts without a new trial: ")
    assert row.ended_s
    assert studies.resume(id).losses == 0


def test_losses_do_not_add_up_while_it_gets_on(database: Database, studies: Studies, spec: StudySpec) -> None:
    id = created(studies, spec).id
    for turn in range(2 * LOSSES):
        lease = claimed(studies)
        studies.progress(lease, **{**COUNTS, "evaluated": turn + 1})
        lapse(database)
    claimed(studies)
    assert studies.get(id).losses == 1


@pytest.mark.parametrize(("verb", "state"), [("pause", "paused"), ("cancel", "cancelled")])
@pytest.mark.parametrize("order", ["asked, then gone", "gone, then asked"])
def test_what_is_asked_is_done_when_the_worker_is_gone(
    database: Database, studies: Studies, spec: StudySpec, verb: str, state: str, order: str
) -> None:
    id = created(studies, spec).id
    lease = claimed(studies)
    if order == "asked, then gone":
        getattr(studies, verb)(id)
        lapse(database)
        studies.settle()
    else:
        lapse(database)
        getattr(studies, verb)(id)
    assert studies.get(id).state == state
    assert studies.claim("w", 60) is None
    assert studies.renew(lease, 60) is None


def claim_all(url: str, worker: str, answers: multiprocessing.Queue[list[str]]) -> None:
    database = Database(url)
    mine = []
    while lease := Studies(database).claim(worker, 60):
        mine.append(lease.study)
    answers.put(mine)


def test_each_study_is_claimed_once_by_20_threads_of_4_processes(
    database: Database, studies: Studies, spec: StudySpec
) -> None:
    ids = [created(studies, spec).id for _ in range(60)]
    mine: list[str] = []

    def claim(worker: int) -> None:
        while lease := studies.claim(str(worker), 60):
            mine.append(lease.study)

    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[list[str]] = context.Queue()
    processes = [context.Process(target=claim_all, args=(database.url, f"p{n}", answers)) for n in range(3)]
    threads = [threading.Thread(target=claim, args=(number,)) for number in range(20)]
    for each in (*processes, *threads):
        each.start()
    for thread in threads:
        thread.join()
    for _ in processes:
        mine += answers.get(timeout=60)
    assert sorted(mine) == sorted(ids)


class Model(RuleBasedStateMachine):
    """What a person and workers may do to a study, beside a model of a few lines."""

    studies: Studies
    database: Database

    @initialize()
    def create(self) -> None:
        with self.database.writing() as connection:
            connection.execute(text("DELETE FROM service_studies"))
        self.id = created(self.studies, changed()).id
        self.state, self.asked, self.losses = "queued", "", 0
        self.leases: list[Lease] = []
        self.lapsed = False

    def expect(self, done: bool, action: str) -> None:
        try:
            getattr(self.studies, action)(self.id)
        except Conflict:
            assert not done
        else:
            assert done

    def check(self) -> None:
        row = self.studies.get(self.id)
        assert (row.state, row.asked, row.losses) == (self.state, self.asked, self.losses)

    @property
    def waits(self) -> bool:
        return self.state == "queued" or (self.state == "running" and self.lapsed)

    @rule()
    def pause(self) -> None:
        if self.waits:
            self.state, self.asked = "paused", ""
            self.expect(True, "pause")
        elif self.state == "running" and self.asked != "cancel":
            self.asked = "pause"
            self.expect(True, "pause")
        else:
            self.expect(self.state == "paused", "pause")
        self.check()

    @rule()
    def cancel(self) -> None:
        if self.waits or self.state == "paused":
            self.state, self.asked = "cancelled", ""
            self.expect(True, "cancel")
        elif self.state == "running":
            self.asked = "cancel"
            self.expect(True, "cancel")
        else:
            self.expect(self.state == "cancelled", "cancel")
        self.check()

    @rule()
    def resume(self) -> None:
        able = self.state in ("paused", "cancelled", "failed")
        if able:
            self.state, self.losses = "queued", 0
        self.expect(able or self.state == "queued", "resume")
        self.check()

    @rule()
    def claim(self) -> None:
        lease = self.studies.claim("w", 60)
        if self.state == "running" and self.lapsed:
            if self.asked:
                self.state, self.asked = {"pause": "paused", "cancel": "cancelled"}[self.asked], ""
            elif self.losses >= LOSSES - 1:
                self.state = "failed"
            else:
                self.losses += 1
                self.lapsed = False
                assert lease
        elif self.state == "queued":
            self.state, self.lapsed = "running", False
            assert lease
        else:
            assert lease is None
        if lease:
            self.leases.append(lease)
        self.check()

    @precondition(lambda self: self.state == "running")
    @rule()
    def lapse(self) -> None:
        lapse(self.database)
        self.lapsed = True

    def holds(self, lease: Lease) -> bool:
        return self.state == "running" and lease is self.leases[-1]

    @precondition(lambda self: self.leases)
    @rule(old=st.booleans())
    def renew(self, old: bool) -> None:
        lease = self.leases[0 if old else -1]
        assert self.studies.renew(lease, 60) == (self.asked if self.holds(lease) else None)
        if self.holds(lease):
            self.lapsed = False
        self.check()

    @precondition(lambda self: self.leases)
    @rule(old=st.booleans(), state=st.sampled_from(["finished", "failed", "queued"]))
    def finish(self, old: bool, state: str) -> None:
        lease = self.leases[0 if old else -1]
        assert self.studies.finish(lease, state) == self.holds(lease)
        if self.holds(lease):
            asked = {"pause": "paused", "cancel": "cancelled"}.get(self.asked, "queued")
            self.state, self.asked = asked if state == "queued" else state, ""
        self.check()

    @precondition(lambda self: self.leases)
    @rule(old=st.booleans())
    def lose(self, old: bool) -> None:
        lease = self.leases[0 if old else -1]
        found = self.studies.lose(lease, "x")
        if self.holds(lease):
            last = "failed" if self.losses >= LOSSES - 1 else "queued"
            self.state = {"pause": "paused", "cancel": "cancelled"}.get(self.asked, last)
            self.asked, self.losses = "", self.losses + 1
            assert found == self.state
        else:
            assert found is None
        self.check()

    @rule()
    def delete(self) -> None:
        if self.state in ("queued", "running"):
            with pytest.raises(Conflict):
                self.studies.delete(self.id)


def test_states_are_those_of_a_simple_model(database: Database, studies: Studies) -> None:
    bound = type("Bound", (Model,), {"studies": studies, "database": database})
    quick = settings(
        max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(bound, settings=quick)


# Lists


def test_lists_show_the_newest_first_page_by_page(studies: Studies) -> None:
    ids = [created(studies, changed(name=f"study-{number}")).id for number in range(25)]
    seen: list[str] = []
    after: str | None = None
    while True:
        rows, total, after = studies.list(limit=10, after=after)
        assert total == 25
        assert all(row.spec == "" for row in rows)
        seen += [row.id for row in rows]
        if after is None:
            break
    assert seen == ids[::-1]
    for wrong in ("x", "nan_" + UNKNOWN, "0x1p+1", "0x1p+1_x", "0x1p+99999_" + UNKNOWN):
        with pytest.raises(SpecError, match="after"):
            studies.list(limit=10, after=wrong)


def names(studies: Studies, search: str = "", states: Sequence[str] = ()) -> list[str]:
    rows, total, _ = studies.list(limit=10, search=search, states=states)
    assert total == len(rows)
    return sorted(row.name for row in rows)


def test_search_knows_letters_beyond_ascii(studies: Studies) -> None:
    created(studies, changed(question="Wie groß wird die ÜBERLAST?"))
    for search in ("ÜBERLAST", "überlast", "Überlast", "groß"):
        assert studies.list(limit=10, search=search)[1] == 1, search


def test_lists_are_filtered(studies: Studies) -> None:
    created(studies, changed(name="chat", question="How many H100 for 50% more?"))
    studies.pause(created(studies, changed(name="code", question="cheapest_mix")).id)
    assert names(studies, "h100") == ["chat"]
    assert names(studies, "C") == ["chat", "code"]
    assert names(studies, "50% m") == ["chat"]
    assert names(studies, "%") == ["chat"]
    assert names(studies, "_") == ["code"]
    assert names(studies, "\0") == []
    assert names(studies, "'; DROP TABLE service_studies --") == []
    assert names(studies, states=["paused", "failed"]) == ["code"]
    assert names(studies, "chat", states=["paused"]) == []
    assert studies.counts() == {"queued": 1, "paused": 1}


def test_1000_studies_are_listed_within_100_ms(database: Database, studies: Studies) -> None:
    # Specifications of some length, as they are stored beside what the list reads.
    row = dict(created(studies, changed()).__dict__) | {"spec": json.dumps("x" * 20_000), "question": "why? " * 20}
    with database.writing() as connection:
        many = [{**row, "id": f"{number:032x}", "created_s": float(number)} for number in range(999)]
        connection.execute(STUDIES.insert(), many)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        rows, total, _ = studies.list(limit=1000)
        times.append(time.perf_counter() - start)
        assert (len(rows), total) == (1000, 1000)
    start = time.perf_counter()
    assert len(studies.revisions([row.id for row in rows])) == 1000
    times.append(time.perf_counter() - start)
    # Of the quickest: the machine may be busy with something else.
    assert min(times) < 0.1, times


# Trials


def store_of(database: Database, studies: Studies, lease: Lease, spec: StudySpec) -> LeasedStore:
    return LeasedStore(database.url, spec, studies, lease, Patience(1))


def test_evaluations_come_as_they_are_written(database: Database, studies: Studies, spec: StudySpec) -> None:
    id, other = created(studies, spec).id, created(studies, spec).id
    store = store_of(database, studies, claimed(studies), spec)
    second = store_of(database, studies, claimed(studies), spec)
    trials = finished(spec, 30)
    wanted = [trial.user_attrs[EVALUATION] for trial in trials]
    assert studies.evaluations_since(id, 0) == ([], 0)
    store.append_many(trials[:20])
    second.append_many(trials[:5])
    found, last = studies.evaluations_since(id, 0)
    assert found == wanted[:20]
    assert studies.evaluations_since(id, last) == ([], last)
    store.append_many(trials[20:])
    assert studies.evaluations_since(id, last)[0] == wanted[20:]
    assert studies.evaluations_since(id, 0)[0] == wanted
    assert studies.evaluations_since(other, 0)[0] == wanted[:5]
    first, next_place = studies.evaluations_since(id, 0, limit=7)
    assert first + studies.evaluations_since(id, next_place)[0] == wanted
    assert studies.evaluations_since(id, 10**30) == ([], 2**31 - 1)
    assert studies.evaluations_since(id, -5)[0] == wanted
    # Any Optuna tool sees the same.
    study = optuna.load_study(study_name=id, storage=database.url)
    assert [trial.user_attrs[EVALUATION] for trial in study.trials] == wanted
    store.close()
    second.close()


def test_trials_and_counts_are_written_together_or_not_at_all(
    database: Database, studies: Studies, spec: StudySpec
) -> None:
    id = created(studies, spec).id
    old = store_of(database, studies, claimed(studies), spec)
    trials = finished(spec, 30)
    old.append_many(trials[:10])
    row = studies.get(id)
    assert (row.evaluated, row.simulated) == (10, 10)
    assert row.revision == 3
    lapse(database)
    new = store_of(database, studies, claimed(studies), spec)
    assert len(new.trials) == 10
    assert new.session == 1
    with pytest.raises(LeaseLost):
        old.append_many(trials[10:20])
    assert len(studies.evaluations_since(id, 0)[0]) == 10
    assert studies.get(id).evaluated == 10
    new.append_many(trials[20:])
    assert studies.get(id).evaluated == 20
    studies.cancel(id)
    assert studies.finish(Lease(id, 2, "w"), "queued")
    studies.delete(id)
    with pytest.raises(LeaseLost):
        new.append_many(trials[10:20])
    old.close()
    new.close()


def test_deleted_study_leaves_nothing(database: Database, studies: Studies, spec: StudySpec) -> None:
    from optuna.storages._rdb import models

    kept, gone = created(studies, spec).id, created(studies, spec).id
    for _ in range(2):
        store = store_of(database, studies, claimed(studies), spec)
        store.append_many(finished(spec, 12))
        store.close()

    def rows() -> dict[str, int]:
        with database.reading() as connection:
            tables = models.BaseModel.metadata.sorted_tables
            return {t.name: connection.execute(select(func.count()).select_from(t)).scalar_one() for t in tables}

    both = rows()
    with pytest.raises(Conflict, match="running; cancel it first"):
        studies.delete(gone)
    for id in (kept, gone):
        studies.finish(Lease(id, 1, "w"), "finished")
    studies.delete(gone)
    one = rows()
    assert {name: 2 * count for name, count in one.items() if name != "version_info"} == {
        name: count for name, count in both.items() if name != "version_info"
    }
    assert len(studies.evaluations_since(kept, 0)[0]) == 12
    with pytest.raises(NotFound):
        studies.get(gone)
