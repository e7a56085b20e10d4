"""Services around the LLM, and tiers of KV behind the pools, as cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dse import words
from dse.drawing.pools import CHIP, GAP, PAD
from dse.drawing.shapes import SMALL, TITLE, box, letters, lines_of, plain, width
from simulator import SpecError
from simulator.performance.tiers import resolved_tier
from simulator.spec.kv_cache import Tier
from simulator.spec.service_stages import RetrieveStage, ServiceStage
from simulator.spec.stages import Service

MOST_DEVICES = 12
"""Devices of a service that are drawn as squares."""


def service_card(
    stage: ServiceStage, services: Sequence[Service], x: float, y: float, room: float, colours: Mapping[str, int]
) -> tuple[str, float]:
    """Return the card of a service stage and its height.

    Parameters
    ----------
    stage, services
        What is done, and where it runs.
    x, y, room
        Upper left corner and width.
    colours
        Number of the colour of each device.
    """
    inner, parts, top = room - 2 * PAD, list[str](), y + 18
    squares = [service.device for service in services for _ in range(service.devices_in_all(stage))]
    drawn = squares[: min(MOST_DEVICES, int(inner / 3 // (CHIP + GAP)))]
    for place, device in enumerate(reversed(drawn)):
        px = x + room - PAD - CHIP - place * (CHIP + GAP)
        parts.append(
            f'<rect class="d-chip k{colours[device]}" x="{px:g}" y="{top - CHIP:g}" width="{CHIP:g}" '
            f'height="{CHIP:g}" rx="1.5" fill="currentColor" fill-opacity="0.55"/>'
        )
    taken = len(drawn) * (CHIP + GAP)
    if len(squares) > len(drawn):
        said = f"{len(squares):,} ×" if len(drawn) > 0 else f"{len(squares):,}"
        parts.append(
            letters(said, x + room - PAD - taken - 3, top, kind="d-small", size=SMALL, room=inner / 2, anchor="end")
        )
        taken += width(said, SMALL) + 3
    parts.append(letters(stage.name, x + PAD, top, kind="d-title", size=TITLE, room=inner - taken - 8, bold=True))
    told = [what_of(stage), *(where_of(service, stage) for service in services)]
    for text in told:
        for line in lines_of(text, SMALL, inner):
            top += 14
            parts.append(letters(line, x + PAD, top, kind="d-small", size=SMALL, room=inner))
    height = top + PAD - y
    title = f"<title>{plain(f'{stage.name}: ' + '; '.join(told))}</title>"
    card = box(x, y, room, height, "d-card d-service-card", fill=0.03)
    return f'<g class="d-service">{title}{card}{"".join(parts)}</g>', height


def what_of(stage: ServiceStage) -> str:
    """Return what a service does, and with which model or index."""
    said = [type(stage).model_fields["kind"].description or stage.kind]
    model = getattr(stage, "model", None)
    if model:
        said.append(str(model))
    if isinstance(stage, RetrieveStage):
        said.append(f"{stage.documents:,} of {scaled(stage.vectors)} vectors")
    return " · ".join(said)


def scaled(count: float) -> str:
    """Return a large number in short, e.g. ``100 M``."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{words.number(count / size)} {letter}"
    return words.number(count)


def where_of(service: Service, stage: ServiceStage) -> str:
    """Return the clients of a service in words."""
    shards = service.shards_of(stage)
    spread = f"{words.plural(shards, 'shard')} on " if shards > 1 else ""
    each = f"{service.devices} × {service.device}" if service.devices > 1 else service.device
    wait = f", waiting up to {words.seconds(service.max_wait_ms / 1e3)}" if service.max_wait_ms else ""
    clients = words.plural(service.clients, "client")
    return f"{clients} of {spread}{each} · batches of up to {service.max_batch_requests:,}{wait}"


def tiers_card(tiers: Sequence[Tier], x: float, y: float, room: float) -> tuple[str, float]:
    """Return the card of the tiers behind the prefix caches, nearest first, and its height."""
    inner, top = room - 2 * PAD, y + 18
    parts = [letters("KV tiers, nearest first", x + PAD, top, kind="d-title", size=TITLE, room=inner, bold=True)]
    top += 8
    for tier in tiers:
        lines = lines_of(tier_words(tier), SMALL, inner - 16)
        height = 9 + 13.0 * len(lines)
        parts.append(box(x + PAD, top, inner, height, "d-tier", radius=4, fill=0.06))
        for place, line in enumerate(lines):
            spot = top + 14 + 13 * place
            parts.append(letters(line, x + PAD + 8, spot, kind="d-small", size=SMALL, room=inner - 16))
        top += height + 5
    whole = top + PAD - 5 - y
    told = "; ".join(map(tier_words, tiers))
    card = box(x, y, room, whole, "d-card d-tiers-card", fill=0.03)
    return f'<g class="d-tiers"><title>{plain(f"KV tiers: {told}")}</title>{card}{"".join(parts)}</g>', whole


def tier_words(tier: Tier) -> str:
    """Return size, bandwidth and users of a tier."""
    try:
        known = resolved_tier(tier)
    except SpecError:
        return tier.name
    whose = "all clients" if tier.clients is None else f"each {words.plural(tier.clients, 'client')}"
    if tier.clients == 1:
        whose = "each client"
    shared = ", in equal parts" if tier.private else ""
    size, speed = words.number(known.memory_gb), words.number(known.gb_per_s)
    return f"{tier.name} · {size} GB at {speed} GB/s for {whose}{shared}"
