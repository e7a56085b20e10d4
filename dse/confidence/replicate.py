"""Replications of a load: other draws of it, the same for every design (common random numbers)."""

from __future__ import annotations

from dse.confidence.resample import in_blocks
from simulator import Requests, Workload, build_requests


def replicate(workload: Workload | None, requests: Requests, number: int) -> Requests:
    """Return a replication of a load.

    Parameters
    ----------
    workload
        What was specified; None if only its requests are known.
    requests
        What was built from it.
    number
        0: the requests themselves. k: a generated workload with its seed + k; of a trace, or of bare requests,
        blocks drawn with the seed k (:func:`~dse.confidence.resample.in_blocks`). Whoever is simulated with a
        number meets the same requests.
    """
    if number == 0:
        return requests
    if workload is None or workload.trace is not None:
        return in_blocks(requests, number)
    return build_requests(workload.model_copy(update={"seed": workload.seed + number}))
