"""A family of studies as a person writes it: a study, and what is changed in each member.

::

    name: agents
    …                                            # a study, as always
    scenarios:                                   # circumstances: each has an answer of its own
      short-waits: {workload.session.wait_s.mean_s: 2}
      long-waits: {workload.session.wait_s.mean_s: 60}
    alternatives:                                # choices that the space does not hold: on one front
      keep: {workload.session.keep: keep}
      drop: {workload.session.keep: drop}

Every scenario with every alternative is a study: ``agents/short-waits/keep`` and three more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Annotated, Any, Final, Self

from pydantic import Field, StringConstraints, model_validator

from dse.changes import check_root, with_changes
from dse.spec import StudySpec
from simulator.errors import SpecError

MOST_MEMBERS: Final = 100
"""Studies of a family."""

FIXED: Final = frozenset({"name", "question", "scenarios", "alternatives"})
"""Fields of a family that its members cannot change."""

Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)]
Changes = Annotated[dict[str, Any], Field(description="value of each path, e.g. workload.prefix.tokens: 4096")]


@dataclass(frozen=True)
class Member:
    """A study of a family.

    Attributes
    ----------
    scenario, alternative
        Its labels; empty where the family has none.
    spec
        The study.
    """

    scenario: str
    alternative: str
    spec: StudySpec

    @property
    def label(self) -> str:
        """Scenario and alternative with ``/`` between; empty for a study that stands alone."""
        return "/".join(filter(None, (self.scenario, self.alternative)))


class FamilySpec(StudySpec):
    """A study and what is changed in each member of its family; without changes it is the only member."""

    scenarios: dict[Label, Changes] = Field(
        default_factory=dict,
        description="circumstances that one does not choose, and what each changes; every one has an answer of its own",
    )
    alternatives: dict[Label, Changes] = Field(
        default_factory=dict,
        description="choices that the space does not hold, and what each changes; they are compared on one front",
    )

    @model_validator(mode="after")
    def _fitting_members(self) -> Self:
        count = max(1, len(self.scenarios)) * max(1, len(self.alternatives))
        if count > MOST_MEMBERS:
            raise ValueError(f"scenarios and alternatives: at most {MOST_MEMBERS} members, given {count:,}")
        allowed = [name for name in StudySpec.model_fields if name not in FIXED]
        for changes in (*self.scenarios.values(), *self.alternatives.values()):
            for path in changes:
                check_root(path, allowed, "workload.requests")
        for member in self.members:
            if member.spec.objectives != self.members[0].spec.objectives:
                raise ValueError(
                    f"{member.label}: objectives are those of the whole family, given "
                    f"{', '.join(member.spec.objectives)}"
                )
        return self

    @property
    def label_kinds(self) -> tuple[str, ...]:
        """Which of ``scenario`` and ``alternative`` tell the members apart."""
        return (*(("scenario",) if self.scenarios else ()), *(("alternative",) if self.alternatives else ()))

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """All studies, scenario by scenario."""
        as_written = self.model_dump(mode="json", exclude_unset=True, exclude_none=True, exclude=set(FIXED))
        found = []
        for scenario, alternative in product(self.scenarios or ("",), self.alternatives or ("",)):
            labels = list(filter(None, (scenario, alternative)))
            data = with_changes(as_written, self.scenarios.get(scenario, {}))
            data = with_changes(data, self.alternatives.get(alternative, {}))
            data |= {"name": "-".join([self.name, *labels]), "question": self.question}
            source = f"study {'/'.join([self.name, *labels])}"
            found.append(Member(scenario, alternative, StudySpec.parse(data, source=source)))
        return tuple(found)

    def member(self, label: str) -> StudySpec:
        """Return the study with a label.

        Parameters
        ----------
        label
            ``scenario/alternative``, or what of it the family has.

        Raises
        ------
        SpecError
            If there is none.
        """
        known = {each.label: each.spec for each in self.members}
        if label not in known:
            raise SpecError(f"study {self.name}: no member {label!r}; allowed: {', '.join(known) or 'none'}")
        return known[label]
