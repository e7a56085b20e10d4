"""What a row of the page is: data, what was fitted to it, a bar, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dse.validation.errors import errors, not_simulated, worst_cases
from dse.validation.metrics import metric_label, ordered
from simulator.errors import SpecError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

Kind = Literal["calibration", "validation"]
"""Whether a row was fitted to what it is compared with, or to other data."""

WORST = 3
"""Worst cases that are named."""


@dataclass(frozen=True, eq=False)
class Finding:
    """A row of the page.

    Attributes
    ----------
    kind
        ``calibration``: these measurements were fitted; ``validation``: they were not seen by the fit.
    data, fitted
        What is predicted, and what was fitted to what, in words.
    frame
        Of :func:`dse.validation.errors.compare`, or of :func:`measured_frame`.
    bars
        Largest median absolute error in percent that is expected, by metric; metrics without one are shown as well.
    why
        What is known of the causes of the errors; empty if nothing.
    """

    kind: Kind
    data: str
    fitted: str
    frame: pd.DataFrame
    bars: Mapping[str, float] = field(default_factory=dict)
    why: str = ""

    @property
    def medians(self) -> dict[str, float]:
        """Median absolute error of each metric, percent."""
        found = errors(self.frame).to_dict("records")
        return {str(row["metric"]): float(row["median_ape"]) for row in found}

    @property
    def kept(self) -> bool:
        """Whether all bars are kept."""
        found = self.medians
        return all(found.get(metric, float("inf")) <= bar for metric, bar in self.bars.items())

    @property
    def bar(self) -> str:
        """The bars in words."""
        return "; ".join(f"{metric_name(metric)} ≤ {bar:g} %" for metric, bar in self.bars.items()) or "none"

    @property
    def result(self) -> str:
        """Median, 90th percentile and bias of the errors in words, by metric."""
        rows = {str(row["metric"]): row for row in errors(self.frame).to_dict("records")}
        said = []
        for metric in ordered(rows):
            row = rows[metric]
            mark = "" if metric not in self.bars else " ✓" if row["median_ape"] <= self.bars[metric] else " ✗"
            said.append(
                f"{metric_name(metric)} **{row['median_ape']:.1f} %**{mark} (p90 {row['p90_ape']:.0f}, "
                f"bias {row['bias']:+.0f}, {row['count']} figures)"
            )
        failed = not_simulated(self.frame)
        if failed:
            said.append(f"{len(failed)} not simulated")
        return "; ".join(said) or "nothing could be predicted"

    @property
    def worst(self) -> list[str]:
        """The worst cases and what could not be simulated, in words; what was measured is not repeated."""
        said = [
            f"{row['run']}: {metric_name(str(row['metric']))} {row['error_percent']:+.0f} %"
            for row in worst_cases(self.frame, WORST).to_dict("records")
        ]
        return said + [f"{run}: not simulated: {why}" for run, why in not_simulated(self.frame).items()]


@dataclass(frozen=True)
class Options:
    """How studies are run.

    Attributes
    ----------
    jobs
        Processes; all processors if None.
    """

    jobs: int | None = None


Study = Callable[[Path, Options], Sequence[Finding]]
"""Reads a part of the reference folder, fits and predicts; several rows may come of one fit."""


@dataclass(frozen=True)
class Row:
    """One or several rows of the page that come of the same data.

    Attributes
    ----------
    name
        Short, for ``--only``.
    files
        Files and folders that are read, relative to the reference folder.
    study
        Does the work.
    needs
        Raises a :class:`~simulator.errors.SpecError` that says what else is not there; nothing else if None.
    """

    name: str
    files: tuple[str, ...]
    study: Study
    needs: Callable[[], object] | None = None

    def lacks(self, reference: Path) -> str | None:
        """Return what is not there, in words; None if everything is."""
        missing = next((file for file in self.files if not (reference / file).exists()), None)
        if missing is not None:
            return f"`{missing}` is not in the folder"
        try:
            if self.needs is not None:
                self.needs()
        except SpecError as error:
            return str(error)
        return None


def metric_name(metric: str) -> str:
    """Return a metric in words; seconds of anything but a request have no name of their own."""
    return "time" if metric == "seconds_s" else metric_label(metric)


def measured_frame(
    names: Sequence[str], measured_s: npt.ArrayLike, predicted_s: npt.ArrayLike, *, metric: str = "seconds_s"
) -> pd.DataFrame:
    """Return times of anything that is no run, in the form of :func:`dse.validation.errors.compare`.

    Parameters
    ----------
    names
        What was measured, row by row.
    measured_s, predicted_s
        Seconds.
    metric
        What they are.
    """
    import numpy as np
    import pandas as pd

    measured, predicted = np.asarray(measured_s, dtype=np.float64), np.asarray(predicted_s, dtype=np.float64)
    return pd.DataFrame(
        {
            "run": list(names),
            "metric": metric,
            "measured": measured,
            "predicted": predicted,
            "error_percent": 100.0 * (predicted / measured - 1.0),
            "problem": "",
        }
    )
