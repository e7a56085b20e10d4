"""The way from a design to a deployment and back; each room of the house says what its own dimensions mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from search_spaces.adapters import adapter_values, adapters_of
from search_spaces.batching import batching_of, batching_values
from search_spaces.design import Design
from search_spaces.dimension import Value
from search_spaces.hardware_mix import hardware_fields, hardware_values
from search_spaces.kv_cache import Tiers, kv_fields, kv_values, tier_values, tiers_of
from search_spaces.parallelism import parallel_fields, parallel_values
from search_spaces.placement import (
    COLOCATED,
    DECODE,
    DISAGGREGATED,
    EXTRA,
    MAIN,
    PREFILL,
    handover_fields,
    handover_values,
    layout_of_stages,
    prefix_of,
    stage_fields,
    stage_values,
)
from search_spaces.routing import routing_fields, routing_values
from search_spaces.services import ServiceSpace, service_values, services_of
from search_spaces.serving import ServingSpace
from search_spaces.space import Space
from search_spaces.speculation import draft_of, draft_values
from search_spaces.stage import LlmSpace
from simulator.errors import SpecError
from simulator.spec.deployment import Deployment, Lending, Link, Pool
from simulator.spec.stages import LLM, Service


def to_deployment(
    design: Design,
    model: str | Mapping[str, str],
    services: tuple[Service, ...] = (),
    *,
    stage: str = LLM,
    serving: ServingSpace | None = None,
) -> Deployment:
    """Return the deployment that a design describes, serving a model, with the given services around it.

    Parameters
    ----------
    design
        The choices.
    model
        What all pools serve; with several LLM stages the model of each, by its name.
    services
        Clients of service stages that are the same in every design, beside those that the design chooses.
    stage
        Name of the LLM stage, if there is one.
    serving
        The space as a person wrote it: needed if the design chooses between named alternatives (links, lending,
        tiers, drafts), varies services, serves adapters, or has several LLM stages.

    Raises
    ------
    pydantic.ValidationError
        If the choices contradict each other, e.g. a chunked token budget below the batch size.
    SpecError
        If a named alternative is not in ``serving``, or models are given for other stages than it has.
    """
    models = {stage: model} if isinstance(model, str) else dict(model)
    names = list(models)
    if serving and serving.stages:
        names = list(serving.stages)
        if set(names) != set(models):
            raise SpecError(f"stages: given {', '.join(names)}; models are given for {', '.join(models)}")
    layouts = layout_of_stages(design)
    if len(layouts) != len(names):
        raise SpecError(f"layout: given {design['layout']!r} for {len(names)} LLM stages: {', '.join(names)}")
    pools = [
        _pool(design, models[name], name, prefix_of(name, len(names)), kind, _own(serving, name))
        for name, layout in zip(names, layouts, strict=True)
        for kind in _kinds(design, prefix_of(name, len(names)), layout)
    ]
    links, lending, tiers, varied = _alternatives(serving)
    return Deployment(
        pools=tuple(pools),
        services=(*services_of(design, varied), *services),
        tiers=tiers_of(design, tiers),
        **routing_fields(design),
        **handover_fields(design, links, lending),
    )


def _alternatives(
    serving: ServingSpace | None,
) -> tuple[Mapping[str, Link], Mapping[str, Lending | None], Tiers, Mapping[str, ServiceSpace]]:
    """Return what a space calls by names; nothing without one."""
    return (serving.links, serving.lending, serving.tiers, serving.services) if serving else ({}, {}, {}, {})


def _own(serving: ServingSpace | None, stage: str) -> LlmSpace | None:
    """Return what may vary in an LLM stage; None without the space."""
    return serving.llm_spaces[stage] if serving and serving.stages else serving


def _kinds(design: Design, prefix: str, layout: str) -> tuple[str, ...]:
    """Return what the pools of a stage are called."""
    if layout == DISAGGREGATED:
        return PREFILL, DECODE
    return (MAIN, EXTRA) if design.get(f"{prefix}mixed") else (MAIN,)


def _pool(design: Design, model: str, stage: str, prefix: str, kind: str, own: LlmSpace | None) -> Pool:
    # What a pool extra has no choice of its own for is as in main.
    settings = MAIN if kind == EXTRA else kind
    name = f"{prefix}{kind}"
    return Pool(
        name=name,
        model=model,
        stage=stage,
        batching=batching_of(design, prefix, settings),
        adapters=adapters_of(design, prefix, own.adapters if own else None),
        speculation=draft_of(design, f"{prefix}{settings}", own.drafts if own else {}),
        **stage_fields(design, prefix, kind),
        **hardware_fields(design, name),
        **parallel_fields(design, prefix, name),
        **kv_fields(design, prefix, settings),
    )


def pool_of(
    design: Design, name: str, model: str | Mapping[str, str], *, stage: str = LLM, serving: ServingSpace | None = None
) -> Pool:
    """Return one pool of a design by its name, whatever becomes of the others.

    Parameters
    ----------
    design, model, serving
        As of :func:`to_deployment`.
    name
        One of :func:`pools_of` the space: ``main``, ``extra``, ``prefill`` or ``decode``; behind the name of its stage,
        and a dot, where there are several.
    stage
        Name of the LLM stage that ``model`` is of, if that is a single one.

    Raises
    ------
    pydantic.ValidationError
        If its choices contradict each other.
    """
    models = {stage: model} if isinstance(model, str) else dict(model)
    prefix, _, kind = name.rpartition(".")
    own = prefix or next(iter(models))
    return _pool(design, models[own], own, f"{prefix}." if prefix else "", kind, _own(serving, own))


def to_design(deployment: Deployment, space: Space, serving: ServingSpace | None = None) -> Design:
    """Return the design that describes a deployment; the inverse of :func:`to_deployment`.

    What pools are called, and the order of pools and services, does not matter.

    Parameters
    ----------
    deployment
        A deployment, also one that a person wrote.
    space
        The space that the design is to be in.
    serving
        The space as a person wrote it, where :func:`to_deployment` needs it.

    Raises
    ------
    SpecError
        If a choice of the deployment is not in the space, or is none that a design makes.
    """
    stages = list(dict.fromkeys(pool.stage for pool in deployment.pools))
    if serving and serving.stages:
        if set(serving.stages) != set(stages):
            raise SpecError(
                f"stage: pools serve {', '.join(stages)}; stages of this space: {', '.join(serving.stages)}"
            )
        stages = list(serving.stages)
    links, lending, tiers, varied = _alternatives(serving)
    layouts, named, values = [], {}, dict[str, Value]()
    for stage in stages:
        prefix = prefix_of(stage, len(stages))
        pools = dict(_called([pool for pool in deployment.pools if pool.stage == stage]))
        layouts.append(COLOCATED if MAIN in pools else DISAGGREGATED)
        values |= stage_values(prefix, pools)
        own = _own(serving, stage)
        # What all pools share is read from the first, so last.
        for kind, pool in reversed(pools.items()):
            name = f"{prefix}{kind}"
            named[name] = pool
            values |= batching_values(prefix, name, pool)
            values |= hardware_values(name, pool)
            values |= parallel_values(prefix, name, pool)
            values |= kv_values(prefix, name, pool)
            values |= adapter_values(prefix, pool)
            values |= draft_values(name, pool, own.drafts if own else {})
    values |= {"layout": "+".join(layouts)}
    values |= routing_values(deployment)
    values |= handover_values(deployment, links, lending)
    values |= tier_values(deployment, named, tiers)
    values |= service_values(deployment.services)
    design = space.design(values)
    fixed = tuple(service for service in deployment.services if service.stage not in varied)
    models = {pool.stage: pool.model for pool in deployment.pools}
    found = to_deployment(design, models, fixed, serving=serving)
    # Pools and services by name, in one order: names and order say nothing.
    given = deployment.model_copy(
        update={
            "pools": tuple(
                named[pool.name].model_copy(update={"name": pool.name}) for pool in found.pools if pool.name in named
            ),
            "services": _in_order(deployment.services),
        }
    )
    found = found.model_copy(update={"services": _in_order(found.services)})
    if len(named) != len(deployment.pools) or given != found:
        raise SpecError(
            f"deployment: has settings that no design of this space expresses: {', '.join(_differences(given, found))}"
        )
    return design


def _called(pools: list[Pool]) -> Iterator[tuple[str, Pool]]:
    """Yield the pools of a stage with what a design calls them."""
    both = [MAIN, EXTRA]
    for pool in pools:
        if pool.role != "both":
            yield pool.role, pool
        elif both:
            yield both.pop(0), pool


def _in_order(services: tuple[Service, ...]) -> tuple[Service, ...]:
    return tuple(sorted(services, key=lambda service: service.stage))


def _differences(given: Deployment, found: Deployment) -> list[str]:
    """Return the names of what differs."""
    names = [name for name in Deployment.model_fields if name != "pools"]
    differing = [name for name in names if getattr(given, name) != getattr(found, name)]
    for one, other in zip(given.pools, found.pools, strict=False):
        fields = (name for name in Pool.model_fields if getattr(one, name) != getattr(other, name))
        differing += [f"{one.name}.{name}" for name in fields]
    return differing or ["pools"]
