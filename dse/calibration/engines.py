"""Overheads of an engine from measured runs: the simulator is run again and again, its errors are made small.

Errors are logarithms of predicted over measured, robustly weighted (Cauchy's loss), so that a run that no overhead
explains does not bend all others. Every coefficient is drawn to where the fit starts from: what the runs say nothing
about stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from dse.measurements.measured_run import MeasuredRun
from dse.validation.engine import served_by
from dse.validation.predict import figures_of
from simulator import Result, simulate
from simulator.errors import SpecError
from simulator.spec.engine_profile import EngineProfile

Floats = npt.NDArray[np.float64]

ERROR: Final = 0.05
"""Error (5 %) up to which figures count by their square."""

PRIOR: Final = 2.0
"""Errors that a coefficient a whole spread from its start counts as much as."""

WEIGHTS: Final = {"tpot": 1.0, "ttft": 0.5, "e2e": 0.3, "output_tokens_per_s": 1.0, "requests_per_s": 1.0}
"""Weight of the mean figures in the fit; percentiles are left for validation."""


@dataclass(frozen=True)
class Coefficient:
    """A field of an engine profile that can be fitted: its range, and how much it varies at least between engines."""

    least: float
    most: float
    spread: float


COEFFICIENTS: Final = {
    "step_us": Coefficient(0.0, 50_000.0, 500.0),
    "parallel_step_us": Coefficient(0.0, 10_000.0, 200.0),
    "sequence_us": Coefficient(0.0, 2_000.0, 10.0),
    "launch_share": Coefficient(0.02, 1.0, 0.2),
    "eager_layer_us": Coefficient(0.0, 5_000.0, 200.0),
    "prompt_step_us": Coefficient(0.0, 100_000.0, 5_000.0),
    "request_us": Coefficient(0.0, 200_000.0, 4_000.0),
    "collective_us": Coefficient(0.0, 200.0, 10.0),
    "bulk_share": Coefficient(0.01, 1.0, 0.1),
    "compute_slowdown": Coefficient(0.5, 5.0, 1.0),
    "host_slowdown": Coefficient(0.2, 5.0, 1.0),
}
"""By name; slowdowns are fitted for each of ``EngineProfile.accelerators``, those of hosts relative to the first."""


def fit_engine(runs: Sequence[MeasuredRun], start: EngineProfile, *, free: Sequence[str]) -> EngineProfile:
    """Return a profile whose free coefficients fit measured runs best.

    Parameters
    ----------
    runs
        What was measured; the mean figures named in :data:`WEIGHTS` count.
    start
        Where to begin, and what else the engine does.
    free
        Names in :data:`COEFFICIENTS`.

    Raises
    ------
    SpecError
        If a name is unknown, or no figure can be fitted.
    """
    from scipy.optimize import least_squares

    for name in free:
        if name not in COEFFICIENTS:
            raise SpecError(f"free: no coefficient {name!r} of an engine; allowed: {', '.join(COEFFICIENTS)}")
    targets = [(place, name) for place, run in enumerate(runs) for name in run.figures if weight_of(name)]
    if not targets:
        raise SpecError(f"runs: no figure to fit; allowed: means of {', '.join(WEIGHTS)}")
    keys = [key for name in free for key in _keys(name, start)]
    begin = np.array([_value(start, key) for key in keys])
    bounds = [COEFFICIENTS[name] for name, _ in keys]
    spread = np.maximum([each.spread for each in bounds], 0.5 * begin)

    def errors(x: Floats) -> Floats:
        figures = predict_with(_changed(start, dict(zip(keys, x, strict=True))), runs)
        off = [
            weight_of(name) * np.log(figures[place][name] / runs[place].figures[name]) / ERROR
            for place, name in targets
        ]
        # Cauchy's loss, of these errors alone: what strays from its start strays in full.
        robust = np.sign(off) * np.sqrt(np.log1p(np.square(off)))
        return np.array([*robust, *(PRIOR * (x - begin) / spread)])

    found = least_squares(
        errors,
        np.clip(begin, [each.least + 1e-9 for each in bounds], [each.most - 1e-9 for each in bounds]),
        bounds=([each.least for each in bounds], [each.most for each in bounds]),
        x_scale=spread,
        jac=_jacobian(errors, spread),
        max_nfev=30,
    )
    return _changed(start, dict(zip(keys, (float(f"{value:.4g}") for value in found.x), strict=True))).model_copy(
        update={"date": datetime.now(UTC).date().isoformat(), "calibrated": "yes"}
    )


def _jacobian(errors: Callable[[Floats], Floats], spread: Floats) -> Callable[[Floats], Floats]:
    """Return differences over a fifth of each spread: smaller ones drown in requests that change their step."""

    def jacobian(x: Floats) -> Floats:
        here, columns = errors(x), []
        for place, width in enumerate(0.2 * spread):
            moved = x.copy()
            moved[place] += width
            columns.append((errors(moved) - here) / width)
        return np.array(columns).T

    return jacobian


def predict_with(profile: EngineProfile, runs: Sequence[MeasuredRun]) -> list[dict[str, float]]:
    """Return the figures of runs as predicted with another engine; runs of the same requests are simulated once."""
    seen: dict[tuple[int, str], Result] = {}
    figures = []
    for run in runs:
        key = id(run.requests), run.deployment.model_dump_json()
        if key not in seen:
            seen[key] = simulate(served_by(run.deployment, profile), run.requests)
        figures.append(figures_of(seen[key], run.figures, run.begin_s, run.end_s))
    return figures


def weight_of(figure: str) -> float:
    """Return the weight of a figure in the fit, 0 if it does not count."""
    return WEIGHTS.get(figure.removesuffix("_mean_s"), 0.0)


Key = tuple[str, str | None]


def _keys(name: str, profile: EngineProfile) -> list[Key]:
    """Return a coefficient, or one for each accelerator; hosts are relative to those of the first."""
    if name == "compute_slowdown":
        return [(name, accelerator) for accelerator in profile.accelerators]
    if name == "host_slowdown":
        return [(name, accelerator) for accelerator in profile.accelerators[1:]]
    return [(name, None)]


def _value(profile: EngineProfile, key: Key) -> float:
    name, accelerator = key
    value = getattr(profile, name)
    return float(value.get(accelerator, 1.0) if accelerator else value)


def _changed(profile: EngineProfile, values: Mapping[Key, float]) -> EngineProfile:
    """Return a profile with other values."""
    update: dict[str, object] = {}
    for (name, accelerator), value in values.items():
        if accelerator is None:
            update[name] = float(value)
        else:
            update[name] = {**getattr(profile, name), **update.get(name, {}), accelerator: float(value)}  # type: ignore[dict-item]
    return profile.model_copy(update=update)
