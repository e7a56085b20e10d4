"""``dse report``: render the report of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dse.cli.console import announce_compilation, out


def report(
    folder: Annotated[Path, typer.Argument(help="folder of a run, e.g. runs/chat")],
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="file to write", show_default="in the folder")
    ] = None,
) -> None:
    """Render the HTML report of a finished run again.

    **Example**

        dse report runs/chat --out chat.html
    """
    from dse.output import REPORT, load, save_report

    result = load(folder)
    announce_compilation()
    path = target or folder / REPORT
    save_report(result, path)
    out.print(str(path), soft_wrap=True)
