"""``dse report``: render the report of a run again."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dse.cli.console import announce_compilation, out


class Format(StrEnum):
    """Kinds of files."""

    HTML = "html"
    MARKDOWN = "markdown"


def report(
    folder: Annotated[Path, typer.Argument(help="folder of a run, e.g. runs/chat")],
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="file to write", show_default="in the folder")
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option(
            help="with figures, or sentences and tables alone", show_default="by the file's ending, else html"
        ),
    ] = None,
) -> None:
    """Render the report of a finished run again, as HTML or Markdown.

    **Example**

        dse report runs/chat --out chat.html

        dse report runs/chat --format markdown
    """
    from dse.family import folder as family
    from dse.output import FAMILY, MARKDOWN, REPORT, load, save_markdown, save_report

    kind = format or (Format.MARKDOWN if target and target.suffix in (".md", ".markdown") else Format.HTML)
    path = target or folder / (MARKDOWN if kind is Format.MARKDOWN else REPORT)
    if (folder / FAMILY).exists():
        answer = family.load_answer(folder)
        if kind is Format.MARKDOWN:
            family.save_answer_markdown(answer, path)
        else:
            family.save_answer_report(answer, path, folder)
    else:
        result = load(folder)
        announce_compilation()
        (save_markdown if kind is Format.MARKDOWN else save_report)(result, path)
    out.print(str(path), soft_wrap=True)
