"""Where the finished trials of a study are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dse.objectives import Direction
from dse.patience import Patience
from dse.spec import StudySpec
from dse.storage.journal import TrialJournal

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class Store(Protocol):
    """Finished trials, each design once."""

    @property
    def session(self) -> int:
        """How many sessions of other machines and earlier ones opened a shared place before; 0 if it is not shared."""

    def append(self, trial: FrozenTrial) -> None:
        """Write one finished trial."""

    def append_many(self, trials: Sequence[FrozenTrial]) -> None:
        """Write a batch of finished trials in one go; when it returns, they are kept whatever happens."""

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order of their proposal."""

    def refresh(self) -> list[FrozenTrial]:
        """Return what other machines have finished since the last call, without designs that are known here."""

    def close(self) -> None:
        """Send what is left, and end."""


def open_store(
    journal: Path | None,
    url: str | None,
    spec: StudySpec,
    directions: Sequence[Direction],
    *,
    patience: Patience | None = None,
) -> Store | None:
    """Return the store of a study.

    Parameters
    ----------
    journal
        File of this machine; made if it is not there.
    url
        Of a database that several machines may share. With both, the journal is mirrored into the database in the
        background; with the database alone, the study waits for it.
    spec
        The study; must be the one in the store, save for its budget.
    directions
        Of the objectives.
    patience
        With a full disk and a database that is away.

    Returns
    -------
    Store or None
        None if neither is given.

    Raises
    ------
    SpecError
        If a place cannot be used or holds another study.
    """
    if url is None:
        return TrialJournal(journal, spec, directions, patience) if journal else None
    if journal is None:
        from dse.storage.database import Database

        return Database(url, spec, directions, patience)
    from dse.storage.mirror import Mirror

    return Mirror(journal, url, spec, directions, patience)
