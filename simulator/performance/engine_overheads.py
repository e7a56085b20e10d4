"""What an engine adds to its kernels, in seconds on the servers of one accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from simulator.spec.engine_profile import EngineProfile


@dataclass(frozen=True)
class EngineOverheads:
    """Overheads (seconds) and shares of an engine; the defaults are set by hand.

    Attributes
    ----------
    step_s
        Scheduling, input preparation and launch of a step.
    layer_s
        Gaps between the kernels of a layer, where the kernels have no start-up times of their own.
    sequence_s
        Sampling, detokenisation and bookkeeping of one sequence in a step.
    eager_layer_s, graph_tokens
        Host time to launch a layer, in steps of more tokens than that.
    prompt_step_s
        Host time besides in a step of more tokens than can be decoded.
    own_all_reduce, collective_s
        Whether small all-reduces are one-shot kernels, and what every collective takes longer than alone.
    bulk_tokens, bulk_share
        Steps of more tokens reduce at that share of the links' bandwidth besides, among four accelerators and more.
    expert_imbalance
        Visits of the busiest of several expert-parallel ranks over the mean: near 1 where busy experts are replicated
        by load (DeepSeek-V3, arXiv:2412.19437, section 3.4), above where they are not.
    link_peak
        Share of link bandwidth that large collectives and transfers reach, where links have no profile.
    """

    step_s: float = 1.5e-3
    layer_s: float = 15e-6
    sequence_s: float = 5e-6
    eager_layer_s: float = 0.0
    graph_tokens: int = 0
    prompt_step_s: float = 0.0
    own_all_reduce: bool = True
    collective_s: float = 0.0
    bulk_tokens: int | None = None
    bulk_share: float = 0.15
    expert_imbalance: float = 1.2
    link_peak: float = 0.75

    @classmethod
    def of(cls, profile: EngineProfile, accelerator: str, accelerators: int) -> Self:
        """Return the overheads of an engine on a client with so many accelerators."""
        host_s = 1e-6 * profile.host_slowdown.get(accelerator, 1.0)
        step_us = profile.step_us + (profile.parallel_step_us if accelerators > 1 else 0.0)
        return cls(
            step_s=step_us * host_s,
            sequence_s=profile.sequence_us * host_s,
            eager_layer_s=profile.eager_layer_us * host_s,
            graph_tokens=profile.graph_tokens,
            prompt_step_s=profile.prompt_step_us * host_s,
            own_all_reduce=profile.own_all_reduce,
            collective_s=profile.collective_us * 1e-6,
            bulk_tokens=profile.bulk_tokens,
            bulk_share=profile.bulk_share,
            expert_imbalance=profile.expert_imbalance,
        )
