"""Pages that are notebooks: run while the site is built, shown with what came out, and there to be downloaded.

A page is a notebook if its head names a kernel; Jupytext reads it, Jupyter runs it. Cells with the tag ``check`` hold
the page's sentences against what came out. They are run, and a check that fails ends the build; they are not shown.
"""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

import jupytext
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

CHECK: Final = "check"
"""Tag of cells that are run and not shown."""

SECONDS: Final = 300
"""Longest time of a cell."""

_HEAD = re.compile(r"\A---\njupyter:\n.*?^---\n", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:)[^)]*\)")
_TABLE = re.compile(r"<style scoped>.*?</style>\n?", re.DOTALL)

_SHOWN: Final = """\
{%- extends 'markdown/index.md.j2' -%}
{%- block stream %}
```{ .text .output }
{{ output.text.rstrip() }}
```
{% endblock stream -%}
{%- block data_text scoped %}
```{ .text .output }
{{ output.data['text/plain'] }}
```
{% endblock data_text -%}
{%- block data_svg %}
![what the cell above draws]({{ output.metadata.filenames['image/svg+xml'] | path2url }})
{% endblock data_svg -%}
"""


def is_notebook(page: Path) -> bool:
    """Return whether a page is a notebook."""
    return page.suffix == ".md" and _HEAD.match(page.read_text(encoding="utf-8")) is not None


@cache
def executed(source: str) -> nbformat.NotebookNode:
    """Return a notebook with what its cells print and draw; run once for each version of its text.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails, a check included.
    """
    notebook = jupytext.reads(source, fmt="md")
    with tempfile.TemporaryDirectory() as folder:
        # Encrypted where the kernel can: else it warns, and a build has no warnings.
        config = Config(KernelManager={"transport_encryption": "auto"})
        NotebookClient(
            notebook, config=config, timeout=SECONDS, coalesce_streams=True, resources={"metadata": {"path": folder}}
        ).execute()
    notebook.cells = [cell for cell in notebook.cells if CHECK not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        # Bars of progress and advice to install widgets are for who sits before it.
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def shown(notebook: nbformat.NotebookNode, folder: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and the pictures that it names in a folder beside the page."""
    exporter = MarkdownExporter(
        config=Config(ExtractOutputPreprocessor={"output_filename_template": "{cell_index}-{index}{extension}"}),
        raw_template=_SHOWN,
    )
    text, resources = exporter.from_notebook_node(notebook, resources={"output_files_dir": folder})
    # The tables look as all tables of the site.
    text = _TABLE.sub("", text).replace('<table border="1" class="dataframe">', "<table>")
    return text.replace("<div>\n<table>", '<div class="output">\n<table>'), resources["outputs"]


def to_download(notebook: nbformat.NotebookNode) -> str:
    """Return a notebook as a file for Jupyter; links to other pages of the site are plain words there."""
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            cell.source = _LINK.sub(r"\1", cell.source)
    return nbformat.writes(copy)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Run the notebooks, and add their pictures and downloads."""
    for page in list(files.documentation_pages()):
        path = Path(page.abs_src_path or "")
        if page.abs_src_path and is_notebook(path):
            notebook = executed(path.read_text(encoding="utf-8"))
            home = PurePosixPath(page.src_uri)
            _, pictures = shown(notebook, home.stem)
            for name, content in pictures.items():
                files.append(File.generated(config, str(home.parent / name), content=content))
            files.append(File.generated(config, str(home.with_suffix(".ipynb")), content=to_download(notebook)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Show a notebook with what came out."""
    path = Path(page.file.abs_src_path or "")
    if not page.file.abs_src_path or not is_notebook(path):
        return markdown
    text, _pictures = shown(executed(path.read_text(encoding="utf-8")), path.stem)
    title, rest = text.split("\n", 1)
    return f"{title}\n\n[Download this page as a notebook]({path.stem}.ipynb){{ .md-button }}\n{rest}"
