"""A pool as a card: what it serves, its clients with every accelerator, how it forms batches."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dse import words
from dse.drawing.shapes import SMALL, TEXT, TITLE, box, letters, lines_of, plain, width
from simulator import Pool

CHIP, GAP = 8.0, 2.0
"""Side of an accelerator's square and the space between two."""
FRAME, APART = 4.0, 6.0
"""Space within a client's frame, and between frames."""
TALL = 4
"""Accelerators above each other."""
MOST_CHIPS = 72
"""Accelerators of a client that are drawn; of a larger one only so many."""
MOST_ROWS = 3
"""Rows of clients that are drawn."""
PAD = 10.0


def pool_card(pool: Pool, x: float, y: float, room: float, colours: Mapping[str, int]) -> tuple[str, float]:
    """Return the card of a pool and its height.

    Parameters
    ----------
    pool
        What is drawn.
    x, y, room
        Upper left corner and width.
    colours
        Number of the colour of each accelerator.
    """
    inner, parts = room - 2 * PAD, list[str]()
    count = words.plural(pool.accelerators, "accelerator")
    parts.append(letters(count, x + room - PAD, y + 18, kind="d-small", size=SMALL, room=inner / 2, anchor="end"))
    left = inner - width(count, SMALL) - 8
    parts.append(letters(heading(pool), x + PAD, y + 18, kind="d-title", size=TITLE, room=left, bold=True))
    top = y + 27
    for line in lines_of(hardware(pool), TEXT, inner):
        top += 13
        parts.append(letters(line, x + PAD, top - 3, kind="d-text", size=TEXT, room=inner))
    top += 5
    drawn, height = _clients(pool, x + PAD, top, inner, colours)
    parts.append(drawn)
    top += height - 2
    for line in lines_of(rules(pool), SMALL, inner, most=3):
        top += 13
        parts.append(letters(line, x + PAD, top, kind="d-small", size=SMALL, room=inner))
    whole = top + PAD - y
    told = f"<title>{plain(f'pool {pool.name}: {heading(pool)}, {hardware(pool)}; {rules(pool)}')}</title>"
    card = box(x, y, room, whole, "d-card", fill=0.03)
    return f'<g class="d-pool">{told}{card}{"".join(parts)}</g>', whole


def heading(pool: Pool) -> str:
    """Return what a pool does, and its name where that says more."""
    what = words.stages(pool)
    kind = pool.name.rpartition(".")[2]
    return what if kind in (pool.role, "main", pool.stage) else f"{what} · {kind}"


def hardware(pool: Pool) -> str:
    """Return clients and accelerators of a pool in words."""
    several = pool.accelerators_per_client
    degrees = ", ".join(f"{name}{degree}" for name, degree in words.degrees(pool).items() if degree > 1)
    kind = words.accelerators_of(pool)
    each = f"{several} × {kind} ({degrees})" if several > 1 else kind
    return f"{words.plural(pool.clients, 'client')} of {each}"


def rules(pool: Pool) -> str:
    """Return how a pool forms batches, and whatever else distinguishes it."""
    said = [words.batching(pool)]
    if pool.layers_per_stage:
        said.append(f"layers {' + '.join(map(str, pool.layers_per_stage))}")
    if pool.max_prompt_tokens is not None:
        said.append(f"prompts up to {pool.max_prompt_tokens:,} tokens")
    if pool.min_prompt_tokens > 1:
        said.append(f"prompts from {pool.min_prompt_tokens:,} tokens")
    if pool.groups > 1:
        said.append(f"{pool.groups} groups")
    if pool.adapters:
        said.append("LoRA adapters")
    if pool.lookup:
        said.append("search while decoding")
    return " · ".join(said)


def _clients(pool: Pool, x: float, y: float, room: float, colours: Mapping[str, int]) -> tuple[str, float]:
    """Return the clients of a pool, each a frame with its accelerators, and their height; as many as find room."""
    kinds = pool.stage_accelerators or (pool.accelerator,) * pool.pp
    stage = pool.tp * pool.dp
    # Of a huge client fewer accelerators are drawn, of every pipeline stage the same share.
    blocks = kinds[: max(1, min(len(kinds), MOST_CHIPS // min(stage, TALL)))]
    chips = max(1, min(stage, MOST_CHIPS // len(blocks)))
    tall = min(TALL, chips)
    columns = math.ceil(chips / tall)
    pitch = CHIP + GAP
    w = FRAME * 2 + len(blocks) * columns * pitch - GAP + (len(blocks) - 1) * GAP * 2
    h = FRAME * 2 + tall * pitch - GAP
    across = max(1, int((room + APART) // (w + APART)))
    shown, rest = pool.clients, 0
    if pool.clients > across * MOST_ROWS:
        shown = across * MOST_ROWS - max(1, math.ceil(70 / (w + APART)))
        shown = max(1, shown)
        rest = pool.clients - shown
    parts = []
    for client in range(shown):
        cx, cy = x + client % across * (w + APART), y + client // across * (h + APART)
        parts.append(box(cx, cy, w, h, "d-client", radius=3))
        for number, kind in enumerate(blocks):
            bx = cx + FRAME + number * (columns * pitch + GAP * 2)
            for chip in range(chips):
                px, py = bx + chip // tall * pitch, cy + FRAME + chip % tall * pitch
                parts.append(
                    f'<rect class="d-chip k{colours[kind]}" x="{px:g}" y="{py:g}" width="{CHIP:g}" height="{CHIP:g}" '
                    'rx="1.5" fill="currentColor" fill-opacity="0.55"/>'
                )
    rows = math.ceil(shown / across)
    height = rows * (h + APART)
    more = f"and {rest:,} more" if rest else ""
    if stage * len(kinds) > chips * len(blocks):
        more = f"{more}{'; ' if more else ''}{chips * len(blocks)} of {stage * len(kinds)} accelerators drawn"
    if more:
        used = (shown - 1) % across + 1
        tx = x + used * (w + APART)
        if room - (tx - x) >= width(more, SMALL):
            parts.append(letters(more, tx, y + height - APART - h / 2 + 4, kind="d-small", size=SMALL, room=room))
        else:
            height += 13
            parts.append(letters(more, x, y + height - 4, kind="d-small", size=SMALL, room=room))
    return "".join(parts), height
