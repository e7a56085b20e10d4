"""A deployment as files for a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from dse.export.dynamo import export_dynamo
from dse.export.exported import Account, Exported
from dse.export.kubernetes import export_kubernetes
from dse.export.llm_d import export_llm_d
from dse.export.physical import tell_of_deployment
from dse.export.ray_serve import export_ray_serve
from dse.export.scripts import export_scripts
from simulator import Deployment, catalog
from simulator.errors import SpecError, unknown_name
from simulator.performance.engine_defaults import resolved

__all__ = ["TARGETS", "Exported", "export"]

TARGETS: Final[Mapping[str, Callable[[Account], dict[str, str]]]] = {
    "vllm": lambda account: export_scripts(account, "vllm"),
    "sglang": lambda account: export_scripts(account, "sglang"),
    "kubernetes": export_kubernetes,
    "llm-d": export_llm_d,
    "dynamo": export_dynamo,
    "ray-serve": export_ray_serve,
}
"""What writes the files of each target."""
COMMANDS: Final = ("vllm", "sglang")
"""Targets that are commands, which whoever has the machine may start; the others ask a cluster for it."""


def export(deployment: Deployment, target: str) -> Exported:
    """Return the files that deploy a design, and what they do not say.

    Parameters
    ----------
    deployment
        A deployment; what it leaves to its engine is taken from the engine's profile.
    target
        One of :data:`TARGETS`.

    Raises
    ------
    SpecError
        If there is no such target, the deployment names a model or an accelerator that is not catalogued, or the target
        cannot hold it at all: a cluster has no hypothetical accelerators, and no pods of several kinds of them.
    """
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    account = Account(resolved(deployment))
    if target not in COMMANDS:
        _refuse_what_no_cluster_starts(account.deployment, target)
    files = TARGETS[target](account)
    if all(pool.role == "both" for pool in deployment.pools):
        # Nothing is handed over, so that the rule for it says nothing.
        account.express("handover_router", "handover_scope")
    tell_of_deployment(account, target)
    account.close(target)
    return Exported(files, tuple(account.notes), frozenset(account.expressed), frozenset(account.told))


def _refuse_what_no_cluster_starts(deployment: Deployment, target: str) -> None:
    for pool in deployment.pools:
        if pool.mixed:
            raise SpecError(
                f"pools.{pool.name}.stage_accelerators: {', '.join(pool.stage_accelerators or ())}: {target} asks for "
                "one kind of accelerator for all of a client; allowed: the same for every stage, or the targets "
                f"{', '.join(COMMANDS)}"
            )
        for name in pool.accelerator_counts:
            if catalog.is_hypothetical(name):
                raise SpecError(
                    f"pools.{pool.name}.accelerator: {name} is hypothetical: no cluster has it, and {target} would "
                    "start the pool on something else; allowed: a catalogued accelerator"
                )
