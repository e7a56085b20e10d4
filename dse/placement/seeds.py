"""Plans as starting points of a study."""

from __future__ import annotations

from itertools import product

from dse.placement.spec import Devices, SplitSpec, StagesSpec
from dse.placement.split import plan_split
from dse.placement.stages import StagesPlan, plan_stages
from simulator import catalog
from simulator.catalog import Accelerator
from simulator.errors import SpecError
from simulator.spec.deployment import Pool

POOL_OF = {"llm": "main", "prefill": "prefill", "decode": "decode"}
"""Name of the pool in designs that serves a stage of a plan."""


def planned_choices(spec: StagesSpec) -> list[dict[str, str | int]]:
    """Return layouts, accelerators, clients and tp with which the hosts serve a workload best, without repeats.

    For each layout and objective the best placement on all hosts, and the best with one kind of accelerator only.
    Names are those of the dimensions of a serving space (``layout``, ``main.accelerator`` …), so that a study can begin
    with them and choose the rest itself. Placements with several kinds of clients in one pool are left out, as no
    design describes them.

    Raises
    ------
    SpecError
        If a name is unknown. A placement that is impossible is left out.
    """
    kinds = [host.device for host in spec.hosts if isinstance(catalog.device(host.device), Accelerator)]
    found: list[dict[str, str | int]] = []
    for layout, objective, only in product(spec.layouts, ("cost", "utilisation"), (None, *kinds)):
        hosts = tuple(host for host in spec.hosts if only in (None, host.device) or host.device not in kinds)
        try:
            plan = plan_stages(spec.model_copy(update={"layouts": (layout,), "objective": objective, "hosts": hosts}))
        except SpecError:
            continue
        choices = _choices(plan)
        if choices is not None and choices not in found:
            found.append(choices)
    return found


def _choices(plan: StagesPlan) -> dict[str, str | int] | None:
    """Return what a placement chooses of the LLM's pools; None if a stage has several kinds of clients."""
    choices: dict[str, str | int] = {"layout": "colocated" if plan.layout == "together" else "disaggregated"}
    for each in plan.placed:
        client = each.capacity.client
        if not isinstance(client, Pool):
            continue
        name = POOL_OF[each.capacity.stage]
        if f"{name}.accelerator" in choices:
            return None
        choices |= {
            f"{name}.accelerator": each.capacity.device,
            f"{name}.clients": each.clients,
            f"{name}.tp": client.tp,
        }
    return choices


def with_planned_layers(
    pool: Pool, *, decodes: int = 64, context_tokens: int = 2048, prompt_tokens: int = 0, kv_tokens: int | None = None
) -> Pool:
    """Return a pool over several kinds of accelerators with the best split of its layers for a step.

    Parameters
    ----------
    pool
        With ``stage_accelerators``; their order stays. Others are returned as they are: with equal accelerators the
        simulator adds the output head to the longest stage wherever it is, and nothing is won by sparing the last.
    decodes, context_tokens, prompt_tokens
        What the step works on.
    kv_tokens
        Tokens of context that must find room at once; those of the step if absent.

    Raises
    ------
    SpecError
        If no split has enough memory, or attention is data-parallel, which is not planned.
    """
    if not pool.mixed or pool.stage_accelerators is None:
        return pool
    if pool.dp > 1 or not isinstance(pool.engine, str):
        raise SpecError(f"pool {pool.name}: dp and engines that are written out are not planned; allowed: dp 1, a name")
    spec = SplitSpec(
        model=pool.model,
        devices=tuple(Devices(accelerator=name, count=pool.tp) for name in pool.stage_accelerators),
        order="given",
        tp=(pool.tp,),
        decodes=decodes,
        context_tokens=context_tokens,
        prompt_tokens=prompt_tokens,
        kv_tokens=kv_tokens,
        weights=pool.weights,
        kv=pool.kv,
        engine=pool.engine,
    )
    return pool.model_copy(update={"layers_per_stage": plan_split(spec).planned.layers})
