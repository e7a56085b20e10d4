"""The report's HTML as Markdown, so that both say the same.

Known are the elements that the report is made of. Figures, drawings and what only a pointer can use are left out: the
tables hold their values.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

SILENT = frozenset({"select", "label", "svg", "script", "style", "figcaption"})
"""Elements of which nothing is kept."""
_VOID = frozenset({"br", "input", "meta", "link", "img"})
_SPECIAL = re.compile(r"([\\`*_<>\[\]|&])")
_BLOCKS = frozenset({"p", "h1", "h2", "h3", "h4", "li", "dt", "dd", "caption", "th", "td", "summary"})


def plain(text: str) -> str:
    """Return plain text so that Markdown shows it as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def markdown(html: str) -> str:
    """Return the HTML of a section of the report as Markdown."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    levels = [len(block) - len(block.lstrip("#")) for block in reader.blocks]
    # A heading that stood above a figure alone has nothing to say.
    kept = [
        block
        for block, level, following in zip(reader.blocks, levels, [*levels[1:], 1], strict=True)
        if not (level and following and following <= level)
    ]
    return "\n\n".join(kept)


class _Reader(HTMLParser):
    """Write down block by block what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self.said = ""
        self.silent = 0
        self.verbatim = False
        self.rows: list[list[str]] = []
        self.items: list[str] = []
        self.term = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.silent or tag in SILENT or ("class", "quiet") in attrs:
            self.silent += tag not in _VOID  # of quiet captions a heading says the same
        elif tag in _BLOCKS:
            self.said = ""
        elif tag == "pre":
            self.said, self.verbatim = "", True
        elif tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("ul", "dl"):
            self.items = []
        elif tag == "small":
            self.said = f"{self.said.rstrip()} – "
        elif tag == "span":
            self.said = f"{self.said.rstrip()} "
        elif tag == "code" and not self.verbatim:
            self.said += "`"
        elif tag == "b":
            self.said += "**"

    def handle_endtag(self, tag: str) -> None:
        if self.silent:
            self.silent -= tag not in _VOID
            return
        said = self.said.strip()
        if tag == "p":
            self._block(said)
        elif re.fullmatch("h[1-6]", tag):
            self._block(f"{'#' * int(tag[1])} {said}")
        elif tag in ("caption", "summary"):
            self._block(f"**{said}**")
        elif tag in ("th", "td"):
            self.rows[-1].append(said)
        elif tag == "table":
            self._block(_table(self.rows))
        elif tag == "dt":
            self.term = said
        elif tag == "dd":
            self.items.append(f"- **{self.term}**: {said}")
        elif tag == "li":
            self.items.append(f"- {said}")
        elif tag in ("ul", "dl"):
            self._block("\n".join(self.items))
        elif tag == "pre":
            self._block(_fenced(self.said.strip("\n")))
            self.verbatim = False
        elif tag == "code" and not self.verbatim:
            self.said += "`"
        elif tag == "b":
            self.said += "**"

    def handle_data(self, data: str) -> None:
        if self.silent:
            return
        self.said += data if self.verbatim else _SPECIAL.sub(r"\\\1", re.sub(r"\s+", " ", data))

    def _block(self, text: str) -> None:
        self.said = ""
        if text:
            self.blocks.append(text)


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
