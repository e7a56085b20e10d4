"""Fit of the shares of a chip's dynamic range to measured power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dse.measurements.power import PowerSample
from simulator import Requests, Result, catalog, simulate
from simulator.catalog import Accelerator
from simulator.performance.power import PowerShares

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Power samples with what the simulator says that their resources did.

    Attributes
    ----------
    samples
        What was measured.
    compute, memory
        Share of the measured time in which arithmetic and memory alone would have been busy, shape (samples,).
    """

    samples: tuple[PowerSample, ...]
    compute: Floats
    memory: Floats

    @property
    def measured_w(self) -> Floats:
        """Measured power."""
        return np.array([sample.watts for sample in self.samples])

    def predicted_w(self, shares: PowerShares) -> Floats:
        """Return the power with some shares, all of the measured time being in steps."""
        chips = [_chip(sample) for sample in self.samples]
        idle = np.array([chip.idle_w for chip in chips])
        limit = np.array([chip.tdp_w for chip in chips])
        drawn = shares.dynamic_s(np.ones(len(chips)), self.compute, self.memory)
        return np.asarray(idle + (limit - idle) * drawn)

    def labels(self, *names: str) -> list[str]:
        """Return labels of each sample, joined."""
        return [" ".join(sample.run.labels[name] for name in names) for sample in self.samples]

    def where(self, chosen: Sequence[bool]) -> Drawn:
        """Return some of the samples."""
        samples = tuple(sample for sample, wanted in zip(self.samples, chosen, strict=True) if wanted)
        return Drawn(samples, self.compute[np.array(chosen)], self.memory[np.array(chosen)])


def drawn(samples: Sequence[PowerSample]) -> Drawn:
    """Simulate power samples: their arithmetic and memory traffic, over the time that was measured."""
    work = np.array([_work_s(sample) for sample in samples]) / np.array([[sample.seconds] for sample in samples])
    return Drawn(tuple(samples), work[:, 0], work[:, 1])


def fit_power(measured: Drawn) -> PowerShares:
    """Return the shares that measured power is nearest to, if full arithmetic draws all of the dynamic range.

    That it does is seen in prompts (:func:`dse.measurements.power.read_prompt_peaks`). Groups of a source, accelerator
    and engine count alike.
    """
    from scipy.optimize import least_squares

    groups = measured.labels("source", "accelerator", "engine")
    weights = np.array([groups.count(group) ** -0.5 for group in groups])
    watts = measured.measured_w

    def errors(x: Floats) -> Floats:
        shares = PowerShares(float(x[0]), 1.0 - float(x[0]), float(x[1]))
        return np.asarray(weights * np.log(measured.predicted_w(shares) / watts))

    found = least_squares(errors, [0.3, 0.4], bounds=([0.0, 0.0], [1.0, 1.0]), loss="soft_l1", f_scale=0.03)
    active, memory = (round(float(share), 3) for share in found.x)
    return PowerShares(active, round(1.0 - active, 3), memory)


def _chip(sample: PowerSample) -> Accelerator:
    return catalog.accelerator(sample.run.deployment.pools[0].accelerator)


def _work_s(sample: PowerSample) -> Floats:
    """Return the seconds that arithmetic and memory need in a sample's phase, or in a step of it."""

    def used(requests: Requests) -> Floats:
        result: Result = simulate(sample.run.deployment, requests)
        (pool,) = result.pools
        return np.array([pool.compute, pool.memory_bandwidth]) * result.span_s

    work = used(sample.run.requests)
    if sample.before is not None:
        work = work - used(sample.before)
    return np.asarray(work / sample.steps)
