"""When something goes away for a while: wait, say so, try again, or end so that the study can go on later."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from simulator import SpecError

Outcome = TypeVar("Outcome")

LIMIT_S: Final = 600.0
"""Seconds for which a study waits for a disk, a database or a scheduler."""
FIRST_WAIT_S: Final = 0.1
"""Seconds before the second attempt; each further one waits twice as long."""
LONGEST_WAIT_S: Final = 5.0
SLICE_S: Final = 0.1
"""Seconds between two looks whether Ctrl-C was pressed."""


class CutOff(SpecError):
    """A study cannot go on for now. What finished is kept; ``--resume`` goes on from it."""


def _log(message: str) -> None:
    # Without a handler, logging prints warnings: also a program that knows nothing of this hears of them.
    logging.getLogger("dse").warning(message)


@dataclass(frozen=True)
class Patience:
    """How long to wait, who is told, and who may end it.

    Attributes
    ----------
    limit_s
        Seconds to wait for one thing.
    say
        Told in one line why the study pauses and when it goes on; if absent, the logger ``dse``.
    stopped
        Tells whether to give up, e.g. because Ctrl-C was pressed.
    meanwhile
        What happens while it waits, for the person.
    """

    limit_s: float = LIMIT_S
    say: Callable[[str], None] = _log
    stopped: Callable[[], bool] = bool
    meanwhile: str = "the study pauses"

    def until_done(self, action: Callable[[], Outcome], passing: Callable[[Exception], str | None]) -> Outcome:
        """Do something, again and again while what is in the way may pass.

        Parameters
        ----------
        action
            What to do. It must not matter if it is done again after it failed.
        passing
            Tells of an error what is in the way, in a few words; None if waiting does not help.

        Raises
        ------
        CutOff
            If it takes longer than the limit, or was stopped.
        """
        begun, wait_s = None, FIRST_WAIT_S
        while True:
            try:
                outcome = action()
            except Exception as error:
                reason = passing(error)
                if reason is None:
                    raise
                if begun is None:
                    begun = time.monotonic()
                    limit = f" for {self.limit_s:.0f} s" if math.isfinite(self.limit_s) else ""
                    self.say(f"{reason}; {self.meanwhile} and tries again{limit}")
                if not self._wait(wait_s, begun + self.limit_s):
                    raise CutOff(f"{reason}; what finished is kept: go on with --resume") from error
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            else:
                if begun is not None:
                    self.say(f"it is back after {time.monotonic() - begun:.0f} s; the study goes on")
                return outcome

    def _wait(self, seconds: float, deadline: float) -> bool:
        """Wait; tell whether another attempt is allowed."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if self.stopped() or now >= deadline:
                return False
            time.sleep(min(SLICE_S, end - now))
        return not self.stopped() and time.monotonic() < deadline
