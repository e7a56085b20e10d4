"""Predicted against measured, run by run, and how far apart they are."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from math import isfinite, isinf
from typing import TYPE_CHECKING, Final

from dse.measurements.measured_run import MeasuredRun
from dse.validation.noise import with_engine_noise
from dse.validation.predict import figures_of
from simulator import Deployment, Requests, simulate
from simulator.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Final = ("metric", "measured", "predicted", "error_percent", "problem")
"""Of :func:`compare`, after ``run`` and the labels."""

REJECTED: Final = "requests were rejected: no client has KV memory for them"

Span = tuple[tuple[str, ...], float, float]
"""Names of figures, and the arrivals that count for them: from, to."""

Task = tuple[Deployment, Requests, tuple[Span, ...]]
"""One simulation and what is wanted of it."""

Answer = list[dict[str, float]] | str
"""Figures of each span, or why there are none."""


def compare(
    runs: Sequence[MeasuredRun],
    *,
    jobs: int | None = 1,
    noise: bool = True,
    listener: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """Simulate measured runs.

    Runs with the same deployment and requests (rate steps of one benchmark) are one simulation.

    Parameters
    ----------
    runs
        What was measured.
    jobs
        Processes; all processors if None. They do not change the outcome.
    noise
        Whether steps have the noise of their engine's profile (:func:`dse.validation.noise.with_engine_noise`).
    listener
        Called with the number of runs that are done, after each simulation.

    Returns
    -------
    pandas.DataFrame
        A row for each figure of each run, in order: ``run``, its labels, and :data:`COLUMNS`. ``error_percent`` is
        ``100 · (predicted / measured − 1)``. Where a run cannot be simulated, ``problem`` says why and ``predicted`` is
        NaN.

    Raises
    ------
    SpecError
        If there is no run.
    KeyboardInterrupt
        After Ctrl-C, when the simulations under way are done.
    """
    import pandas as pd

    if not runs:
        raise SpecError("runs: none was measured")
    grouped = _groups(runs)
    answers = _answers([task for task, _ in grouped], [len(members) for _, members in grouped], jobs, noise, listener)
    found: dict[int, dict[str, float] | str] = {}
    for (_, members), answer in zip(grouped, answers, strict=True):
        for place, index in enumerate(members):
            found[index] = answer if isinstance(answer, str) else answer[place]
    labels = list(dict.fromkeys(name for run in runs for name in run.labels))
    rows = []
    for index, run in enumerate(runs):
        predicted = found[index]
        who = {"run": run.name, **{name: run.labels.get(name, "") for name in labels}}
        for metric, measured in run.figures.items():
            value, problem = (float("nan"), predicted) if isinstance(predicted, str) else (predicted[metric], "")
            if not problem and not isfinite(value):
                problem = REJECTED if isinf(value) else f"{metric}: no request of the run has it"
                value = float("nan")
            error = 100.0 * (value / measured - 1.0) if measured else float("nan")
            rows.append({**who, **dict(zip(COLUMNS, (metric, measured, value, error, problem), strict=True))})
    return pd.DataFrame(rows, columns=["run", *labels, *COLUMNS])


def errors(frame: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Return how far predictions are off, by metric and group.

    Parameters
    ----------
    frame
        Of :func:`compare`.
    by
        Labels to group by; all runs together if empty.

    Returns
    -------
    pandas.DataFrame
        ``metric``, the labels, and in percent ``median_ape`` and ``mape`` (median and mean of absolute errors),
        ``bias`` (median of signed errors), ``p90_ape``; ``count``, and the run that is farthest off with its error
        (``worst``, ``worst_percent``). Figures without a prediction are not in it.

    Raises
    ------
    SpecError
        If a label is unknown.
    """
    import pandas as pd

    labels = [name for name in frame.columns if name not in ("run", *COLUMNS)]
    unknown = [name for name in by if name not in labels]
    if unknown:
        raise SpecError(f"by: no label {', '.join(map(repr, unknown))}; known: {', '.join(labels)}")
    known = frame[frame["error_percent"].notna()]
    rows = []
    for key, part in known.groupby(["metric", *by], sort=False, dropna=False):
        signed = part["error_percent"].to_numpy(dtype=float)
        absolute = part["error_percent"].abs()
        worst = part.iloc[int(absolute.to_numpy().argmax())]
        rows.append(
            {
                **dict(zip(("metric", *by), key, strict=True)),
                "count": len(part),
                "median_ape": float(absolute.median()),
                "mape": float(absolute.mean()),
                "bias": float(pd.Series(signed).median()),
                "p90_ape": float(absolute.quantile(0.9)),
                "worst": str(worst["run"]),
                "worst_percent": float(worst["error_percent"]),
            }
        )
    columns = ["metric", *by, "count", "median_ape", "mape", "bias", "p90_ape", "worst", "worst_percent"]
    return pd.DataFrame(rows, columns=columns)


