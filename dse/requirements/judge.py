"""Does an accelerator keep the promises of a use case? Answered by the cost model, and under a load by simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dse.capacity.trial import attempt
from dse.explain.fitting import blocks_per_request
from dse.requirements.demand import Demand
from dse.requirements.use_case import UseCase
from simulator.performance.engine import engine_of
from simulator.performance.engine_defaults import with_engine_defaults
from simulator.performance.explanation import StepLoad, prompt_chunks, request_seconds, steps_seconds
from simulator.performance.memory import DoesNotFit, kv_blocks

UNHELD = "memory"
"""What is broken where weights, or the requests that must be held, find no room."""


@dataclass(frozen=True)
class Verdict:
    """What an accelerator reaches in a use case.

    Attributes
    ----------
    keeps
        Whether the promises are kept.
    ttft_s, tpot_s
        What is reached of each, seconds: of a lone prompt and a step of decodes, or under a load the percentiles
        promised. Infinite where nothing fits.
    broken
        What is broken most: ``TTFT``, ``TPOT``, ``memory``, ``queue`` (it grows for ever); empty if nothing is.
    why
        Why nothing fits; empty if it does.
    """

    keeps: bool
    ttft_s: float
    tpot_s: float
    broken: str = ""
    why: str = ""


class Judge:
    """Judges accelerators for one use case.

    Parameters
    ----------
    case
        The use case.
    demand
        Its lengths and load.
    """

    def __init__(self, case: UseCase, demand: Demand) -> None:
        self.case = case
        self.demand = demand

    def verdict(self, accelerator: str) -> Verdict:
        """Return what an accelerator reaches.

        Parameters
        ----------
        accelerator
            Catalogued or hypothetical.

        Raises
        ------
        SpecError
            If the model cannot be sharded so.
        """
        alone = self.alone(accelerator)
        if self.demand.load is None or alone.broken == UNHELD:
            return alone
        trial, _ = attempt(
            self.case.deployment(accelerator), self.demand.load, self.demand.load.requests.rate_rps, self.case.slos
        )
        reached = {
            slo.metric: max(trial.reached_s[slo.name], trial.reached_again_s.get(slo.name, 0.0))
            for slo in self.case.slos
        }
        broken = {slo.name: slo.metric.upper() for slo in self.case.slos}.get(trial.broken, trial.broken)
        return Verdict(trial.holds and alone.keeps, reached["ttft"], reached["tpot"], broken or alone.broken)

    def keeps(self, accelerator: str) -> bool:
        """Return whether an accelerator keeps the promises; what is too slow for one request is not simulated."""
        alone = self.alone(accelerator)
        return alone.keeps if self.demand.load is None else alone.keeps and self.verdict(accelerator).keeps

    def alone(self, accelerator: str) -> Verdict:
        """Return what an accelerator reaches for a lone prompt, and for ``demand.batch`` requests that decode.

        Raises
        ------
        SpecError
            If the model cannot be sharded so.
        """
        case, demand = self.case, self.demand
        (pool,) = case.deployment(accelerator).pools
        pool = with_engine_defaults(pool)
        engine = engine_of(pool)
        try:
            blocks = kv_blocks(pool)
        except DoesNotFit as error:
            return Verdict(False, math.inf, math.inf, UNHELD, str(error))
        usable = blocks - int(blocks * pool.kv_memory.watermark)
        needed = demand.batch * blocks_per_request(pool, demand.longest_tokens)
        if needed > usable:
            held = usable * pool.kv_memory.block_tokens
            return Verdict(
                False,
                math.inf,
                math.inf,
                UNHELD,
                f"KV of {held:,} tokens, {demand.batch:,} of {demand.longest_tokens:,} tokens are needed",
            )
        budget = pool.batching.token_budget_tokens
        chunks = [StepLoad((chunk,)) for chunk in prompt_chunks(demand.prompt_tokens, budget)]
        *prompt_s, tpot_s = steps_seconds(engine, [*chunks, StepLoad((), demand.batch, demand.context_tokens)])
        ttft_s = sum(prompt_s) + request_seconds(engine)
        excess = {"TTFT": ttft_s / case.ttft_s, "TPOT": tpot_s / case.tpot_s}
        worst = max(excess, key=lambda name: excess[name])
        return Verdict(excess[worst] <= 1, ttft_s, tpot_s, worst if excess[worst] > 1 else "")
