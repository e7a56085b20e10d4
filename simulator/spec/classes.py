"""Classes of requests: several kinds of load at once, each with its own lengths, pipeline and traits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from simulator.spec.lengths import Lengths
from simulator.spec.stages import MOST_STAGES, EncodeStage, RouteStage, Stage, check_pipeline, services_of, the_llm
from simulator.spec.traits import AdapterMix, Media, Session, SharedPrefix, Traits


class RequestClass(Traits):
    """A share of the requests with its own lengths, pipeline or traits; what it lacks is the workload's."""

    name: str = Field(min_length=1, description="name of the class, unique in a workload")
    share: float = Field(gt=0, le=1e9, description="weight of the class, relative to the other classes")
    lengths: Lengths | None = Field(default=None, description="how long requests of this class are")
    pipeline: tuple[Stage, ...] | None = Field(
        default=None, max_length=MOST_STAGES, description="stages of requests of this class"
    )


@dataclass(frozen=True)
class ResolvedClass:
    """A class with everything that it has from the workload.

    ``prefix_owner`` and ``adapter_owner`` say whose system prompts and adapters they are: classes with the same owner
    share them. 0 is the workload, i + 1 class i.
    """

    name: str
    share: float
    pipeline: tuple[Stage, ...]
    lengths: Lengths | None
    session: Session | None
    prefix: SharedPrefix | None
    prefix_owner: int
    media: Media | None
    adapters: AdapterMix | None
    adapter_owner: int
    priority: int
    deadline_s: float | None

    @property
    def encoder(self) -> EncodeStage | None:
        """The stage of its pipeline that encodes media."""
        return next((stage for stage in services_of(self.pipeline) if isinstance(stage, EncodeStage)), None)


def check_class(each: ResolvedClass, class_names: Sequence[str]) -> None:
    """Check that what a class consists of fits together.

    Raises
    ------
    ValueError
        If its pipeline is wrong, media has no stage that encodes it or the reverse, or a router by class does not
        know it or knows others than ``class_names``.
    """
    check_pipeline(each.pipeline)
    encoder = each.encoder
    if encoder and each.media is None:
        raise ValueError(f"media: needed by the stage {encoder.name!r}, given none")
    if each.media and encoder is None:
        raise ValueError("media: needs a stage of the kind encode in the pipeline, given none")
    router = the_llm(each.pipeline)
    if isinstance(router, RouteStage) and router.by == "class":
        routed = [name for _, names in router.to if isinstance(names, tuple) for name in names]
        known_names = set(class_names)
        unknown = [name for name in routed if name not in known_names]
        if unknown:
            known = ", ".join(class_names) or "none"
            raise ValueError(f"pipeline: {router.name}: no class {unknown[0]!r}; classes: {known}")
        if each.name not in routed:
            raise ValueError(f"pipeline: {router.name}: class {each.name!r} is sent nowhere; to: {', '.join(routed)}")
