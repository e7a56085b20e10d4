"""The process of one study: ``python -m dse.service.work.runner``, started by a worker.

It is told what to do by one line on standard input. What it has to say are lines of JSON on standard output.
"""

from __future__ import annotations

import errno
import json
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from dse.service.work.confined import confine
from dse.service.work.job import SETTLED, STARVED, UNSETTLED, Job

if TYPE_CHECKING:
    from dse.patience import Patience
    from dse.result import StudyResult
    from dse.service.storage.studies import Lease, Studies

log = logging.getLogger("dse.service.runner")
Outcome = TypeVar("Outcome")


class _Lines(logging.Handler):
    """Writes records as lines of JSON, which the worker passes on."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        line = {"level": record.levelno, "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = logging.Formatter().formatException(record.exc_info)
        print(json.dumps(line), flush=True)


class _Interruption:
    """Remembers SIGINT until :func:`dse.run_study` listens itself."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.requested = True


def main() -> int:
    """Run the study that standard input names; return the exit code."""
    job = Job.from_line(sys.stdin.readline())
    interruption = _Interruption()
    confine(parent=job.parent, memory_gb=job.memory_gb)
    logging.basicConfig(level=logging.INFO, handlers=[_Lines()])
    try:
        return _Session(job, interruption).run()
    except Exception as error:
        if _starved(error):
            return STARVED
        raise


def _starved(error: BaseException | None) -> bool:
    """Tell whether an error comes from the limit of memory, in one of the ways in which libraries say so."""
    while error is not None:
        said = str(error)
        if (
            isinstance(error, MemoryError)
            or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
            or (isinstance(error, ImportError) and ("map segment" in said or "allocate memory" in said))
            or (isinstance(error, RuntimeError) and "start new thread" in said)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


@dataclass(frozen=True)
class _Session:
    job: Job
    interruption: _Interruption

    def run(self) -> int:
        """Run the study and write its outcome."""
        from dse.service.storage.database import Database
        from dse.service.storage.errors import Unavailable
        from dse.service.storage.studies import Lease, Studies
        from dse.service.work.leased_store import LeaseLost
        from simulator import SpecError

        job = self.job
        lease = Lease(job.study, job.lease, job.worker, job.running_s)
        try:
            database = Database(job.url)
        except SpecError as error:
            log.warning("%s", error)
            return UNSETTLED
        studies = Studies(database)
        with closing(database):
            outcome, reason = None, ""
            try:
                outcome = self._searched(database, studies, lease)
            except LeaseLost as lost:
                log.warning("%s", lost)
                return SETTLED
            except KeyboardInterrupt:
                pass
            except Unavailable as error:
                log.warning("%s", error)
                return UNSETTLED
            except Exception as error:
                if _starved(error):
                    raise
                try:
                    database.ping()
                except Unavailable:
                    log.warning("the database is away: %s", error)
                    return UNSETTLED
                reason = self._reason(error)
            if not (outcome or reason):
                return UNSETTLED
            # From here on there is nothing to interrupt.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            state = "failed" if reason else "finished"
            self._insist(lambda: studies.finish(lease, state, reason=reason, outcome=outcome))
        return SETTLED

    def _searched(self, database: Any, studies: Studies, lease: Lease) -> str | None:
        """Run the study; return its outcome as JSON, None if it was interrupted."""
        from dse.evaluation import build_load
        from dse.service.storage.traces import Traces, finder
        from dse.service.work.leased_store import LeasedStore, LeaseLost
        from dse.spec import StudySpec
        from dse.study import run_study
        from simulator.files import files_from
        from simulator.kernel import warm_up

        text = self._insist(lambda: studies.spec(lease))
        if text is None:
            raise LeaseLost(f"study {lease.study}: the lease is lost")
        with files_from(finder(Traces(database), Path(self.job.data))):
            spec = StudySpec.parse(json.loads(text), source="study")
            # Here, under the limit of memory that the processes which simulate have, too: what does not start there
            # fails here.
            warm_up()
            load = build_load(spec)
            if self.interruption.requested:
                return None
            store = LeasedStore(self.job.url, spec, studies, lease, self._patience)
            with closing(store):
                result = run_study(spec, jobs=self.job.jobs, requests=load, store=store, say=log.warning)
                counts = store.counts
            if result.interrupted:
                return None
            self._insist(lambda: studies.progress(lease, **vars(counts)))
            return json.dumps(self._outcome(result), allow_nan=False)

    def _outcome(self, result: StudyResult) -> dict[str, Any]:
        """Return what only the end knows, after the replications that were asked for."""
        from dse.confidence import Sureness, confirm

        sureness = None
        if result.spec.confidence and result.front:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self.interruption.requested:
                raise KeyboardInterrupt
            sureness = Sureness.of(confirm(result, result.spec.confidence, jobs=self.job.jobs))
        return {
            "certificate": result.certificate.to_json() if result.certificate else None,
            "sureness": sureness.to_json() if sureness else None,
            "clock": vars(result.clock),
            "interrupted": result.interrupted,
        }

    @property
    def _patience(self) -> Patience:
        """As long as it takes, unless the study is to end."""
        from dse.patience import Patience

        return Patience(float("inf"), log.warning, lambda: self.interruption.requested)

    def _insist(self, action: Callable[[], Outcome]) -> Outcome:
        """Do something in the database, as soon as it is there."""
        from dse.service.storage.errors import Unavailable

        return self._patience.until_done(action, lambda error: str(error) if isinstance(error, Unavailable) else None)

    def _reason(self, error: Exception) -> str:
        """Return in one line why a study failed; what nobody expects is logged in full."""
        from simulator import SpecError

        if isinstance(error, SpecError):
            return str(error)
        log.error("study %s failed", self.job.study, exc_info=error)
        said = (str(error).strip() or "no message").splitlines()[0]
        return f"unexpected {type(error).__name__}: {said}"


if __name__ == "__main__":
    sys.exit(main())
