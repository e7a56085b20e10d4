"""What is kept of a confirmation beside the run that it confirms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from dse.confidence.confirmation import Confirmation


@dataclass(frozen=True, eq=False)
class Sureness:
    """How sure a front is, as plain data.

    Attributes
    ----------
    summary
        In a few sentences.
    rows
        Those of :attr:`dse.confidence.Confirmation.table`.
    """

    summary: str
    rows: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, confirmation: Confirmation) -> Sureness:
        """Return what is kept of a confirmation."""
        return cls(
            confirmation.summary,
            tuple({str(name): value for name, value in row.items()} for row in confirmation.table.to_dict("records")),
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row a design, as in the confirmation."""
        import pandas as pd

        return pd.DataFrame(self.rows).rename_axis("confirmed")

    def to_json(self) -> dict[str, Any]:
        """Return plain data from which :meth:`from_json` makes the same record; no number is infinite there."""
        finite = [{name: _plain(value) for name, value in row.items()} for row in self.rows]
        return {"summary": self.summary, "designs": finite}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Sureness:
        """Return the record of :meth:`to_json`."""
        return cls(data["summary"], tuple(data["designs"]))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value.item() if hasattr(value, "item") else value
