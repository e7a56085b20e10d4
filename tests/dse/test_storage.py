"""Finished trials in files and databases: all of them, each once, in Optuna's own formats."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from dse.evaluation import Evaluation
from dse.objectives import Direction
from dse.spec import StudySpec
from dse.storage import EVALUATION, Store, TrialJournal, open_store, read_evaluations
from dse.storage.database import Database
from dse.storage.stored_trials import read_trials
from simulator import SpecError

from .conftest import small
from .postgres import PostgreSQL, binaries, make_folder
from .processes import quick_starts

DIRECTIONS: tuple[Direction, ...] = ("minimize", "minimize")


def finished(spec: StudySpec, count: int, first: int = 0) -> list[FrozenTrial]:
    """Return trials of distinct designs as a study tells them, infinite objectives among them."""
    space = spec.space.space
    known = {each.name: CategoricalDistribution(each.values) for each in space.dimensions}
    trials = []
    for number, design in enumerate(itertools.islice(space, first, first + count), start=first):
        worst = number % 5 == 0
        evaluation = Evaluation(design, (float("inf") if worst else 1.5 * number, -2.0), {"a": 0.5}, number=number)
        distributions: dict[str, BaseDistribution] = {name: known[name] for name in design}
        trials.append(
            optuna.trial.create_trial(
                values=list(evaluation.objectives),
                params=dict(design),
                distributions=distributions,
                user_attrs={EVALUATION: evaluation.to_json()},
                system_attrs={"constraints": [0.5]},
            )
        )
    return trials


def content(trial: FrozenTrial) -> tuple[Any, ...]:
    """Return everything but the number, which a store gives."""
    assert trial.datetime_start
    assert trial.datetime_complete
    start, end = trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()
    attributes = trial.user_attrs, trial.system_attrs
    return trial.state, trial.values, list(trial.params.items()), trial.distributions, attributes, start, end


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    if not (binaries() and find_spec("psycopg")):
        pytest.skip("PostgreSQL's programs (initdb, pg_ctl) or psycopg are not on this machine")
    folder = make_folder()
    with PostgreSQL(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'trials.db'}"
    server: PostgreSQL = request.getfixturevalue("server")
    return server.url


_names = itertools.count()


@pytest.fixture
def spec() -> StudySpec:
    """A study of a name that no other test uses: they share a server."""
    return small(name=f"study-{next(_names)}")


def opened(journal: Path | None, url: str | None, spec: StudySpec) -> Store:
    store = open_store(journal, url, spec, DIRECTIONS)
    assert store
    return store


# Journals


def test_batch_is_one_write_and_what_optuna_itself_would_have_written(tmp_path: Path, spec: StudySpec) -> None:
    trials = finished(spec, 30)
    journal = TrialJournal(tmp_path / "ours", spec, DIRECTIONS)
    journal.append_many(trials[:20])
    journal.append(trials[20])
    journal.append_many(trials[21:])
    journal.append_many([])
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "theirs"))
    theirs = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend), study_name=spec.name, directions=DIRECTIONS
    )
    theirs.add_trials(trials)
    for path in ("ours", "theirs"):
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / path)))
        study = optuna.load_study(study_name=spec.name, storage=storage)
        assert [trial.number for trial in study.trials] == list(range(30))
        assert [content(trial) for trial in study.trials] == [content(trial) for trial in trials]
    ours, optunas = ((tmp_path / path).read_text().splitlines() for path in ("ours", "theirs"))
    drop = ("worker_id",)
    records = [
        [{k: v for k, v in json.loads(line).items() if k not in drop} for line in each] for each in (ours, optunas)
    ]
    assert [each for each in records[0] if "state" in each] == [each for each in records[1] if "state" in each]


def test_journal_is_read_back_in_the_order_of_proposal(tmp_path: Path, spec: StudySpec) -> None:
    trials = finished(spec, 10)
    TrialJournal(tmp_path / "j", spec, DIRECTIONS).append_many(trials[::-1])
    again = TrialJournal(tmp_path / "j", spec, DIRECTIONS)
    assert [content(trial) for trial in again.trials] == [content(trial) for trial in trials]
    assert [each.number for each in read_evaluations(tmp_path / "j", spec.name)] == list(range(10))
    again.append_many(finished(spec, 5, first=10))
    assert len(again.trials) == len(TrialJournal(tmp_path / "j", spec, DIRECTIONS).trials) == 15


def test_cut_off_anywhere_the_journal_keeps_all_whole_records(tmp_path: Path, spec: StudySpec) -> None:
    path = tmp_path / "j"
    TrialJournal(path, spec, DIRECTIONS).append_many(finished(spec, 6))
    whole = path.read_bytes()
    first = whole.index(b"\n", whole.index(b"dse:spec")) + 1
    for end in range(first, len(whole), 97):
        path.write_bytes(whole[:end])
        journal = TrialJournal(path, spec, DIRECTIONS)
        kept = whole[first:end].count(b"\n")
        assert len(journal.trials) == kept
        journal.append_many(finished(spec, 2, first=100))
        assert len(read_evaluations(path, spec.name)) == kept + 2


def test_design_that_was_written_twice_counts_once(tmp_path: Path, spec: StudySpec) -> None:
    journal = TrialJournal(tmp_path / "j", spec, DIRECTIONS)
    journal.append_many(finished(spec, 4))
    journal.append_many(finished(spec, 4))
    assert len(journal.trials) == len(read_evaluations(tmp_path / "j", spec.name)) == 4


# Databases


def test_database_holds_what_optuna_itself_would_have_written(url: str, spec: StudySpec) -> None:
    trials = finished(spec, 30)
    ours = opened(None, url, spec)
    ours.append_many(trials[:7])
    ours.append(trials[7])
    ours.append_many(trials[8:])
    ours.append_many([])
    theirs = optuna.create_study(storage=url, study_name=f"{spec.name}-optuna", directions=DIRECTIONS)
    theirs.add_trials(trials)
    for name in (spec.name, f"{spec.name}-optuna"):
        study = optuna.load_study(study_name=name, storage=url)
        assert [trial.number for trial in study.trials] == list(range(30))
        assert [content(trial) for trial in study.trials] == [content(trial) for trial in trials]
    assert [content(trial) for trial in ours.trials] == [content(trial) for trial in trials]


def test_machines_hear_of_each_other_and_nothing_is_stored_twice(url: str, spec: StudySpec) -> None:
    one, two = opened(None, url, spec), opened(None, url, spec)
    assert (one.session, two.session) == (0, 1)
    one.append_many(finished(spec, 10))
    assert one.refresh() == []
    assert [each.user_attrs for each in two.refresh()] == [each.user_attrs for each in finished(spec, 10)]
    assert two.refresh() == []
    two.append_many(finished(spec, 10, first=5))  # five of them are known
    assert [each.user_attrs[EVALUATION]["number"] for each in one.refresh()] == list(range(10, 15))
    assert one.refresh() == two.refresh() == []
    assert len(one.trials) == len(two.trials) == len(optuna.load_study(study_name=spec.name, storage=url).trials) == 15


def test_refresh_reads_only_what_is_new(tmp_path: Path, spec: StudySpec) -> None:
    """What was read stays known even if it is no longer there: nobody reads it again."""
    file = tmp_path / "trials.db"
    one, two = opened(None, f"sqlite:///{file}", spec), opened(None, f"sqlite:///{file}", spec)
    one.append_many(finished(spec, 10))
    assert len(two.refresh()) == 10
    connection = sqlite3.connect(file)
    connection.execute("UPDATE trial_user_attributes SET value_json = 'unreadable' WHERE trial_id <= 10")
    connection.commit()
    one.append_many(finished(spec, 3, first=10))
    assert len(two.refresh()) == 3


def test_trials_of_other_tools_are_left_alone(url: str, spec: StudySpec) -> None:
    store = opened(None, url, spec)
    store.append_many(finished(spec, 3))
    study = optuna.load_study(study_name=spec.name, storage=url)
    study.ask()
    assert store.refresh() == []
    store.append_many(finished(spec, 3, first=3))
    assert len(store.trials) == 6
    states = [trial.state for trial in optuna.load_study(study_name=spec.name, storage=url).trials]
    assert states == [TrialState.COMPLETE] * 3 + [TrialState.RUNNING] + [TrialState.COMPLETE] * 3


def test_trials_are_read_as_optuna_reads_them(url: str, spec: StudySpec) -> None:
    """Of all states, with all kinds of parameters, infinite values and many attributes, beside another study."""
    store = Database(url, spec, DIRECTIONS)
    rich = finished(spec, 20)
    for trial in rich:
        trial.user_attrs |= {f"figure-{number}": [number / 3, {"of": None}] for number in range(40)}
    store.append_many(rich)
    study = optuna.load_study(study_name=spec.name, storage=url)
    other = optuna.create_study(study_name=f"{spec.name}-other", storage=url, directions=DIRECTIONS)
    for here in (study, other):
        for number in range(3):
            asked = here.ask()
            asked.suggest_float("x", 1e-3, 1, log=True)
            asked.suggest_float("stepped", 0, 1, step=0.25)
            asked.suggest_int("n", 1, 2**20, log=True)
            asked.suggest_categorical("kind", ["a", None, True, 2, 0.5])
            asked.set_user_attr("note", "ü")
            asked.set_constraint("memory", -0.5)
            if number:
                here.tell(asked, None if number == 1 else [float("-inf"), 1e300], state=TrialState(number % 2 * 2 + 1))
        here.enqueue_trial({"n": 3}, user_attrs={"why": "asked for"})
    single = optuna.create_study(study_name=f"{spec.name}-steps", storage=url)
    reported = single.ask()
    for step, value in enumerate((1.5, float("inf"), float("-inf"))):
        reported.report(value, step)
    single.tell(reported, state=TrialState.PRUNED)
    engine = store._engine
    for each in (study, other, single):
        # A storage without what Optuna remembers of those that it wrote.
        theirs = optuna.load_study(study_name=each.study_name, storage=url).get_trials()
        with engine.connect() as connection:
            ours = read_trials(connection, each._study_id)
            assert ours == theirs
            assert [repr(trial.params) for trial in ours] == [repr(trial.params) for trial in theirs]
            assert [list(trial.distributions) for trial in ours] == [list(trial.distributions) for trial in theirs]
            assert all(type(trial.params) is type(trial.user_attrs) is dict for trial in ours)
            middle = theirs[len(theirs) // 2]._trial_id
            assert read_trials(connection, each._study_id, middle) == [t for t in theirs if t._trial_id > middle]
    states = {trial.state for each in (study, other, single) for trial in each.get_trials()}
    assert states == set(TrialState)
    assert store.trials == study.get_trials()[:20]
    store.close()


def write(url: str, name: str, first: int, barrier: Any) -> None:
    """Take part in a study as one of several machines."""
    spec = small(name=name)
    trials = finished(spec, 40, first=first)
    barrier.wait()
    store = opened(None, url, spec)
    for start in range(0, 40, 5):
        store.append_many(trials[start : start + 5])
    store.close()


def test_machines_that_begin_and_write_at_the_same_time(tmp_path: Path, spec: StudySpec, server: PostgreSQL) -> None:
    """Tables, study and trials are made by four processes at once; each hands in ten designs of its neighbour's."""
    for url in (f"sqlite:///{tmp_path / 'trials.db'}", server.url):
        context = quick_starts()
        barrier = context.Barrier(4)
        machines = [context.Process(target=write, args=(url, spec.name, 30 * i, barrier)) for i in range(4)]
        for machine in machines:
            machine.start()
        for machine in machines:
            machine.join(120)
        assert [machine.exitcode for machine in machines] == [0] * 4
        study = optuna.load_study(study_name=spec.name, storage=url)
        assert sorted(t.user_attrs[EVALUATION]["number"] for t in study.trials) == list(range(130))
        assert [trial.number for trial in study.trials] == list(range(130))


