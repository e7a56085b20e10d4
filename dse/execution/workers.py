"""Batches of designs on an engine: cut into tasks, and evaluated again where workers were lost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Self

from dse.evaluation import Evaluation, not_simulated
from dse.execution.engine import Engine, Loss
from dse.execution.processes import Processes
from dse.execution.sequential import Sequential
from dse.execution.task import Finished, Payload
from dse.execution.task_size import TaskSize
from dse.patience import Patience
from dse.spec import StudySpec
from search_spaces import Design
from simulator import Requests

LOSSES_TOGETHER: Final = 2
"""Losses of a batch after which its designs are evaluated one by one, to find the one at fault."""
LOSSES_ALONE: Final = 3
"""Losses of a design alone after which it is given up."""


def default_jobs() -> int:
    """Return the number of processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class WorkersLost(Exception):
    """What cuts a batch off, with what it means."""

    def __init__(self, loss: Loss) -> None:
        super().__init__(loss.reason)
        self.loss = loss


class Workers(AbstractContextManager["Workers"]):
    """Processes that evaluate designs; with one job, this process itself.

    An evaluation depends on nothing but its design, so whatever is lost with a worker is evaluated again and the
    outcome is that of an undisturbed run. A design that ends its worker again and again, also when it is
    alone, is told as not simulated, with the reason.

    Parameters
    ----------
    jobs
        Number of processes.
    spec, requests
        The study and the requests that every design is given; of several workloads a tuple.
    engine
        What runs the tasks; if absent processes of this machine, or this process if ``jobs`` is 1.
    patience
        With an engine that cannot be reached for a while.
    """

    def __init__(
        self,
        jobs: int,
        spec: StudySpec,
        requests: Requests | tuple[Requests, ...],
        *,
        engine: Engine | None = None,
        patience: Patience | None = None,
    ) -> None:
        payload = Payload(spec, requests)
        self._engine: Engine = engine or (Processes(jobs, payload) if jobs > 1 else Sequential(payload))
        self._spec = spec
        self._patience = patience or Patience()
        self._size = TaskSize()

    @property
    def jobs(self) -> int:
        """Number of tasks that run at the same time."""
        return self._engine.jobs

    def __enter__(self) -> Self:
        """Start the processes, which load the kernel while the first designs are proposed."""
        self._engine.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the processes."""
        self._engine.close()

    def submit(self, designs: Sequence[Design]) -> Iterator[list[Evaluation]]:
        """Start the evaluation of a batch; iterate to receive evaluations as they finish.

        Batches may overlap: the next may be submitted before the last is received.

        Raises
        ------
        CutOff
            While iterating, if workers that went away cannot be reached again.
        """
        return self._receive(dict.fromkeys(designs), self._start(designs)) if designs else iter(())

    def _start(self, designs: Sequence[Design]) -> Iterator[Finished]:
        """Start a batch; if workers are lost at once, the iterator says so."""
        try:
            return self._seen(self._engine.start(self._size.split(designs, self.jobs)))
        except Exception as error:
            return self._failing(error)

    def _failing(self, error: Exception) -> Iterator[Finished]:
        raise self._lost(error) or error
        yield  # makes it an iterator

    def _seen(self, running: Iterator[Finished]) -> Iterator[Finished]:
        """Yield what finishes, learn from it, and give losses their name."""
        while True:
            try:
                finished = next(running)
            except StopIteration:
                return
            except Exception as error:
                if lost := self._lost(error):
                    raise lost from error
                raise
            self._size.learn(len(finished.evaluations), finished.wall_s)
            yield finished

    def _lost(self, error: Exception) -> WorkersLost | None:
        loss = self._engine.loss(error)
        return WorkersLost(loss) if loss else None

    def _receive(self, left: dict[Design, None], running: Iterator[Finished]) -> Iterator[list[Evaluation]]:
        """Yield evaluations, and start again what was lost."""
        losses = 0
        while left:
            try:
                for finished in running:
                    for evaluation in finished.evaluations:
                        del left[evaluation.design]
                    yield finished.evaluations
                assert not left, "an engine yields every task or raises"
            except WorkersLost as lost:
                losses += self._recover(lost.loss, len(left))
                if losses >= LOSSES_TOGETHER:
                    for design in left:
                        yield [self._alone(design)]
                    return
                running = self._start(list(left))

    def _alone(self, design: Design) -> Evaluation:
        """Evaluate one design while nothing else of its batch runs: if a worker is lost, it is known why."""
        losses, reason = 0, ""
        while losses < LOSSES_ALONE:
            try:
                (finished,) = self._start([design])
            except WorkersLost as lost:
                losses, reason = losses + self._recover(lost.loss, 1), lost.loss.reason
            else:
                return finished.evaluations[0]
        reason = f"given up after it was evaluated alone {losses} times: {reason}"
        return not_simulated(design, self._spec, "evaluation", reason, 1.0)

    def _recover(self, loss: Loss, unfinished: int) -> bool:
        """Say what happened and reach the workers again; tell whether a task may have been the cause."""
        if loss.by_a_task:
            designs = "1 design is" if unfinished == 1 else f"{unfinished} designs are"
            self._patience.say(f"{loss.reason}; {designs} evaluated again")
        if loss.gone:
            self._reopen(loss)
        return loss.by_a_task

    def _reopen(self, loss: Loss) -> None:
        """Reach the workers again; the person is told first what was lost, then what is in the way."""
        told = loss.by_a_task

        def reopen() -> None:
            nonlocal told
            if not told:
                told = True
                raise WorkersLost(loss)
            self._engine.close()
            self._engine.open()

        def passing(error: Exception) -> str | None:
            found = error.loss if isinstance(error, WorkersLost) else self._engine.loss(error)
            return found.reason if found else None

        self._patience.until_done(reopen, passing)
