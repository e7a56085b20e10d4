"""What a use case asks of a chip whatever the chip is: lengths that matter, and the load where there is one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dse.capacity.trial import Load
from dse.requirements.use_case import UseCase
from simulator import build_requests
from simulator.metrics import percentile

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Demand:
    """Lengths and load.

    Attributes
    ----------
    prompt_tokens
        The longest prompt whose first token must be in time: of all prompts the percentile that the promise names, for
        the longest ones may be late.
    context_tokens
        KV that a request has stored in the middle of its answer, likewise: its mean over the steps that decode.
    longest_tokens
        Prompt and answer of the longest request, which memory must hold.
    batch
        Requests of a client that decode at once.
    load
        What arrives; None where requests are alone.
    """

    prompt_tokens: int
    context_tokens: int
    longest_tokens: int
    batch: int
    load: Load | None

    @classmethod
    def of(cls, case: UseCase) -> Demand:
        """Return the demand of a use case.

        Raises
        ------
        SpecError
            If its workload has too few requests or no rate, and they are not alone.
        """
        workload = case.load
        if workload is None:
            assert case.prompt_tokens
            assert case.output_tokens
            middle = case.prompt_tokens + (case.output_tokens - 2) // 2
            return cls(case.prompt_tokens, middle, case.prompt_tokens + case.output_tokens, case.batch or 1, None)
        load = None if case.alone else Load.of(workload)
        requests = load.requests if load else build_requests(workload)
        prompts, outputs = requests.prompt_tokens, requests.output_tokens
        # The first token comes with the prompt; the i-th step after it has i - 1 tokens of the answer stored.
        middles = (prompts + (outputs - 2) / 2)[outputs > 1]
        return cls(
            int(percentile(prompts.astype(np.float64), case.ttft_percentile)),
            int(percentile(middles, case.tpot_percentile)) if len(middles) else 0,
            int((prompts + outputs).max()),
            (case.batch or 1) if case.alone else 1,
            load,
        )
