"""Profiles fitted to one's own measurements, and how much better they predict them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from dse.measurements.measured_run import MeasuredRun
from dse.validation.engine import with_engine
from dse.validation.errors import compare, errors
from simulator.errors import SpecError
from simulator.spec.base import Spec
from simulator.spec.engine_profile import EngineProfile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from dse.measurements.collectives import Collectives
    from dse.measurements.operators import OperatorMeasurements
    from simulator.catalog import Accelerator, KernelProfile, LinkProfile

FREE: Final = ("step_us", "sequence_us", "request_us")
"""Figures of an engine that are fitted where nothing is said."""

START: Final = EngineProfile(
    name="plain",
    source="set by hand",
    date="",
    step_us=1000.0,
    sequence_us=5.0,
    request_us=5000.0,
    calibrated="by hand",
)
"""Where a fit begins if no engine is named."""


Profile = TypeVar("Profile", bound=Spec)


@dataclass(frozen=True)
class Refit(Generic[Profile]):
    """A fitted profile.

    Attributes
    ----------
    profile
        With source, date and residuals.
    table
        Median absolute errors in percent, a row for each class of measurements: ``what``, ``count``, ``before``,
        ``after``, ``held_out`` (NaN where nothing could be held out).
    """

    profile: Profile
    table: pd.DataFrame


def source_of(files: Sequence[Path], rows: Mapping[Path, int]) -> str:
    """Return what a profile was fitted to: names, rows and SHA-256 of the files."""
    said = []
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        said.append(f"{file.name} ({rows[file]} rows, sha256 {digest})")
    return "; ".join(said)


def today() -> str:
    """Return the date that profiles are marked with."""
    return datetime.now(UTC).date().isoformat()


def refit_engine(
    runs: Sequence[MeasuredRun],
    start: EngineProfile,
    *,
    name: str,
    source: str,
    free: Sequence[str] = FREE,
    held_out: bool = True,
    jobs: int | None = 1,
    listener: Callable[[str], None] = lambda _: None,
) -> Refit[EngineProfile]:
    """Fit an engine to measured runs.

    Parameters
    ----------
    runs
        What was measured, all with one engine.
    start
        Where the fit begins, and the figures that stay.
    name, source
        Of the profile.
    free
        Figures that are fitted, of :data:`dse.calibration.engines.COEFFICIENTS`.
    held_out
        Whether each model is also predicted by a fit to the others, if there are several.
    jobs
        Processes of the simulations before and after; they do not change the outcome.
    listener
        Called with what is done next.

    Raises
    ------
    SpecError
        If a figure is unknown, or no run can be simulated.
    """
    import pandas as pd

    from dse.calibration.engines import COEFFICIENTS, fit_engine

    unknown = [figure for figure in free if figure not in COEFFICIENTS]
    if unknown or not free:
        raise SpecError(f"--free: given {', '.join(unknown) or 'nothing'}; allowed: {', '.join(COEFFICIENTS)}")

    def predicted(profile: EngineProfile, some: Sequence[MeasuredRun]) -> pd.DataFrame:
        return compare(with_engine(some, profile), jobs=jobs)

    listener("errors before")
    before = predicted(start, runs)
    usable = set(before.loc[before["problem"] == "", "run"])
    kept = [run for run in runs if run.name in usable]
    if not kept:
        raise SpecError(f"no run can be simulated; the first: {before['problem'].iloc[0]}")
    listener(f"fit to {len(kept)} runs")
    fitted = fit_engine(kept, start, free=free)
    after = predicted(fitted, kept)
    models = list(dict.fromkeys(run.labels.get("model", "") for run in kept))
    unseen: pd.DataFrame | None = None
    if held_out and len(models) > 1:
        parts = []
        for model in models:
            listener(f"fit without {model}")
            others = [run for run in kept if run.labels.get("model", "") != model]
            mine = [run for run in kept if run.labels.get("model", "") == model]
            parts.append(predicted(fit_engine(others, start, free=free), mine))
        unseen = pd.concat(parts, ignore_index=True)
    table = _error_table(before, after, unseen)
    residuals = {}
    for row in table.to_dict("records"):
        residuals[str(row["what"])] = round(float(row["after"]), 2)
        if row["held_out"] == row["held_out"]:
            residuals[f"{row['what']}, model held out"] = round(float(row["held_out"]), 2)
    accelerators = sorted({pool.accelerator for run in kept for pool in run.deployment.pools})
    changes = {
        "name": name,
        "source": source,
        "date": today(),
        "calibrated": "yes",
        "accelerators": tuple(accelerators),
        "note": f"fitted: {', '.join(free)}; the rest as in {start.name}",
        "residuals": residuals,
    }
    return Refit(fitted.model_copy(update=changes), table)


def refit_kernels(measured: OperatorMeasurements, accelerator: Accelerator, *, source: str) -> Refit[KernelProfile]:
    """Fit the kernels of an accelerator to measured operators; ``before`` is the catalogued profile."""
    import pandas as pd

    from dse.calibration.operators import fit_kernels
    from simulator import catalog

    start = catalog.kernel_profile(accelerator.name)
    profile = fit_kernels(measured, accelerator).model_copy(update={"source": source, "date": today()})
    before, after = (_kernel_errors(each, measured, accelerator) for each in (start, profile))
    rows = [
        {"what": what, "count": len(error), "before": _median(error), "after": _median(after[what])}
        for what, error in before.items()
    ]
    table = pd.DataFrame(rows, columns=["what", "count", "before", "after"])
    table["held_out"] = [_held_out(profile, what) for what in table["what"]]
    return Refit(profile, table)


def refit_links(
    measured: Collectives,
    raw_gb_per_s: float,
    *,
    name: str,
    source: str,
    start: LinkProfile | None = None,
    switch: bool = False,
) -> Refit[LinkProfile]:
    """Fit a kind of link to measured collectives; sizes of groups are held out in turn."""
    import numpy as np
    import pandas as pd

    from dse.calibration.collectives import LEAST_BYTES, fit_links

    rows = measured.where(measured.message_bytes >= LEAST_BYTES)
    if not len(rows.seconds):
        raise SpecError(f"size_bytes: no message of {LEAST_BYTES:,.0f} bytes or more to fit to")
    profile = fit_links(rows, raw_gb_per_s, name=name, switch=switch)
    unseen = np.full(len(rows.seconds), np.nan)
    for workers in np.unique(rows.workers) if len(np.unique(rows.workers)) > 1 else ():
        mine = rows.workers == workers
        others = fit_links(rows.where(~mine), raw_gb_per_s, name=name, switch=switch)
        unseen[mine] = _link_errors(others, rows.where(mine), raw_gb_per_s)
    after = _link_errors(profile, rows, raw_gb_per_s)
    before = np.full(len(after), np.nan) if start is None else _link_errors(start, rows, raw_gb_per_s)
    table = []
    for collective in sorted(set(rows.collective.tolist())):
        mine = rows.collective == collective
        figures = {"before": _median(before[mine]), "after": _median(after[mine]), "held_out": _median(unseen[mine])}
        table.append({"what": collective, "count": int(mine.sum()), **figures})
    residuals = profile.residuals
    if np.isfinite(unseen).any():
        residuals += f"; {_median(unseen):.1f} % with each size of the group held out"
    found = profile.model_copy(update={"source": source, "date": today(), "residuals": residuals})
    return Refit(found, pd.DataFrame(table))


def _error_table(before: pd.DataFrame, after: pd.DataFrame, unseen: pd.DataFrame | None) -> pd.DataFrame:
    """Return median absolute errors by figure."""
    import pandas as pd

    from dse.validation.metrics import metric_label, ordered

    frames = {"before": before, "after": after, "held_out": unseen}
    found = {
        name: {} if frame is None else {row["metric"]: row for row in errors(frame).to_dict("records")}
        for name, frame in frames.items()
    }
    rows: list[dict[str, Any]] = []
    for metric in ordered(found["after"]):
        figures = {name: by.get(metric, {}).get("median_ape", float("nan")) for name, by in found.items()}
        rows.append({"what": metric_label(metric), "count": found["after"][metric]["count"], **figures})
    return pd.DataFrame(rows, columns=["what", "count", "before", "after", "held_out"])


def _kernel_errors(
    profile: KernelProfile, measured: OperatorMeasurements, accelerator: Accelerator
) -> dict[str, np.ndarray[Any, Any]]:
    """Return relative errors by class of operators."""
    from dse.calibration import operators as fits

    found = {}
    for precision, table in fits.from_memory(measured.products, accelerator).groupby("precision"):
        seconds = fits.product_seconds(profile.product(str(precision)), table, accelerator)
        found[f"{precision} products"] = seconds / table["seconds"].to_numpy() - 1
    for kind, table in measured.passes.groupby("kind"):
        seconds = fits.pass_seconds(getattr(profile, str(kind)), table["elements"], accelerator)
        found[str(kind)] = seconds / table["seconds"].to_numpy() - 1
    for name, table in (("prefills", measured.prefills), ("decodes", measured.decodes)):
        if len(table):
            seconds = fits.attention_seconds(profile.attention, table, accelerator)
            found[name] = seconds / table["seconds"].to_numpy() - 1
    for precision, table in fits.experts_by_precision(measured.grouped):
        seconds = fits.grouped_seconds(profile.experts(precision), table, accelerator, profile.activation)
        name = "experts" if precision == "bf16" else f"{precision} experts"
        found[name] = seconds / table["seconds"].to_numpy() - 1
    return found


def _held_out(profile: KernelProfile, what: str) -> float:
    """Return the held-out error of a class, the largest of its parts."""
    singular = what.removesuffix("s")
    parts = [
        residual.held_out_percent
        for name, residual in profile.residuals.items()
        if singular in name and residual.held_out_percent is not None
    ]
    return max(parts, default=float("nan"))


def _link_errors(
    profile: LinkProfile, measured: Collectives, raw_gb_per_s: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return relative errors of collectives."""
    import numpy as np

    from dse.calibration.collectives import wire_of

    wire = wire_of(measured)
    raw = raw_gb_per_s * 1e9
    slower = np.where(wire.exchange, profile.all_to_all, np.where(wire.send, profile.send_recv, 1.0))
    carried = wire.wire_bytes / slower + profile.own_part * wire.own_bytes
    times = [
        (each.start_up_us + wire.steps * each.step_us) * 1e-6 + carried / (each.share * raw)
        for each in profile.protocols
    ]
    if profile.in_switch is not None:
        each = profile.in_switch
        reduced = (each.start_up_us + wire.others * each.step_us) * 1e-6 + wire.switch_bytes / (each.share * raw)
        times.append(np.where(wire.reduce, reduced, np.inf))
    return np.asarray(np.minimum.reduce(times) / wire.seconds - 1)


def _median(error: np.ndarray[Any, Any]) -> float:
    """Return the median absolute error in percent, NaN where there is none."""
    import numpy as np

    known = np.abs(error[np.isfinite(error)])
    return float(100 * np.median(known)) if len(known) else float("nan")
