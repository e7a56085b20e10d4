"""The drawing as a whole: stages below each other in the order of the pipeline, and lines between them.

It is 360 wide, so that on a telephone its letters are as large as the text around it, and grows downwards. Steps to the
next stage go straight down; those that pass stages over run beside them on the right; what prefix caches fetch from
tiers runs on the left.

======================  ===================================================================================
``deployment-drawing``  the whole; letters and lines have its text colour where no style sheet says more
``d-end``               where requests come from and answers go to
``d-stage``             frame of an LLM stage, around its pools
``d-card``              of a pool; with ``d-service-card`` of a service, with ``d-tiers-card`` of the tiers
``d-client``            frame of one client
``d-chip k0`` … ``k7``  an accelerator or processor; each kind of device has its own colour
``d-tier``              one tier of KV
``d-flow``              step of requests; with ``d-fallback`` of those that a cascade refused; ``d-head``: its point
``d-handover``          KV on its way from prefill to decode
``d-fetch``             KV between prefix caches and tiers
``d-title``             names; ``d-text``: hardware; ``d-small``: everything else
``d-pool``, …           groups ``d-pool``, ``d-service``, ``d-tiers``: with a ``<title>`` that says all of it
======================  ===================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from dse import words
from dse.drawing.flow import IN, OUT, Edge, edges_of
from dse.drawing.pools import hardware, pool_card
from dse.drawing.services import service_card, tier_words, tiers_card, what_of, where_of
from dse.drawing.shapes import SMALL, TITLE, box, head, letters, line, lines_of, plain
from simulator import Deployment, Pool
from simulator.spec.pipeline_plan import PipelinePlan

WIDTH: Final = 360.0
EDGE: Final = 6.0
"""Space around everything."""
STEP: Final = 24.0
"""Height of an arrow from one stage to the next."""
LANE: Final = 11.0
"""Space beside the stages for each line that passes some over."""
MOST_BESIDE: Final = 77.0
"""Space for all of these lines at most."""
INSIDE: Final = 9.0
"""Space within the frame of a stage."""
KINDS: Final = 8
"""Colours of devices."""


def draw_deployment(deployment: Deployment, plan: PipelinePlan) -> str:
    """Return a deployment as SVG: pools with every accelerator, services, tiers, and what goes from one to the other.

    Parameters
    ----------
    deployment
        What is drawn.
    plan
        Stages of the workload's requests and the ways through them.

    Returns
    -------
    str
        One ``<svg>`` element, 360 units wide, to stand in a page: with a title and a description for screen readers,
        without script, inline style or identifiers. Classes are listed above.
    """
    return _Drawing(deployment, plan).svg()


@dataclass(frozen=True)
class _Node:
    """Where a stage was drawn."""

    top: float
    bottom: float


@dataclass
class _Drawing:
    """A drawing under way."""

    deployment: Deployment
    plan: PipelinePlan
    parts: list[str] = field(default_factory=list)
    nodes: dict[str, _Node] = field(default_factory=dict)
    caches: list[float] = field(default_factory=list)

    def svg(self) -> str:
        """Draw everything from above to below."""
        order = [IN, *self.plan.stages, OUT]
        place = {name: number for number, name in enumerate(order)}
        edges = edges_of(self.plan)
        passing = [edge for edge in edges if place[edge.target] != place[edge.source] + 1]
        lanes = _lanes(passing, place)
        fetches = bool(self.deployment.tiers)
        self.left = EDGE + (LANE if fetches else 0)
        several = max(lanes.values(), default=-1) + 1
        self.lane = min(LANE, MOST_BESIDE / max(1, several))
        self.room = WIDTH - self.left - EDGE - self.lane * several
        self.middle = self.left + self.room / 2
        self.colours = _colours(self.deployment)
        y = EDGE
        for name, following in pairwise([*order, ""]):
            bottom = self._stage(name, y)
            self.nodes[name] = _Node(y, bottom)
            y = bottom + (STEP if following else 0)
        for edge in edges:
            self._step(edge, place, lanes)
        if fetches:
            y += STEP / 2
            drawn, height = tiers_card(self.deployment.tiers, self.left, y, self.room)
            self.parts.append(drawn)
            self._fetches(y + height / 2)
            y += height
        height = y + EDGE
        title, description = self._said()
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="deployment-drawing" role="img" '
            f'viewBox="0 0 {WIDTH:g} {height:g}" font-family="system-ui, sans-serif" color="currentColor">'
            f"<title>{plain(title)}</title><desc>{plain(description)}</desc>{''.join(self.parts)}</svg>"
        )

    def _stage(self, name: str, y: float) -> float:
        """Draw one stage, and return where it ends."""
        if name in (IN, OUT):
            return self._end("requests" if name == IN else "answers", y)
        if name in self.plan.llm_stages:
            return self._llm(name, y)
        services = [service for service in self.deployment.services if service.stage == name]
        drawn, height = service_card(self.plan.service(name), services, self.left, y, self.room, self.colours)
        self.parts.append(drawn)
        return y + height

    def _end(self, word: str, y: float) -> float:
        w = 84.0
        self.parts.append(box(self.middle - w / 2, y, w, 22, "d-end", radius=11, fill=0.06))
        self.parts.append(letters(word, self.middle, y + 15, kind="d-text", size=SMALL + 0.5, room=w, anchor="middle"))
        return y + 22

    def _llm(self, name: str, y: float) -> float:
        """Draw an LLM stage: a frame with its pools, prefill right above decode."""
        order = ("both", "prefill", "decode")
        pools = sorted(
            (pool for pool in self.deployment.pools if pool.stage == name), key=lambda pool: order.index(pool.role)
        )
        x, inner = self.left + INSIDE, self.room - 2 * INSIDE
        parts, top = [], y + 19
        first = pools[0]
        model = f"{name} · {first.model}" if len(self.plan.llm_stages) > 1 or name != "llm" else first.model
        parts.append(letters(model, x, top, kind="d-title", size=TITLE, room=inner, bold=True))
        for text in self._settings(name, first):
            for each in lines_of(text, SMALL, inner):
                top += 14
                parts.append(letters(each, x, top, kind="d-small", size=SMALL, room=inner))
        top += 9
        for before, pool in zip([None, *pools], pools, strict=False):
            if before is not None:
                handed = before.role == "prefill" and pool.role == "decode"
                top = self._handover(parts, top) if handed else top + INSIDE
            drawn, height = pool_card(pool, x, top, inner, self.colours)
            parts.append(drawn)
            if pool.prefix_cache:
                self.caches.append(top + height / 2)
            top += height
        bottom = top + INSIDE
        self.parts.append(box(self.left, y, self.room, bottom - y, "d-stage", radius=10))
        self.parts += parts
        return bottom

    def _settings(self, stage: str, pool: Pool) -> list[str]:
        """Return what holds for all pools of a stage, in words."""
        own = {each.stage: each.router for each in self.deployment.routers}
        router = words.spoken(own.get(stage, self.deployment.router))
        engine = pool.engine if isinstance(pool.engine, str) else "an engine of its own"
        return [f"weights {pool.weights} · KV {pool.kv} · {engine}", f"router: {router}"]

    def _handover(self, parts: list[str], top: float) -> float:
        """Draw the way of KV from prefill to decode, and return where it ends."""
        link, deployment = self.deployment.link, self.deployment
        said = ["KV over the network" if link.gb_per_s is None else f"KV at {words.number(link.gb_per_s)} GB/s"]
        said += ["layer by layer"] if link.layer_wise else []
        said += ["shared by hand-overs"] if link.shared else []
        said += ["within groups"] if deployment.handover_scope == "local" else []
        said += ["pools help each other out"] if deployment.lending else []
        said.append(words.spoken(deployment.handover_router))
        x = self.left + INSIDE + 26
        lines = lines_of(" · ".join(said), SMALL, self.room - 2 * INSIDE - 44)
        bottom = top + 13 + 13 * len(lines)
        parts.append(line([(x, top + 1), (x, bottom - 6)], "d-handover", thick=2.6))
        parts.append(head(x, bottom, "d-handover"))
        for place, each in enumerate(lines):
            parts.append(letters(each, x + 14, top + 16 + 13 * place, kind="d-small", size=SMALL, room=self.room))
        return bottom + 1

    def _step(self, edge: Edge, place: Mapping[str, int], lanes: Mapping[str, int]) -> None:
        """Draw the step from one stage to another."""
        source, target = self.nodes[edge.source], self.nodes[edge.target]
        kind = "d-flow d-fallback" if edge.fallback else "d-flow"
        if place[edge.target] == place[edge.source] + 1:
            ends = (self.middle, source.bottom), (self.middle, target.top - 6)
            self.parts.append(line(ends, kind, dashed=edge.fallback))
            self.parts.append(head(self.middle, target.top, kind))
            return
        side = self.left + self.room
        lane = side + self.lane * (lanes[_bus(edge, lanes)] + 0.5)
        start, end = source.bottom - 9, target.top + 9
        if edge.source == IN:
            side_from = self.middle + 42
            start = source.bottom - 11
        else:
            side_from = side
        side_to = self.middle + 42 if edge.target == OUT else side
        end = target.top + 11 if edge.target == OUT else end
        points = (side_from, start), (lane, start), (lane, end), (side_to + 6, end)
        self.parts.append(line(points, kind, dashed=edge.fallback))
        self.parts.append(head(side_to, end, kind, to="left"))

    def _fetches(self, y: float) -> None:
        """Draw the ways between prefix caches and the tiers, whose card has its middle at ``y``."""
        x = EDGE + LANE / 2 - 2
        for cache in self.caches:
            self.parts.append(line([(self.left + INSIDE, cache), (x, cache)], "d-fetch", dashed=True))
        if self.caches:
            points = [(x, min(self.caches)), (x, y), (self.left, y)]
            self.parts.append(line(points, "d-fetch", dashed=True))

    def _said(self) -> tuple[str, str]:
        """Return title and description for who does not see the drawing."""
        said = [words.sentence(self.deployment)]
        steps = " → ".join(["requests", *self.plan.stages, "answers"])
        said.append(f"Stages in order: {steps}.")
        for stage in self.plan.services:
            own = [where_of(service, stage) for service in self.deployment.services if service.stage == stage.name]
            said.append(f"{stage.name}, {what_of(stage)}: {', '.join(own) or 'no clients'}.")
        if len(self.plan.llm_stages) > 1:
            pools = self.deployment.pools
            said += [f"{pool.name} serves {pool.stage} with {pool.model}: {hardware(pool)}." for pool in pools]
        if self.deployment.tiers:
            said.append(f"KV tiers behind prefix caches: {'; '.join(map(tier_words, self.deployment.tiers))}.")
        return words.short(self.deployment), " ".join(said)


def _colours(deployment: Deployment) -> dict[str, int]:
    """Return the number of the colour of each device, by first appearance: accelerators, then those of services."""
    devices = [name for pool in deployment.pools for name in pool.accelerator_counts]
    devices += [service.device for service in deployment.services]
    return {name: number % KINDS for number, name in enumerate(dict.fromkeys(devices))}


def _lanes(passing: list[Edge], place: Mapping[str, int]) -> dict[str, int]:
    """Return the lane of each line beside the stages: steps from one stage, or to one stage, share a line.

    Keys are ``<name`` for all steps from a stage and ``>name`` for all to it; lines whose spans do not meet share a
    lane.
    """
    sources, targets = Counter(edge.source for edge in passing), Counter(edge.target for edge in passing)
    spans: dict[str, tuple[int, int]] = {}
    for edge in passing:
        by_target = targets[edge.target] > sources[edge.source]
        key = f">{edge.target}" if by_target else f"<{edge.source}"
        low, high = sorted((place[edge.source], place[edge.target]))
        known = spans.get(key, (low, high))
        spans[key] = (min(low, known[0]), max(high, known[1]))
    lanes: dict[str, int] = {}
    for key, (low, high) in sorted(spans.items(), key=lambda item: item[1][1] - item[1][0]):
        taken = {lanes[other] for other in lanes if spans[other][0] <= high and low <= spans[other][1]}
        lanes[key] = next(number for number in range(len(spans)) if number not in taken)
    return lanes


def _bus(edge: Edge, lanes: Mapping[str, int]) -> str:
    """Return which line a step runs along."""
    return f">{edge.target}" if f">{edge.target}" in lanes else f"<{edge.source}"
