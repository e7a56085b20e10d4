"""What MkDocs does beside its own: fills the generated pages, and brings along the files that pages link outside docs/.

A page says what belongs into it by a comment, ``<!-- generated: metrics -->``; on GitHub it names the command instead.
A link from a page to a file of the repository leads, on the site, to a page that shows this file.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import choices
import command_pages
import spec_fields
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[2]
GENERATED: Final[dict[str, Callable[[], str]]] = {
    "commands": command_pages.commands,
    "metrics": choices.metrics,
    "samplers": choices.samplers,
    "accelerators": choices.accelerators,
    "processors": choices.processors,
    "tiers": choices.tiers,
    "links": choices.links,
    "engines": choices.engines,
    "models": choices.models,
    **{page: partial(spec_fields.page_of, page) for page in spec_fields.ROOTS},
}
"""What can be generated, by its name in a page."""

BROUGHT: Final = "project"
"""Folder of the site for files of the repository outside ``docs/``."""

STUDIES: Final = "Shipped studies"
"""Section of the navigation that gets a page for each page beside a shipped study."""

_MARK = re.compile(r"<!-- generated: (\w+) -->")
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
_LANGUAGES: Final = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".sh": "bash", ".toml": "toml"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of shipped studies where the navigation has their section."""
    _list_studies(config.nav or [])
    return config


def _list_studies(entries: list[Any]) -> None:
    for entry in entries:
        for title, below in entry.items() if isinstance(entry, dict) else ():
            if title == STUDIES:
                below += [_brought(path) for path in _study_pages()]
            elif isinstance(below, list):
                _list_studies(below)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside ``docs/`` that a page links, and those that these link."""
    waiting = [
        *(path for file in files.documentation_pages() for path in _linked(Path(file.abs_src_path or ""))),
        *_study_pages(),
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    ]
    known: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in known or not path.is_file() or _inside(path, ROOT / "docs"):
            continue
        known.add(path)
        files.append(File.generated(config, _brought(path), content=_shown(path)))
        if path.suffix == ".md":
            waiting += _linked(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is generated, and turn links of the repository into links of the site."""
    del config
    markdown = _MARK.sub(lambda found: GENERATED[found[1]](), markdown)
    uri = page.file.src_uri
    # What was brought along still has the links of the place that it came from.
    if uri.startswith(f"{BROUGHT}/"):
        home = (ROOT / uri.removeprefix(f"{BROUGHT}/")).parent
    else:
        home = (ROOT / "docs" / uri).parent
    return _outside_of_fences(markdown, lambda text: _LINK.sub(lambda found: _on_site(found, home, uri, files), text))


def _on_site(found: re.Match[str], home: Path, uri: str, files: Files) -> str:
    path = Path(posixpath.normpath((home / found[1]).as_posix()))
    if path.is_dir():
        path /= "README.md"
    target = path.relative_to(ROOT / "docs").as_posix() if _inside(path, ROOT / "docs") else _brought(path)
    if files.get_file_from_path(target) is None:
        return found[0]
    return posixpath.relpath(target, posixpath.dirname(uri) or ".") + (found[2] or "")


def _outside_of_fences(markdown: str, change: Callable[[str], str]) -> str:
    return "".join(part if part.startswith("```") else change(part) for part in _FENCE.split(markdown))


def _linked(page: Path) -> Iterator[Path]:
    """Yield the files of the repository outside ``docs/`` that a page links."""
    for part in _FENCE.split(page.read_text(encoding="utf-8")):
        for target, _ in () if part.startswith("```") else _LINK.findall(part):
            path = Path(posixpath.normpath((page.parent / target).as_posix()))
            if path.is_dir():
                path /= "README.md"
            if _inside(path, ROOT) and not _inside(path, ROOT / "docs"):
                yield path


def _study_pages() -> list[Path]:
    return sorted(ROOT.glob("studies/*.md"))


def _inside(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder)


def _brought(path: Path) -> str:
    """Return the site's name of a file outside ``docs/``."""
    name = path.relative_to(ROOT).as_posix() if _inside(path, ROOT) else path.name
    return f"{BROUGHT}/{name}" if path.suffix == ".md" else f"{BROUGHT}/{name}.md"


def _shown(path: Path) -> str:
    """Return a page that shows a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    name = path.relative_to(ROOT).as_posix()
    return f"# {name}\n\n````{_LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n````\n"
