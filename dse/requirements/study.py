"""Use cases that a study describes: one for each member of its family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dse.family.spec import Member
from dse.library import family_names, family_of, load_family, load_study
from dse.requirements.use_case import UseCase
from dse.spec import StudySpec
from simulator import SLO, SpecError, catalog

COLOCATED: Final = "colocated"


def is_study(name: str) -> bool:
    """Return whether a name is that of a shipped study or of a file with one, and not of a model."""
    return family_of(name) in family_names() or family_of(name).endswith((".yaml", ".yml"))


def cases_of(name: str, given: dict[str, Any]) -> tuple[UseCase, ...]:
    """Return the use cases of a study, or of all members of a family.

    Members that have prefill and decode apart in every design are left out. Load and promises are the study's. A client
    has the largest degree of tensor parallelism of its space, and the first of its other choices; there are as many
    accelerators as its limits allow, or one client if they say nothing. Kernels are those of the first accelerator.

    Parameters
    ----------
    name
        Shipped study or path, a member behind a slash.
    given
        Fields of the use case that are to be otherwise.

    Raises
    ------
    SpecError
        If there is no such study, or it promises no TTFT or TPOT.
    """
    family = load_family(family_of(name))
    if family.label_kinds and family_of(name) == name:
        together = [member for member in family.members if COLOCATED in member.spec.space.layouts]
        return _distinct([(member, _case(member.label, member.spec, given)) for member in together or family.members])
    spec = load_study(name)
    return (_case(spec.name, spec, given),)


def _distinct(cases: Sequence[tuple[Member, UseCase]]) -> tuple[UseCase, ...]:
    """Return use cases without those that differ in nothing but their names; alternatives mostly differ elsewhere."""
    found: list[UseCase] = []
    for scenario in dict.fromkeys(member.scenario for member, _ in cases):
        own = [case for member, case in cases if member.scenario == scenario]
        first = own[0]
        if scenario and all(case.model_copy(update={"name": first.name}) == first for case in own):
            own = [first.model_copy(update={"name": scenario})]
        found += own
    return tuple(found)


def _case(label: str, spec: StudySpec, given: dict[str, Any]) -> UseCase:
    if not isinstance(spec.model, str) or spec.workloads:
        raise SpecError(f"study {spec.name}: requirements are those of one model and one workload; it has several")
    space = spec.space
    if COLOCATED not in space.layouts:
        raise SpecError(
            f"study {spec.name}: requirements are those of clients that read prompts and decode; "
            f"given the layouts {', '.join(space.layouts)}, allowed: with {COLOCATED} among them"
        )
    first, each = _promise(spec, "ttft"), _promise(spec, "tpot")
    described: dict[str, Any] = {
        "name": label,
        "model": spec.model,
        "workload": spec.workload.model_dump(mode="json", exclude_none=True),
        "ttft_s": first.limit_s,
        "ttft_percentile": first.percentile,
        "tpot_s": each.limit_s,
        "tpot_percentile": each.percentile,
        "tp": max(space.tp),
        "pp": space.pp[0],
        "weights": space.weights[0],
        "kv": space.kv[0],
        "like": catalog.base_name(space.accelerators[0]),
    }
    most, each_client = spec.limits.accelerators, int({**described, **given}["tp"]) * int({**described, **given}["pp"])
    if most is not None and most >= each_client:
        described["accelerators"] = most // each_client * each_client
    return UseCase.parse({**described, **given}, source=f"study {spec.name}")


def _promise(spec: StudySpec, metric: str) -> SLO:
    """Return the first promise of a metric."""
    found = next((slo for slo in spec.slos if slo.metric == metric), None)
    if found is None:
        given = ", ".join(slo.name for slo in spec.slos) or "none"
        raise SpecError(f"study {spec.name}: slos: requirements need one of ttft and one of tpot, given {given}")
    return found