def test_journals_are_mirrored_both_ways(url: str, tmp_path: Path, spec: StudySpec) -> None:
    one, two = opened(tmp_path / "one", url, spec), opened(tmp_path / "two", url, spec)
    one.append_many(finished(spec, 10))
    two.append_many(finished(spec, 10, first=5))
    heard: list[int] = []
    deadline = time.monotonic() + 30
    while len(heard) < 5 and time.monotonic() < deadline:
        heard += [each.user_attrs[EVALUATION]["number"] for each in two.refresh()]
        time.sleep(0.05)
    assert heard == list(range(5))
    one.close()
    two.close()
    assert len(read_evaluations(tmp_path / "two", spec.name)) == 15
    assert len(optuna.load_study(study_name=spec.name, storage=url).trials) == 15
    # A machine that joins later takes all of it over; one that comes back gets what it missed.
    for name in ("three", "one"):
        late = opened(tmp_path / name, url, spec)
        assert [each.user_attrs[EVALUATION]["number"] for each in late.trials] == list(range(15))
        assert late.refresh() == []
        late.close()


def test_another_study_of_the_name_is_refused(url: str, tmp_path: Path, spec: StudySpec) -> None:
    opened(None, url, spec).append_many(finished(spec, 2))
    more = spec.model_copy(update={"budget": spec.budget.model_copy(update={"trials": 999})})
    assert len(opened(None, url, more).trials) == 2
    other = small(name=spec.name, model="qwen3-14b")
    for journal in (None, tmp_path / "j"):
        with pytest.raises(SpecError, match=f"different '{spec.name}' study") as caught:
            opened(journal, url, other)
        assert "--storage" in str(caught.value)
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://dse:secret@127.0.0.1:1/postgres", ["dse:***@127.0.0.1:1", "refused"]),
        ("nonsense", ["--storage", "postgresql+psycopg://"]),
        ("nonsense://x/y", ["--storage", "sqlite:///"]),
        ("sqlite:////no/such/folder/x.db", ["/no/such/folder/x.db", "unable to open"]),
        ("oracle://user:secret@host/x", ["oracle", "driver"]),
    ],
)
def test_unusable_storage_is_one_clear_line(url: str, words: list[str], spec: StudySpec, tmp_path: Path) -> None:
    if url.startswith("postgresql") and not find_spec("psycopg"):
        pytest.skip("psycopg is not installed")
    with pytest.raises(SpecError) as caught:
        opened(tmp_path / "j", url, spec)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "secret" not in message
    assert "\n" not in message
    assert not (tmp_path / "j").exists()


def test_missing_driver_is_named(spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SpecError, match=r"pip install 'dse-llm\[postgresql\]'"):
        Database("postgresql://dse@127.0.0.1:1/postgres", spec, DIRECTIONS)
