"""How many designs make a task: enough to outweigh its overhead, few enough to keep all workers busy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeVar

Item = TypeVar("Item")

TASK_S: Final = 0.1
"""Seconds that a task should take: sending one to a process and back takes about 1 ms, to another machine 5 ms."""
TASKS_PER_WORKER: Final = 2
"""Tasks of a batch per worker at least, so that one slow design does not leave the other workers idle."""
NEWS: Final = 0.2
"""Weight of the last task in the mean time of a design."""


class TaskSize:
    """Learns how long a design takes and cuts batches into tasks.

    Attributes
    ----------
    design_s
        Seconds of a design in a worker, a moving mean; None before the first task.
    """

    def __init__(self) -> None:
        self.design_s: float | None = None

    def learn(self, designs: int, wall_s: float) -> None:
        """Take notice of a task that is done."""
        seconds = wall_s / max(designs, 1)
        self.design_s = seconds if self.design_s is None else (1 - NEWS) * self.design_s + NEWS * seconds

    def split(self, batch: Sequence[Item], workers: int) -> list[Sequence[Item]]:
        """Cut a batch into tasks, in order."""
        fair = math.ceil(len(batch) / (workers * TASKS_PER_WORKER))
        wanted = fair if not self.design_s else round(TASK_S / self.design_s)
        size = max(1, min(wanted, fair))
        return [batch[start : start + size] for start in range(0, len(batch), size)]
