"""What bounds each design of the front: the SLO with the least slack, the resource, and what would relax them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dse.evaluation import Evaluation
from dse.result import StudyResult
from dse.understanding.picks import trial_of

if TYPE_CHECKING:
    import pandas as pd

BINDS = 0.1
"""Slack below which an SLO is said to bind."""

NOTHING = "nothing"
"""Bottleneck of a design with room for more load."""

_RELIEF = {
    "KV capacity": "more memory for KV: more clients, more accelerators a client, or weights or KV in fewer bits",
    "batch limit": "a larger batch, or more clients",
    "static batching": "continuous or chunked batching",
    "compute": "more clients, or accelerators with more arithmetic",
    "memory bandwidth": "accelerators with faster memory, weights in fewer bits, or more accelerators a client",
    "links": "fewer accelerators a client, or faster links between them",
    "engine overhead": "fewer, larger steps (a larger batch or token budget), or an engine with less overhead",
    "clients": "more clients of this service",
    NOTHING: "nothing: there is room for more load",
}
"""What helps against each bottleneck of :attr:`simulator.metrics.PoolUse.bottleneck`."""


def relief(bottleneck: str) -> str:
    """Return what would relax a bottleneck, in words; of several workloads, what would relax each."""
    resources = [part.rpartition(": ")[2] for part in bottleneck.split("; ")]
    limiting = [resource for resource in resources if resource != NOTHING] or [NOTHING]
    return "; ".join(dict.fromkeys(_RELIEF.get(resource, f"more of {resource}") for resource in limiting))


def slack(evaluation: Evaluation, slo: str) -> float:
    """Return the share of an SLO's limit that a design leaves; negative if it exceeds it."""
    return -evaluation.figures[f"{slo}_excess"]


def only_difference(one: Evaluation, other: Evaluation) -> str | None:
    """Return the only dimension in which two designs differ; None if there are several or none."""
    if one.design.keys() != other.design.keys():
        return None
    changed = [name for name, value in one.design.items() if other.design[name] != value]
    return changed[0] if len(changed) == 1 else None


def relieving(result: StudyResult, evaluation: Evaluation, slo: str) -> tuple[str, Evaluation] | None:
    """Return the choice that alone gives an SLO most slack, and the simulated design with it; None if none does."""
    own = slack(evaluation, slo)
    better = [e for e in result.simulated if slack(e, slo) > own]
    neighbours = [(name, e) for e in better if (name := only_difference(evaluation, e))]
    return max(neighbours, key=lambda found: slack(found[1], slo), default=None)


def binding(result: StudyResult) -> pd.DataFrame:
    """Return what bounds each front design, without any simulation.

    Returns
    -------
    pandas.DataFrame
        By trial, in the order of the front: ``slo`` with the least slack, its ``slack`` (share of the limit left),
        ``limit_s`` and ``reached_s``, whether it ``binds`` (slack below a tenth), the ``bottleneck``, and its
        ``relief`` in words. Where simulated designs differ in a single choice and leave this SLO more slack, the best
        of them is ``neighbour``, its choice ``change``, and its slack ``neighbour_slack``; else None, empty and NaN.
        Without SLOs ``slo`` is empty.
    """
    import pandas as pd

    limits = {slo.name: slo.limit_s for slo in result.spec.slos}
    rows = []
    for e in result.front:
        tightest = min(limits, key=lambda name: slack(e, name), default="")
        own = slack(e, tightest) if tightest else math.nan
        found = relieving(result, e, tightest) if tightest else None
        rows.append(
            {
                "trial": trial_of(result, e),
                "slo": tightest,
                "slack": own,
                "limit_s": limits.get(tightest, math.nan),
                "reached_s": limits[tightest] * (1 - own) if tightest else math.nan,
                "binds": bool(own < BINDS),
                "bottleneck": e.bottleneck,
                "relief": relief(e.bottleneck),
                "neighbour": None if found is None else trial_of(result, found[1]),
                "change": "" if found is None else change(found[0], e, found[1]),
                "neighbour_slack": math.nan if found is None else slack(found[1], tightest),
            }
        )
    columns = ["trial", "slo", "slack", "limit_s", "reached_s", "binds", "bottleneck", "relief"]
    frame = pd.DataFrame(rows, columns=[*columns, "neighbour", "change", "neighbour_slack"])
    return frame.astype({"neighbour": "Int64"}).set_index("trial")


def change(name: str, one: Evaluation, other: Evaluation) -> str:
    """Return how two designs differ in a choice, in words; a choice that a design does not have is a dash."""
    here, there = (str(e.design.get(name, "–")) for e in (one, other))
    return f"{name} {here} → {there}"