def worst_cases(frame: pd.DataFrame, count: int = 5) -> pd.DataFrame:
    """Return the rows of :func:`compare` that are farthest off, the farthest first."""
    known = frame[frame["error_percent"].notna()]
    return known.loc[known["error_percent"].abs().sort_values(ascending=False, kind="stable").index[:count]]


def not_simulated(frame: pd.DataFrame) -> dict[str, str]:
    """Return the runs of :func:`compare` without a prediction, and why."""
    failed = frame[frame["problem"] != ""]
    return dict(zip(failed["run"], failed["problem"], strict=True))


def _groups(runs: Sequence[MeasuredRun]) -> list[tuple[Task, list[int]]]:
    """Return the simulations that are needed, each with the positions of its runs."""
    members: dict[tuple[str, str, str], list[int]] = {}
    for index, run in enumerate(runs):
        # What is said and what is left to the engine's defaults are two things.
        said = run.deployment.model_dump_json(exclude_unset=True)
        key = (said, run.deployment.model_dump_json(), run.requests.fingerprint())
        members.setdefault(key, []).append(index)
    found = []
    for group in members.values():
        first = runs[group[0]]
        spans = tuple((tuple(runs[i].figures), runs[i].begin_s, runs[i].end_s) for i in group)
        found.append(((first.deployment, first.requests, spans), group))
    return found


def _answers(
    tasks: list[Task], sizes: list[int], jobs: int | None, noise: bool, listener: Callable[[int], None]
) -> list[Answer]:
    import joblib

    from dse.execution import default_jobs
    from dse.interruption import Interruption
    from simulator.kernel import is_cached, warm_up

    if jobs is not None and jobs < 1:
        raise SpecError(f"jobs: must be at least 1, given {jobs}")
    jobs = min(jobs or default_jobs(), len(tasks))
    if jobs > 1 and not is_cached():
        warm_up()  # once, not in every process
    work = joblib.delayed(_answer)
    answers: list[Answer] = []
    done = 0
    with Interruption() as stop:
        wanted = (work(task, noise, jobs > 1) for task in tasks if not stop.requested)
        with joblib.Parallel(n_jobs=jobs, return_as="generator", pre_dispatch=2 * jobs, batch_size=1) as parallel:
            for size, answer in zip(sizes, parallel(wanted), strict=False):
                answers.append(answer)
                done += size
                listener(done)
    if len(answers) < len(tasks):
        raise KeyboardInterrupt
    return answers


def _answer(task: Task, noise: bool, in_worker: bool) -> Answer:
    """Simulate once and return the figures of every span, or why that is impossible."""
    if in_worker and threading.current_thread() is threading.main_thread():
        # A terminal sends Ctrl-C to all; the main process ends the others.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    deployment, requests, spans = task
    try:
        result = simulate(with_engine_noise(deployment) if noise else deployment, requests)
        return [figures_of(result, names, begin_s, end_s) for names, begin_s, end_s in spans]
    except SpecError as error:
        return str(error)
