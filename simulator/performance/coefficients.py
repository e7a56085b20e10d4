"""Coefficients set by hand: what kernels reach of a chip's peaks, and what an engine adds to a step.

They are round numbers between published measurements, the same for all chips: vendor libraries reach
70-80 % of dense peak and 80-90 % of memory bandwidth on large operands, and engines with captured graphs leave one to a
few microseconds between kernels. Calibrated profiles per engine version replace them (issue "Fidelity").
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Coefficients:
    """Efficiencies (fractions of peak) and overheads (seconds).

    Attributes
    ----------
    gemm_peak, attention_peak
        Share of dense peak that large matrix products and prefill attention reach.
    memory_peak
        Share of memory bandwidth that streaming kernels reach.
    link_peak
        Share of link bandwidth that large collectives and transfers reach.
    step_s
        Scheduling, input preparation and launch of a step.
    layer_s
        Gaps between the kernels of a layer.
    sequence_s
        Sampling, detokenisation and bookkeeping of one sequence in a step.
    expert_imbalance
        Visits of the busiest of several expert-parallel ranks over the mean: near 1 where busy experts are replicated
        by load (DeepSeek-V3, arXiv:2412.19437, section 3.4), above where they are not.
    """

    gemm_peak: float = 0.70
    attention_peak: float = 0.60
    memory_peak: float = 0.90
    link_peak: float = 0.75
    step_s: float = 1.5e-3
    layer_s: float = 15e-6
    sequence_s: float = 5e-6
    expert_imbalance: float = 1.2


BY_HAND = Coefficients()
