"""An imported deployment as the design that a study starts with."""

from __future__ import annotations

from typing import Final

from dse.spec import StudySpec
from search_spaces import to_design
from simulator import Deployment, Pool, SpecError

#: Settings that change little; a study whose space does not vary them has one value for all designs.
DROPPED: Final = (
    ("kv_memory", "watermark"),
    ("kv_memory", "block_tokens"),
    ("kv_memory", "memory_utilization"),
    ("kv_memory", "blocks"),
    ("batching", "schedule_ahead"),
    ("batching", "order"),
    ("prefix_cache", ""),
    ("adapters", ""),
)


def as_start(deployment: Deployment, study: StudySpec) -> tuple[Deployment, tuple[str, ...]]:
    """Return a deployment that is a design of a study, and what was dropped for that.

    Parameters
    ----------
    deployment
        As it was imported.
    study
        The study that it is to start.

    Raises
    ------
    SpecError
        If what remains is no design of the study either; naming what differs.
    """
    dropped: list[str] = []
    for holder, name in (("", ""), *DROPPED):
        if holder:
            changed = _without(deployment, holder, name)
            if changed == deployment:
                continue
            deployment = changed
            dropped.append(f"{holder}{'.' if name else ''}{name}: not varied by {study.name}, dropped for its value.")
        try:
            to_design(deployment, study.space.space, study.space)
        except SpecError as error:
            problem = error
        else:
            return deployment, tuple(dropped)
    raise SpecError(f"study {study.name}: has no such design: {problem}; add its values to the study's space")


def _without(deployment: Deployment, holder: str, name: str) -> Deployment:
    """Return a deployment whose pools have the default of one setting."""
    pools = []
    for pool in deployment.pools:
        data = pool.model_dump(mode="json", exclude_unset=True)
        if name:
            data.get(holder, {}).pop(name, None)
        else:
            data.pop(holder, None)
        pools.append(Pool.parse(data))
    changes = {} if any(pool.prefix_cache for pool in pools) else {"tiers": ()}
    return deployment.model_copy(update={"pools": tuple(pools), **changes})
