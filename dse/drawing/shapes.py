"""Pieces of SVG, and text that fits its place.

Nothing here has a colour: everything has a class, and attributes that draw it in the colour of the text around it where
no style sheet says more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Final

TITLE, TEXT, SMALL = 13.0, 11.5, 10.5
"""Sizes of letters, in units of a drawing that is 360 wide."""

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# fmt: off
_WIDTHS: Final = (
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636,
    636, 636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656,
    557, 863, 748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613,
    635, 550, 635, 615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818,
    592, 592, 525, 636, 337, 636, 838,
)
# fmt: on
"""Of the letters from space to ~, in thousandths of their size: of DejaVu Sans, a wide font."""
_BOLD, _OTHER = 1.13, 1000
"""How much wider bold letters are, and the width of all other letters."""


def plain(text: str) -> str:
    """Return a text without what XML cannot hold, escaped."""
    return escape(_NOT_XML.sub("\ufffd", text))


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Return how wide a text is in a wide font."""
    thousandths = sum(_WIDTHS[ord(each) - 32] if " " <= each <= "~" else _OTHER for each in text)
    return size * thousandths / 1000 * (_BOLD if bold else 1.0)


def fitted(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """Return a text, cut with an ellipsis if it needs more room."""
    if width(text, size, bold=bold) <= room:
        return text
    # No letter is narrower than a quarter of its size.
    text = text[: int(4 * room / size) + 1]
    while text and width(f"{text}…", size, bold=bold) > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


def lines_of(text: str, size: float, room: float, most: int = 2) -> list[str]:
    """Return a text in lines that fit, broken between words; the last is cut if there are more than ``most``."""
    lines, words = [""], text.split()
    for place, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width(longer, size) > room:
            if len(lines) == most:
                lines[-1] = " ".join([lines[-1], *words[place:]])
                break
            lines.append(word)
        else:
            lines[-1] = longer
    return [fitted(line, size, room) for line in lines]


def letters(
    text: str, x: float, y: float, *, kind: str, size: float, room: float, anchor: str = "start", bold: bool = False
) -> str:
    """Return a line of text, cut where the room ends; then the whole is told at the pointer."""
    shown = fitted(text, size, room, bold=bold)
    told = f"<title>{plain(text)}</title>" if shown != text else ""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text class="{kind}" x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}"{weight} '
        f'fill="currentColor">{told}{plain(shown)}</text>'
    )


def box(x: float, y: float, w: float, h: float, kind: str, *, radius: float = 7, fill: float = 0) -> str:
    """Return a rectangle with round corners; ``fill`` is how opaque it is where no style sheet says more."""
    inside = f'fill="currentColor" fill-opacity="{fill:g}"' if fill else 'fill="none"'
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{radius:g}" {inside} '
        'stroke="currentColor" stroke-opacity="0.4"/>'
    )


def line(points: Sequence[tuple[float, float]], kind: str, *, dashed: bool = False, thick: float = 1.4) -> str:
    """Return a line through points."""
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<path class="{kind}" d="{path}" fill="none" stroke="currentColor" stroke-width="{thick:g}"{dashes}/>'


def head(x: float, y: float, kind: str, *, to: str = "down") -> str:
    """Return the head of an arrow whose point is at ``x, y``."""
    sides = {"down": ((-4, -7), (4, -7)), "left": ((7, -4), (7, 4)), "up": ((-4, 7), (4, 7))}[to]
    path = "".join(f"L{x + dx:g} {y + dy:g}" for dx, dy in sides)
    return f'<path class="{kind} d-head" d="M{x:g} {y:g}{path}Z" fill="currentColor"/>'
