"""Print what the service's storage costs, as a Markdown table: ``python -m tests.benchmarks.service_storage``.

A study of 10,000 trials with 50 figures each, among 1,000 that wait. PostgreSQL runs on this machine.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dse.patience import Patience
from dse.service.storage.database import Database
from dse.service.storage.studies import Lease, Studies
from dse.service.work.leased_store import LeasedStore
from dse.storage import EVALUATION
from tests.benchmarks.measure import say
from tests.dse.conftest import small
from tests.dse.postgres import PostgreSQL, binaries, make_folder
from tests.dse.test_storage import finished

TRIALS, BATCH, WAITING = 10_000, 20, 1_000
FIGURES = {f"figure_{number}": 1.234567 * number for number in range(50)}


def _ms(action: Callable[[], object], times: int = 1) -> str:
    """Return the mean time of an action."""
    start = time.perf_counter()
    for _ in range(times):
        action()
    return f"{(time.perf_counter() - start) / times * 1e3:.1f} ms"


def measure(url: str, kind: str) -> None:
    """Measure one kind of database."""
    database, spec = Database(url), small()
    say(f"{kind}: tables made", _ms(database.migrate))
    studies = Studies(database)
    given = {"designs": 100, "requests": 300, "traces": (), "idempotency_key": None}
    given |= {"most_active": 10_000, "most": 10_000}
    say(f"{kind}: study created", _ms(lambda: studies.create(spec, **given), WAITING))  # type: ignore[arg-type]
    say(f"{kind}: {WAITING:,} studies listed", _ms(lambda: studies.list(limit=WAITING), 5))
    leases: list[Lease | None] = []
    say(f"{kind}: study claimed", _ms(lambda: leases.append(studies.claim("w", 600)), 20))
    lease = leases[0]
    assert lease
    say(f"{kind}: lease renewed", _ms(lambda: studies.renew(lease, 600), 100))
    say(f"{kind}: look for what was asked", _ms(lambda: studies.asked(lease), 100))
    trials = finished(spec, TRIALS)
    for trial in trials:
        trial.user_attrs[EVALUATION]["figures"] = FIGURES
    batches = iter([trials[start : start + BATCH] for start in range(0, TRIALS, BATCH)])
    store = LeasedStore(url, spec, studies, lease, Patience())
    wrote = _ms(lambda: store.append_many(next(batches)), TRIALS // BATCH)
    say(f"{kind}: batch of {BATCH} trials written together with the counts", wrote)
    say(f"{kind}: {TRIALS:,} trials read as evaluations", _ms(lambda: studies.evaluations_since(lease.study, 0), 3))
    _, last = studies.evaluations_since(lease.study, 0, limit=TRIALS - BATCH)
    say(f"{kind}: the last {BATCH} of them", _ms(lambda: studies.evaluations_since(lease.study, last), 20))
    say(f"{kind}: {TRIALS:,} trials read to go on with the study", _ms(lambda: store.trials))
    store.close()
    studies.finish(lease, "finished")
    say(f"{kind}: study of {TRIALS:,} trials deleted", _ms(lambda: studies.delete(lease.study)))
    database.close()


def main() -> None:
    """Measure SQLite, and PostgreSQL where it is installed."""
    say("what", "time")
    say("---", "---")
    folder = Path(tempfile.mkdtemp())
    measure(f"sqlite:///{folder / 'service.db'}", "SQLite")
    shutil.rmtree(folder)
    if binaries():
        folder = make_folder()
        with PostgreSQL(folder) as server:
            measure(server.url, "PostgreSQL")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
