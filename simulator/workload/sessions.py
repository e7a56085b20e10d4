"""Which calls belong together, and which follow which: five arrays beside the requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Values of ``Sessions.keep``, by the name in a specification.
KEEP: Final = {"keep": 0, "drop": 1, "offload": 2}


@dataclass(frozen=True, eq=False)
class Sessions:
    """Calls of the LLM (rows) that follow each other; a session's rows are adjacent, its first call in front.

    A row with ``needs`` = 0 arrives at its own time; it is the first of its session. Any other arrives ``wait_ps``
    after ``needs`` of the rows that lead to it are done (see *Sessions* in ``docs/semantics.md``). The constructor
    casts and numbers the sessions 0, 1, … in the order of their rows.

    Parameters
    ----------
    session
        Any number for each session, the same in all its rows, shape ``(n,)``, int32.
    needs
        Rows that must be done before this one arrives, shape ``(n,)``, int32.
    wait_ps
        From then to the arrival, picoseconds, shape ``(n,)``, int64.
    first_follower, followers
        The rows that follow a row are ``first_follower … first_follower + followers - 1``, shape ``(n,)``, int32.
    keep
        What becomes of the row's KV in a prefix cache at its end: 0 keep, 1 drop, 2 offload; shape ``(n,)``, int32.

    Raises
    ------
    ValueError
        If a session's rows are not adjacent, one but the first needs nothing, followers are not later rows of the
        same session, or a row needs more than lead to it.
    """

    session: NDArray[np.int32]
    needs: NDArray[np.int32]
    wait_ps: NDArray[np.int64]
    first_follower: NDArray[np.int32]
    followers: NDArray[np.int32]
    keep: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Bring the arrays to the promised form."""
        given = np.asarray(self.session)
        arrays: dict[str, NDArray[Any]] = {
            name: np.array(getattr(self, name), dtype=np.int64 if name == "wait_ps" else np.int32)
            for name in ("needs", "wait_ps", "first_follower", "followers", "keep")
        }
        if given.ndim != 1 or not given.size or any(array.shape != given.shape for array in arrays.values()):
            raise ValueError("sessions: six arrays of one length, at least 1, are needed")
        begins = np.ones(given.size, dtype=np.bool_)
        begins[1:] = given[1:] != given[:-1]
        if np.unique(given[begins]).size < np.count_nonzero(begins):
            raise ValueError("sessions: the rows of a session must be adjacent")
        session = np.cumsum(begins, dtype=np.int32) - np.int32(1)
        _check(begins, session, arrays)
        for name, array in {"session": session, **arrays}.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.session.size)

    @property
    def count(self) -> int:
        """Number of sessions."""
        return int(self.session[-1]) + 1

    @property
    def first_rows(self) -> NDArray[np.int64]:
        """First row of each session, shape ``(count,)``."""
        return np.flatnonzero(self.needs == 0)

    def reordered(self, order: NDArray[np.int64]) -> tuple[Sessions, NDArray[np.int64]]:
        """Return the sessions (all, or some) in another order, and the old row of each new row.

        Parameters
        ----------
        order
            Numbers of the sessions in their new order, each at most once.
        """
        first = self.first_rows
        size = np.diff(np.append(first, len(self)))[order]
        new_first = np.cumsum(size) - size
        shift = np.repeat(new_first - first[order], size)
        rows = np.arange(shift.size) - shift
        followers = self.followers[rows]
        return Sessions(
            session=np.repeat(np.arange(len(order), dtype=np.int32), size),
            needs=self.needs[rows],
            wait_ps=self.wait_ps[rows],
            first_follower=np.where(followers > 0, self.first_follower[rows] + shift, 0).astype(np.int32),
            followers=followers,
            keep=self.keep[rows],
        ), rows


def _check(begins: NDArray[np.bool_], session: NDArray[np.int32], arrays: dict[str, NDArray[Any]]) -> None:
    """Refuse rows that are not what :class:`Sessions` promises."""
    needs, first, followers = arrays["needs"], arrays["first_follower"].astype(np.int64), arrays["followers"]
    n = session.size
    if np.any((needs == 0) != begins) or needs.min() < 0:
        raise ValueError("sessions: the first row of each session, and no other, must have needs 0")
    if followers.min() < 0 or arrays["wait_ps"].min() < 0:
        raise ValueError("sessions: followers and wait_ps must not be negative")
    if not 0 <= arrays["keep"].min() <= arrays["keep"].max() <= max(KEEP.values()):
        raise ValueError(f"sessions: keep must be one of {', '.join(map(str, KEEP.values()))}")
    leads = np.flatnonzero(followers)
    start, end = first[leads], first[leads] + followers[leads]
    if np.any(start <= leads) or np.any(end > n) or np.any(session[end - 1] != session[leads]):
        raise ValueError("sessions: followers must be later rows of the same session")
    leading = np.cumsum(np.bincount(start, minlength=n + 1) - np.bincount(end, minlength=n + 1))[:n]
    if np.any(needs > leading):
        row = int(np.argmax(needs > leading))
        raise ValueError(f"sessions: row {row} needs {needs[row]} rows, but {leading[row]} lead to it")
