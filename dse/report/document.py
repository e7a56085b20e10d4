"""What pages have in common: one HTML document with a header, cards, figures and the script that draws them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dse.report.script import JS
from dse.report.style import CSS

Section = tuple[str, str, str]
"""A card: its anchor, its title in the navigation, its HTML."""

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""Content security policy: the browser itself refuses every network request of the page."""


def document(
    *, title: str, kicker: str, name: str, lede: str, about: str, sections: Sequence[Section], payload: dict[str, Any]
) -> str:
    """Return a self-contained HTML document, which holds Plotly's script and asks nothing of any network.

    Parameters
    ----------
    title, kicker, name, lede
        Plain text: of the window, above the heading, the heading, and below it (nothing if empty).
    about
        HTML of the header.
    sections
        Cards.
    payload
        ``shared`` and ``figures`` for the script (:mod:`dse.report.figures`).
    """
    from plotly.offline import get_plotlyjs

    links = "".join(f'<li><a href="#{key}">{heading}</a></li>' for key, heading, _ in sections)
    cards = "\n".join(f'<section class="card" id="{key}">{body}</section>' for key, _, body in sections)
    # Inside a script element only "<" can do harm.
    data = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<header><div>
<p class="kicker">{escape(kicker)}</p>
<h1>{escape(name)}</h1>
{f'<p class="lede">{escape(lede)}</p>' if lede else ""}
{about}
<nav aria-label="Sections"><ul>{links}</ul></nav>
</div></header>
<main>
<noscript><p class="note">Figures need JavaScript; all tables are readable without.</p></noscript>
{cards}
</main>
<footer><p>Written by dse-llm {escape(version_of("dse-llm"))}. This file loads nothing from a network.</p></footer>
<script id="report-data" type="application/json">{data}</script>
<script>{get_plotlyjs()}</script>
<script>{JS}</script>
</body>
</html>
"""


def version_of(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return terms and what is said of them as a list."""
    rows = "".join(f"<dt>{escape(term)}</dt><dd>{escape(fact)}</dd>" for term, fact in pairs)
    return f'<dl class="facts">{rows}</dl>'


def plot(key: str, label: str, caption: str = "", *, height: int) -> str:
    """Return the place of a figure of the payload."""
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><div class="plot" id="plot-{escape(key)}" data-figure="{escape(key)}" role="img" '
        f'style="min-height:{height}px" aria-label="{escape(label)}"></div>{said}</figure>'
    )
