"""All cases of a comparison in parallel processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from dse.comparison.figures import Figures
from dse.comparison.spec import Comparison, Variation
from simulator import SpecError, simulate

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, float | str]


def run_comparison(
    spec: Comparison, *, jobs: int | None = None, listener: Callable[[str], None] = lambda _: None
) -> pd.DataFrame:
    """Simulate every case.

    Parameters
    ----------
    spec
        What to compare.
    jobs
        Processes; all processors if absent. They do not change the outcome.
    listener
        Called with the name of each case when it is done, in order.

    Returns
    -------
    pandas.DataFrame
        A row for each case, in order, indexed by its name: the labels of grids, the figures asked for, those that only
        claims need, and ``bottleneck``. NaN where a case has no such figure.

    Raises
    ------
    SpecError
        Naming the case that is impossible.
    KeyboardInterrupt
        After Ctrl-C, when the cases under way are done.
    """
    import joblib

    from dse.execution import default_jobs
    from dse.interruption import Interruption
    from simulator.kernel import is_cached, warm_up

    if jobs is not None and jobs < 1:
        raise SpecError(f"jobs: must be at least 1, given {jobs}")
    jobs = min(jobs or default_jobs(), len(spec.variations))
    if jobs > 1 and not is_cached():
        warm_up()  # once, not in every process
    work = joblib.delayed(_evaluate)
    rows: list[Row] = []
    with Interruption() as stop:
        # After Ctrl-C nothing new is started, and what runs runs to its end.
        tasks = (work(each, spec.wanted_figures, jobs > 1) for each in spec.variations if not stop.requested)
        with joblib.Parallel(n_jobs=jobs, return_as="generator", pre_dispatch=2 * jobs, batch_size=1) as parallel:
            for each, row in zip(spec.variations, parallel(tasks), strict=False):
                rows.append(row)
                listener(each.name)
    if len(rows) < len(spec.variations):
        raise KeyboardInterrupt
    return comparison_table(spec, rows)


def comparison_table(spec: Comparison, rows: list[Row]) -> pd.DataFrame:
    """Return the table of a comparison from the figures of each case.

    Parameters
    ----------
    spec
        The comparison.
    rows
        Figures by name, in the order of its cases; units end the names.

    Returns
    -------
    pandas.DataFrame
        A row for each case, a column for each figure.
    """
    import pandas as pd

    axes = list(dict.fromkeys(axis for each in spec.variations for axis in each.labels))
    labels = [{axis: each.labels.get(axis, "") for axis in axes} for each in spec.variations]
    frame = pd.DataFrame([{**label, **row} for label, row in zip(labels, rows, strict=True)])
    frame.index = pd.Index([each.name for each in spec.variations], name="case")
    return frame


def _evaluate(case: Variation, figures: tuple[str, ...], in_worker: bool) -> Row:
    """Simulate a case and return its figures."""
    if in_worker and threading.current_thread() is threading.main_thread():
        # A terminal sends Ctrl-C to all; the main process ends the others.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = simulate(case.deployment, case.workload)
    except SpecError as error:
        raise SpecError(f"case {case.name}: {error}") from None
    found = Figures(result, case)
    row: Row = {name: found[name] for name in figures}
    return {**row, "bottleneck": result.bottleneck}
